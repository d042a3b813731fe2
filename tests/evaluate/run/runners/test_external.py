"""Somebody else's model stands in a comparison beside ours, on the same samples, scored alike."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.linear_model import LogisticRegression, Ridge
from support import tiny_suite

import st2llm
from st2llm.config.suite import Suite
from st2llm.errors import ConfigError, DataError
from st2llm.predict.external.classical import ClassicalPredictor


def yesterday(samples):
    """The rule of that name, written by somebody who knows nothing of ours; a gap is 60."""
    found = []
    for sample in samples:
        start = sample.first_wanted_step
        day = sample.values[start - 24 : start]
        found.append(np.where(np.isfinite(day), day, 60.0))
    return found


@pytest.fixture(scope="module")
def suite(card, tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "rules.yaml"
    path.write_text(yaml.safe_dump(tiny_suite.rules(card)))
    return path


def pooled(report):
    return {record["predictor"]: record for record in report.records if record["seed"] is None}


@pytest.mark.slow
def test_a_wrapped_model_is_validated_scored_and_listed_like_any_other(suite, tmp_path):
    report = st2llm.compare(
        suite, out=tmp_path / "run", progress=False, predictors=[st2llm.wrap(yesterday, name="theirs")]
    )
    found = pooled(report)
    assert found["theirs"]["family"] == "primitive" and found["theirs"]["n"] == found["last-value"]["n"]
    assert found["theirs"]["metrics"]["mae"]["value"] < found["last-value"]["metrics"]["mae"]["value"]
    facts = json.loads((tmp_path / "run" / "arms" / "theirs-0.json").read_text())
    assert facts["validation"] > 0


@pytest.mark.slow
def test_a_wrapped_model_that_is_not_passed_again_stays_in_the_report_until_it_is_pruned(
    suite, tmp_path, capsys
):
    out = tmp_path / "run"
    theirs = [st2llm.wrap(yesterday, name="theirs")]
    st2llm.compare(suite, out=out, progress=False, predictors=theirs)
    again = pooled(st2llm.compare(suite, out=out, resume=True))
    assert again["theirs"]["n"] == again["last-value"]["n"]
    assert "not in the suite now: theirs." in capsys.readouterr().err
    assert "not in the suite now" in (out / "report.md").read_text()
    pruned = pooled(st2llm.compare(suite, out=out, resume=True, prune=True, progress=False))
    assert "theirs" not in pruned and "last-value" in pruned


@pytest.mark.slow
def test_predictions_of_a_file_score_as_they_did_where_they_were_made(suite, tmp_path):
    first = st2llm.compare(
        suite, out=tmp_path / "one", progress=False, predictors=[st2llm.wrap(yesterday, name="theirs")]
    )
    made = tmp_path / "one" / "predictions" / "theirs-0.parquet"
    content = yaml.safe_load(suite.read_text())
    content["predictors"].append({"name": "filed", "family": "primitive", "file": str(made)})
    again = tmp_path / "filed.yaml"
    again.write_text(yaml.safe_dump(content))
    second = st2llm.compare(again, out=tmp_path / "two", progress=False)
    assert pooled(second)["filed"]["metrics"]["mae"] == pooled(first)["theirs"]["metrics"]["mae"]
    facts = json.loads((tmp_path / "two" / "arms" / "filed-0.json").read_text())
    assert facts["validation"] is None and len(facts["file_sha256"]) == 64


def test_a_file_that_is_not_there_is_refused_before_anything_runs(suite, tmp_path):
    content = yaml.safe_load(suite.read_text())
    content["predictors"].append(
        {"name": "filed", "family": "primitive", "file": str(tmp_path / "none.parquet")}
    )
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(DataError, match=r"none\.parquet"):
        st2llm.compare(path, out=tmp_path / "run", progress=False)
    assert not list((tmp_path / "run").glob("arms/*"))


def test_two_of_one_name_are_refused(suite, tmp_path):
    with pytest.raises(ConfigError, match="two predictors have the name 'last-value'"):
        st2llm.compare(
            suite, out=tmp_path / "r", progress=False, predictors=[st2llm.wrap(yesterday, name="last-value")]
        )


@pytest.mark.parametrize("wrong", [{"family": "text", "template": "graph/forecast"}, {"backbone": "none"}])
def test_what_is_somebody_elses_has_no_backbone_of_ours(card, wrong):
    content = tiny_suite.rules(card)
    content["predictors"].append({"name": "x", "family": "primitive", "file": "p.csv", **wrong})
    with pytest.raises(ValueError, match="was made elsewhere"):
        Suite.model_validate(content)


def test_a_pretrained_model_is_named_and_asked_only_what_it_answers(card):
    content = tiny_suite.rules(card)
    content["predictors"].append({"name": "x", "family": "primitive", "model": "fracast-1"})
    with pytest.raises(ValueError, match=r"there is no model 'fracast-1'\. Did you mean 'fracast-0'"):
        Suite.model_validate(content)
    content["predictors"][-1]["model"] = "fracast-0"
    assert Suite.model_validate(content).predictor("x").external
    content["predictors"][-1]["model"] = "chronos"
    with pytest.raises(
        ValueError, match="'x' has the model 'chronos', which is written chronos:<hub id or folder>"
    ):
        Suite.model_validate(content)
    content["predictors"][-1]["model"] = "chronos:some/folder"
    assert Suite.model_validate(content).predictor("x").external
    with pytest.raises(ValueError, match="the model 'x' does not answer impute of kind graph"):
        Suite.model_validate(
            {**content, "task": {"impute": {"length": 24}}, "predictors": content["predictors"][-1:]}
        )


def _in_memory():
    """The data of the tiny suite as a table: three places, hourly."""
    rng = np.random.default_rng(3)
    times = pd.date_range("2024-01-01", periods=24 * 80, freq="h")
    wave = 60 + 40 * np.sin(2 * np.pi * np.arange(len(times)) / 24)[:, None] * [1.0, 0.7, 1.3]
    return pd.DataFrame(wave + rng.normal(0, 8, wave.shape), index=times, columns=["a", "b", "c"])


class MeanOfPast:
    """A fitted model in the form of statsmodels."""

    def __init__(self, past):
        self.mean = past.mean()

    def forecast(self, steps):
        return np.full(steps, self.mean)


@pytest.mark.slow
def test_a_suite_data_and_models_are_given_as_python_objects(tmp_path):
    content = tiny_suite.rules("none")
    content = {key: value for key, value in content.items() if key not in ("data", "kind")}
    data = st2llm.SensorGraph.from_pandas(
        _in_memory(), card={"split": {"train": 0.5, "validation": 0.2, "test": 0.3}}
    )
    report = st2llm.compare(
        content,
        data=data,
        out=tmp_path / "run",
        progress=False,
        predictors=[yesterday, Ridge(alpha=10.0), ClassicalPredictor("mean-of-past", MeanOfPast)],
    )
    mae = {name: record["metrics"]["mae"]["value"] for name, record in pooled(report).items()}
    assert mae["ridge"] < mae["last-value"] and mae["yesterday"] < mae["last-value"]
    assert (
        mae["ridge"] < mae["mean-of-past"] < mae["last-value"]
    )  # its `fit` is of one series: it is not called
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["config"]["data"] == "in-memory" and run["data"]["source"] == "an object in memory"
    arm = json.loads((tmp_path / "run" / "arms" / "ridge-0.json").read_text())
    assert arm["fitted_on"] and "unknown" not in str(arm["fitted_on"]) and arm["cost"]["train_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"suite": pd.DataFrame()},
            "suite should be the name or path of a suite, a dict of its keys or a Suite",
        ),
        (
            {"suite": "demo", "data": pd.DataFrame()},
            "Make a container of it: st2llm.SensorGraph.from_pandas(table)",
        ),
        ({"suite": "demo", "data": [1, 2]}, "or as `data` to st2llm.compare"),
        ({"suite": "demo", "predictors": yesterday}, "predictors should be a list, but it is a function"),
        ({"suite": "demo", "predictors": [lambda samples: samples]}, "has no name for the report"),
        ({"suite": "demo", "predictors": [LogisticRegression()]}, "of scikit-learn only regressors forecast"),
        ({"suite": {"id": "mine"}}, "the key 'kind' is missing"),
    ],
)
def test_other_objects_are_refused_with_what_to_pass(arguments, message, tmp_path):
    with pytest.raises(ConfigError) as raised:
        st2llm.compare(out=tmp_path / "run", progress=False, **arguments)
    assert message in str(raised.value)
