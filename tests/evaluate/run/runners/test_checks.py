"""What is wrong in a suite is found before anything trains."""

import json
import shutil

import pytest
import yaml
from support import tiny_suite

from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.run.compare import compare


def _suite(folder, card, llama, **changes):
    content = tiny_suite.everything(card, llama)
    for key, value in changes.items():
        content[key] = value
    return tiny_suite.write_suite(folder / "suite.yaml", content)


def _with_text(card, llama, **changes):
    predictors = tiny_suite.everything(card, llama)["predictors"]
    return [*predictors[:-1], predictors[-1] | changes]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("graph/forcast", "Did you mean 'graph/forecast'"),
        ("graph/impute", "is for impute of kind graph, but the suite asks for forecast"),
        ("grid/forecast", "is for forecast of kind grid"),
    ],
)
def test_a_wrong_template_is_found_before_any_arm_trains(tmp_path, card, llama, template, says):
    path = _suite(tmp_path, card, llama, predictors=_with_text(card, llama, template=template))
    with pytest.raises(ConfigError, match=says):
        compare(path, out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_wrong_template_in_the_last_suite_of_a_list_is_found_before_the_first_runs(tmp_path, card, llama):
    tiny_suite.write_suite(tmp_path / "first.yaml", tiny_suite.rules(card))
    predictors = _with_text(card, llama, template="graph/forcast")
    _suite(tmp_path, card, llama, predictors=predictors)
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump(["first.yaml", "suite.yaml"]))
    with pytest.raises(ConfigError, match="Did you mean 'graph/forecast'"):
        compare(path, out=tmp_path / "out", progress=False)
    assert not list((tmp_path / "out").rglob("run.json"))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"instruction": "graph/forecast.soff"}, ConfigError, "There is no template 'graph/forecast.soff'"),
        ({"llm": {"name": "no-such-model"}}, ConfigError, "'no-such-model' is not a language model"),
        (
            {"task": {"forecast": {"history": 24 * 30, "horizon": 24}}},
            DataError,
            "the validation part has .* too few for one window",
        ),
    ],
)
def test_a_part_that_only_some_arms_need_is_checked_first(tmp_path, card, llama, changes, error, says):
    path = _suite(tmp_path, card, llama, **changes)
    with pytest.raises(error, match=says):
        compare(path, out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_prompt_beyond_the_context_is_found_first(tmp_path, card, llama):
    small = shutil.copytree(llama, tmp_path / "small")
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 128}))
    path = _suite(tmp_path, card, small)
    with pytest.raises(ConfigError, match=r"first prompt of 'text' has .* tokens, but .* reads 128 with"):
        compare(path, out=tmp_path / "out", progress=False)
