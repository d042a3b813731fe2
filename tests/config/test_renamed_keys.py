"""Earlier names of settings are accepted, each with one line, and no committed YAML uses them."""

import json
import logging
from pathlib import Path

import pytest
import yaml

from st2llm import config, recipes
from st2llm.config import base
from st2llm.config.model import Adaptation, EncoderSettings, Projection
from st2llm.config.objectives import DiffusionSettings
from st2llm.config.predictors import (
    ExampleSettings,
    FaultSettings,
    PredictorOverrides,
    PredictorSettings,
    SuiteBudget,
    SuiteEncoderSettings,
)
from st2llm.config.suite import Suite
from st2llm.config.training import (
    InstructionRecipe,
    InstructionSettings,
    PretrainRecipe,
    SoftTokenRecipe,
    TrainingBudget,
    VideoQARecipe,
    WarmupSettings,
    align_recipe_type,
    finetune_recipe_type,
)
from st2llm.errors import ConfigError
from st2llm.train.checkpointing import RunFolder
from st2llm.train.recipes import load_recipe

ENCODER = {
    "without": "drop_embeddings",
    "also": "extra_features",
    "join": "fusion",
    "centre": "center_windows",
    "level": "center_on",
    "region": "region_size",
}
RENAMED = {
    EncoderSettings: ENCODER,
    SuiteEncoderSettings: ENCODER,
    Adaptation: {"targets": "target_modules", "checkpointing": "gradient_checkpointing"},
    Projection: {
        "by": "prototype_source",
        "words": "prototype_words",
        "prompt": "virtual_tokens",
        "mask": "attention_mask",
    },
    TrainingBudget: {
        "average": "ema_decay",
        "warmup": "warmup_ratio",
        "clip": "max_grad_norm",
        "accumulate": "gradient_accumulation_steps",
    },
    WarmupSettings: {"average": "ema_decay"},
    SuiteBudget: {"average": "ema_decay"},
    DiffusionSettings: {"says": "prediction_type"},
    PretrainRecipe: {"start": "init_from"},
    SoftTokenRecipe: {"start": "init_from", "hold": "freeze_encoder"},
    VideoQARecipe: {"start": "init_from", "words": "prompt_budget"},
    InstructionRecipe: {"length": "max_length", "pack": "packing"},
    InstructionSettings: {"budget": "prompt_budget"},
    ExampleSettings: {"by": "select"},
    PredictorOverrides: {"budget": "prompt_budget", "lora": "train_adapters"},
    PredictorSettings: {"given": "custom"},
    FaultSettings: {"share": "threshold_quantile", "training": "training_windows"},
    Suite: {"lora": "adapt"},
}
ROOT = Path(recipes.locate("alignment/README.md")).parents[1]
RECIPES = sorted([*ROOT.glob("alignment/configs/*.yaml"), *ROOT.glob("alignment/systems/*.yaml")])
SUITES = sorted(ROOT.glob("evaluation/suites/**/*.yaml"))


@pytest.fixture
def lines(monkeypatch, caplog):
    """The lines about earlier names, with nothing reported so far."""
    monkeypatch.setattr(base, "_reported", set())
    caplog.set_level(logging.WARNING, logger="st2llm")
    return lambda: caplog.messages


@pytest.mark.parametrize(
    ("settings", "old", "new"),
    [(settings, *names) for settings, keys in RENAMED.items() for names in keys.items()],
    ids=lambda value: value.__name__ if isinstance(value, type) else value,
)
def test_an_earlier_name_of_a_key_is_read_as_the_present_one_and_reported(settings, old, new, lines):
    assert config.present_names({old: 1}, into=settings, where="file.yaml") == {new: 1}
    assert new in settings.model_fields and old not in settings.model_fields
    (line,) = lines()
    assert "file.yaml" in line and f"'{old}'" in line and f"'{new}'" in line


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_committed_recipe_has_no_earlier_name(path, lines):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for into in (PretrainRecipe, align_recipe_type(content), finetune_recipe_type(content)):
        config.present_names(content, into=into, where=str(path))
    assert not lines()


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_committed_suite_has_no_earlier_name(path, lines):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        config.present_names(content, into=Suite, where=str(path))
    assert not lines()


RECIPE = """
id: one
data: los-loop
task: {forecast: {history: 12, horizon: 12}}
encoder: {without: [node], centre: true}
objectives: {diffusion: {says: velocity}}
start: runs/first
budget: {steps: 3, average: 0.9}
"""


def test_a_recipe_with_earlier_names_equals_one_with_the_present_names(tmp_path, lines):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(path, {"encoder.join": "scale", "encoder.without": ["notes"]}, into=PretrainRecipe)
    assert recipe == PretrainRecipe.model_validate(
        {
            "id": "one",
            "data": "los-loop",
            "task": {"forecast": {"history": 12, "horizon": 12}},
            "encoder": {"drop_embeddings": ["notes"], "center_windows": True, "fusion": "scale"},
            "objectives": {"diffusion": {"prediction_type": "velocity"}},
            "init_from": "runs/first",
            "budget": {"steps": 3, "ema_decay": 0.9},
        }
    )
    assert [line.split(":")[0] for line in lines()] == [str(path)] * 5 + ["--set"] * 2


def test_an_override_by_either_name_replaces_the_value_of_the_file(tmp_path, lines):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    for key in ("start", "init_from"):
        assert load_recipe(path, {key: "runs/other"}, into=PretrainRecipe).init_from == "runs/other"


def test_the_config_of_an_earlier_suite_run_equals_that_of_the_same_suite_now(lines):
    shared = {
        "id": "one", "version": 1, "kind": "graph", "data": "los-loop", "llm": {"name": "tiny"},
        "task": {"forecast": {"history": 12, "horizon": 12}},
    }  # fmt: skip
    rule = {"name": "last-value", "family": "baseline"}
    text = {"name": "text", "family": "text", "backbone": "llm-frozen", "template": "graph/forecast"}
    before = shared | {
        "encoder": {"without": ["node"], "warmup": {"steps": 3, "average": 0.9}},
        "lora": {"targets": ["q_proj"]},
        "up": {"head": "mlp", "prompt": 4},
        "predictors": [rule, text | {"set": {"budget": 500, "examples": {"by": "shape"}}}],
        "budget": {"steps": 3, "average": 0.9},
    }
    now = shared | {
        "encoder": {"drop_embeddings": ["node"], "warmup": {"steps": 3, "ema_decay": 0.9}},
        "adapt": {"target_modules": ["q_proj"]},
        "up": {"head": "mlp", "virtual_tokens": 4},
        "predictors": [rule, text | {"set": {"prompt_budget": 500, "examples": {"select": "shape"}}}],
        "budget": {"steps": 3, "ema_decay": 0.9},
    }
    assert config.upgrade(before, into=Suite) == Suite.model_validate(now).model_dump(mode="json")
    assert not lines()


def test_a_training_run_of_earlier_names_resumes(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(path, into=PretrainRecipe)
    earlier = yaml.safe_load(RECIPE)
    (tmp_path / "run.json").write_text(json.dumps(earlier), encoding="utf-8")
    RunFolder(tmp_path, recipe, seed=0).open(resume=True)
    earlier["encoder"]["without"] = []
    (tmp_path / "run.json").write_text(json.dumps(earlier), encoding="utf-8")
    with pytest.raises(ConfigError, match="a run of another recipe: encoder differ"):
        RunFolder(tmp_path, recipe, seed=0).open(resume=True)
