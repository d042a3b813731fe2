"""Everything that is listed can be named in the command that takes it."""

import pytest

from st2llm import recipes
from st2llm.commands import catalog
from st2llm.config.suite import load_suites
from st2llm.config.training import PretrainRecipe, align_recipe_type, finetune_recipe_type
from st2llm.errors import ConfigError
from st2llm.serialize.template.template import load_prompt
from st2llm.train.recipes import load_recipe


@pytest.mark.slow
def test_every_listed_template_is_found_by_its_name():
    items = catalog.list_prompts()
    assert len(items) == len(recipes.listing("prompts", "*/*.md"))
    for item in items:
        assert load_prompt(item.name).head.kind == item.group


@pytest.mark.slow
def test_every_listed_suite_is_found_by_its_name():
    items = catalog.list_suites()
    assert len({item.name for item in items}) == len(items)
    for item in items:
        assert [suite.kind for suite in load_suites(item.name)] == [item.group] or item.group == "several"


def test_every_listed_config_is_taken_by_its_command():
    types = {
        "pretrain": PretrainRecipe,
        "align": align_recipe_type,
        "finetune": finetune_recipe_type,
    }
    for item in catalog.list_configs():
        recipe = load_recipe(item.name, into=types[item.group])
        adapt = getattr(recipe, "adapt", None)
        if adapt is not None:
            assert adapt.frozen == (item.group == "align"), item.name


def test_a_config_that_is_no_mapping_is_refused_by_its_path(tmp_path, monkeypatch):
    path = tmp_path / "alignment/configs/wrong.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("- a\n")
    monkeypatch.setenv("ST2LLM_RECIPES", str(tmp_path))
    with pytest.raises(ConfigError, match="wrong.yaml"):
        catalog.list_configs()
