from pathlib import Path

import pytest

from st2llm import recipes
from st2llm.errors import ConfigError

NAME = "evaluation/suites/one.yaml"


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """A clone around a package, the copy inside the wheel, a folder of one's own: all hold NAME."""
    clone, own, elsewhere = tmp_path / "clone", tmp_path / "own", tmp_path / "elsewhere"
    package = clone / "st2llm"
    for root in (own, clone, package / "_recipes"):
        (root / NAME).parent.mkdir(parents=True)
        (root / NAME).touch()
    elsewhere.mkdir()
    (clone / "pyproject.toml").write_text('[project]\nname = "st2llm"\n')
    monkeypatch.setattr(recipes, "_PACKAGE", package)
    monkeypatch.setenv("ST2LLM_RECIPES", str(own))
    monkeypatch.chdir(elsewhere)
    return {"own": own, "clone": clone, "wheel": package / "_recipes", "elsewhere": elsewhere}


def test_an_existing_path_comes_first(roots):
    explicit = roots["elsewhere"] / NAME
    explicit.parent.mkdir(parents=True)
    explicit.touch()
    assert recipes.locate(NAME).resolve() == explicit
    assert recipes.locate(explicit) == explicit


def test_the_folder_of_the_environment_variable_comes_second(roots):
    assert recipes.locate(NAME) == roots["own"] / NAME


def test_the_root_beside_the_package_comes_third(roots, monkeypatch):
    monkeypatch.delenv("ST2LLM_RECIPES")
    assert recipes.locate(NAME) == roots["clone"] / NAME


@pytest.mark.parametrize("pyproject", [None, '[project]\nname = "other"\n', "[tool.other]\n"])
def test_the_copy_in_the_wheel_comes_last_where_the_root_is_not_ours(roots, monkeypatch, pyproject):
    monkeypatch.delenv("ST2LLM_RECIPES")
    beside = roots["clone"] / "pyproject.toml"
    beside.write_text(pyproject) if pyproject else beside.unlink()
    assert recipes.locate(NAME) == roots["wheel"] / NAME


def test_an_unknown_recipe_offers_the_nearest(roots):
    with pytest.raises(ConfigError, match="There is no evaluation/suites/on.yaml. Did you mean 'one.yaml'"):
        recipes.locate("evaluation/suites/on.yaml")


def test_a_misspelled_suite_of_ones_own_gets_the_name_of_the_file_beside_it(roots, monkeypatch):
    """The message once ended with "Known: none."."""
    monkeypatch.chdir(roots["clone"])
    (roots["clone"] / "bicycles-rules.yaml").touch()
    with pytest.raises(
        ConfigError, match="There is no bicycles-rule.yaml. Did you mean 'bicycles-rules.yaml'"
    ):
        recipes.locate("bicycles-rule.yaml")


def test_a_file_in_a_subfolder_is_found_by_its_name_in_the_folder_of_recipes(roots):
    below = roots["clone"] / "evaluation/suites/native/two.yaml"
    below.parent.mkdir()
    below.touch()
    assert recipes.locate("evaluation/suites/two.yaml") == below
    with pytest.raises(ConfigError, match="Did you mean 'two.yaml'"):
        recipes.locate("evaluation/suites/to.yaml")


def test_a_file_at_the_path_wins_over_one_of_its_name_below(roots):
    below = roots["own"] / "evaluation/suites/native/one.yaml"
    below.parent.mkdir()
    below.touch()
    assert recipes.locate(NAME) == roots["own"] / NAME


def test_a_name_of_several_files_is_refused_with_their_paths(roots):
    for folder in ("native", "rules"):
        below = roots["own"] / f"evaluation/suites/{folder}/two.yaml"
        below.parent.mkdir()
        below.touch()
    with pytest.raises(ConfigError, match="several files: .*native/two.yaml, .*rules/two.yaml"):
        recipes.locate("evaluation/suites/two.yaml")


def test_other_folders_are_not_searched(roots):
    below = roots["own"] / "runs/first/two.yaml"
    below.parent.mkdir(parents=True)
    below.touch()
    with pytest.raises(ConfigError, match="There is no runs/two.yaml"):
        recipes.locate("runs/two.yaml")


def test_a_listing_names_each_recipe_once_from_the_earliest_root(roots):
    (roots["wheel"] / "evaluation/suites/two.yaml").touch()
    found = recipes.listing("evaluation/suites", "*.yaml")
    assert found == [roots["own"] / NAME, roots["wheel"] / "evaluation/suites/two.yaml"]


def test_this_clone_finds_its_own_recipes(monkeypatch):
    monkeypatch.delenv("ST2LLM_RECIPES", raising=False)
    root = Path(__file__).resolve().parents[1]
    assert root in recipes.roots()
    assert recipes.locate("evaluation/compare.py").resolve() == root / "evaluation/compare.py"
