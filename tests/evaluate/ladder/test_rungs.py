"""Which suite each language model runs, and which arms no model takes part in."""

from pathlib import Path

import pytest
from support import tiny_suite

from st2llm.errors import ConfigError
from st2llm.evaluate.ladder.rungs import plan_rungs, shared_keys
from st2llm.evaluate.run.plan import Overrides

SERVER = "openai:http://127.0.0.1:8000/v1#org/large"


def suite(**changes):
    return tiny_suite.everything("town.yaml", "smollm2-135m", **changes)


def test_each_model_has_a_suite_and_a_folder(tmp_path):
    rungs = plan_rungs(suite(), ["smollm2-135m", "org/other", "models/other"], tmp_path, Overrides(limit=3))
    assert [rung.suite.llm.name for rung in rungs] == ["smollm2-135m", "org/other", "models/other"]
    assert rungs[0].folder == tmp_path / "smollm2-135m"
    assert len({rung.folder for rung in rungs}) == 3
    assert {rung.suite.limit for rung in rungs} == {3}
    assert {rung.suite.llm.dtype for rung in rungs} == {"fp32"}


def test_a_server_runs_the_text_arms_beside_the_rules(tmp_path):
    rung = plan_rungs(suite(), ["smollm2-135m", SERVER], tmp_path, Overrides())[1]
    assert [p.name for p in rung.suite.predictors] == [
        "last-value",
        "hour-of-week",
        "ridge-deviation",
        "text",
    ]
    assert (rung.suite.llm.name, rung.suite.llm.dtype, rung.suite.controls) == (SERVER, "auto", None)


def test_rules_alone_are_shared():
    (planned,) = plan_rungs(suite(), ["smollm2-135m"], Path("out"), Overrides())
    names = {key.rsplit("-", 1)[0] for key in shared_keys(planned.suite)}
    assert names == {"last-value", "hour-of-week", "ridge-deviation"}


def test_readers_of_texts_are_run_with_each_model_and_none_behind_a_server(tmp_path):
    """Caught: states of the first model that every rung of a ladder reported as its own."""
    readers = [
        {"name": "words", "family": "primitive", "text_features": "tfidf"},
        {"name": "states", "family": "soft", "backbone": "llm-frozen", "text_features": "states"},
    ]
    content = suite(predictors=[*suite()["predictors"], *readers])
    first, server = plan_rungs(content, ["smollm2-135m", SERVER], tmp_path, Overrides())
    shared = {key.rsplit("-", 1)[0] for key in shared_keys(first.suite)}
    assert "words" in shared and "states" not in shared
    assert {"words", "states"} & {p.name for p in server.suite.predictors} == {"words"}
    assert plan_rungs(
        tiny_suite.rules(
            "town.yaml",
            llm={"name": "a/b"},
            predictors=[*tiny_suite.rules("town.yaml")["predictors"], readers[1]],
        ),
        ["a/b"],
        tmp_path,
        Overrides(),
    )


@pytest.mark.parametrize(
    ("content", "llms", "message"),
    [
        (suite(), ["a/b", "a/b"], "names 'a/b' twice"),
        (tiny_suite.rules("town.yaml"), ["smollm2-135m"], "no arm with a language model"),
        (
            suite(predictors=suite()["predictors"][:-1]),
            ["smollm2-135m", SERVER],
            r"has no text arm, and openai:.*answers prompts alone",
        ),
    ],
)
def test_a_ladder_that_cannot_be_is_refused(tmp_path, content, llms, message):
    with pytest.raises(ConfigError, match=message):
        plan_rungs(content, llms, tmp_path, Overrides())
