"""Somebody else's model stands in a comparison beside ours, on the same samples, scored alike."""

import json

import numpy as np
import pytest
import yaml
from support import tiny_suite

import st2llm
from st2llm.config.suite import Suite
from st2llm.errors import ConfigError, DataError


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
