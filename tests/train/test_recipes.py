"""Every config that is shipped is read by the command it is for, and says what it starts from."""

from pathlib import Path

import pytest
import yaml

from st2llm.config.training import (
    InstructionRecipe,
    PretrainRecipe,
    SoftTokenRecipe,
    VideoQARecipe,
    align_recipe_type,
    finetune_recipe_type,
)
from st2llm.train.recipes import load_recipe

ROOT = Path(__file__).resolve().parents[2] / "alignment"
CARDS = {path.stem for path in (ROOT.parent / "st2llm" / "data" / "cards").glob("*.yaml")}
FILES = sorted([*ROOT.glob("configs/*.yaml"), *ROOT.glob("systems/*.yaml")])


def recipe_of(path: Path):
    content = yaml.safe_load(path.read_text())
    if "llm" not in content and "clips" not in content:
        return load_recipe(path, into=PretrainRecipe)
    frozen = (
        content.get("adapt", {}).get("method", "frozen" if "adapt" not in content else "lora") == "frozen"
    )
    return load_recipe(
        path, into=align_recipe_type if frozen and "instructions" not in content else finetune_recipe_type
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_config_is_read_and_named_after_its_file(path):
    recipe = recipe_of(path)
    assert recipe.id == path.stem
    names = {"data": recipe.data} if isinstance(recipe, PretrainRecipe | SoftTokenRecipe) else {}
    assert all(name.split("#")[0] in CARDS for name in names.values())
    if (start := getattr(recipe, "init_from", None)) is not None:
        assert (ROOT / "systems" / f"{Path(start).name}.yaml").exists()


@pytest.mark.parametrize("kind", ["graph", "grid", "video", "trajectory", "event"])
def test_each_kind_has_a_config_of_its_own_for_alignment_and_fine_tuning(kind):
    assert isinstance(recipe_of(ROOT / "configs" / f"align-{kind}.yaml"), SoftTokenRecipe)
    tuned = recipe_of(ROOT / "configs" / f"finetune-{kind}.yaml")
    assert isinstance(tuned, SoftTokenRecipe) and tuned.adapt.method == "lora"


@pytest.mark.parametrize("kind", ["graph", "grid", "trajectory", "event"])
def test_each_kind_that_is_told_in_words_has_a_set_of_questions(kind):
    assert isinstance(recipe_of(ROOT / "configs" / f"questions-{kind}.yaml"), InstructionRecipe)
    assert isinstance(recipe_of(ROOT / "systems" / "videochat-text.yaml"), VideoQARecipe)
