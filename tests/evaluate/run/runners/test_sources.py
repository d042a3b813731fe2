"""A finished arm is kept while the files that its predictor is read from are the same, and run again otherwise."""

import pandas as pd
import pytest
import torch
from support import tiny_suite

from st2llm import recipes
from st2llm.config.predictors import PredictorSettings
from st2llm.config.suite import Suite
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.progress import ProgressReporter
from st2llm.evaluate.run.runners.sources import source_sha256
from st2llm.evaluate.run.study import Study
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.model.checkpoint import save_checkpoint


def study(card, *predictors, notes=None):
    suite = Suite.model_validate(tiny_suite.rules(card, limit=3, predictors=list(predictors)))
    data, task, reporter = (
        load_data(card),
        suite.tasks[0],
        ProgressReporter(note=[].append if notes is None else notes.append),
    )
    return Study(Inputs(suite, TaskData(data, task, split(data, task, stride=24)), reporter))


def run(each, store):
    return [each.run(job, store) for job in each.jobs()]


def test_a_finished_arm_is_run_again_where_its_file_has_changed_and_the_others_are_kept(
    card, tmp_path, caplog
):
    path, store = tmp_path / "filed.parquet", RunStore(tmp_path / "run")
    rule = {"name": "last-value", "family": "baseline"}
    filed = {"name": "filed", "family": "primitive", "file": str(path)}
    run(study(card, rule), RunStore(tmp_path / "made"))
    predictions = RunStore(tmp_path / "made").predictions("last-value-0")
    predictions.to_parquet(path)
    first = run(study(card, rule, filed), store)
    assert run(study(card, rule, filed), store) == first
    predictions.assign(value=predictions["value"] + 1).to_parquet(path)
    notes = []
    second = run(study(card, rule, filed, notes=notes), store)
    assert second[0] == first[0]
    assert second[1]["source_sha256"] != first[1]["source_sha256"]
    (note,) = notes
    assert "has changed: filed-0. The earlier results lie in" in note
    old = pd.read_parquet(tmp_path / "run" / "replaced" / "1" / "predictions" / "filed-0.parquet")
    pd.testing.assert_series_equal(old["value"], predictions["value"])
    pd.testing.assert_series_equal(store.predictions("filed-0")["value"], predictions["value"] + 1)


@pytest.mark.parametrize(
    ("file", "predictor"),
    [
        ("p.csv", {"family": "primitive", "file": "p.csv"}),
        ("p.csv.fitted_on.json", {"family": "primitive", "file": "p.csv"}),
        ("w/config.json", {"family": "primitive", "model": "chronos:w"}),
        ("c/best/head.safetensors", {"family": "primitive", "checkpoint": "c"}),
        ("t.md", {"family": "text", "backbone": "llm-frozen", "template": "t.md"}),
        (
            "c/best/scaler.json",
            {"family": "text", "backbone": "llm-lora", "template": "graph/forecast", "checkpoint": "c"},
        ),
    ],
)
def test_every_kind_of_file_that_a_predictor_is_read_from_is_in_the_hash(
    tmp_path, monkeypatch, file, predictor
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.md").write_text(recipes.locate("prompts/graph/forecast.md").read_text())
    (tmp_path / "w").mkdir()
    for name in ("p.csv", "p.csv.fitted_on.json", "w/config.json"):
        (tmp_path / name).write_text("{}")
    save_checkpoint(
        tmp_path / "c" / "best", {"head.b": torch.ones(2)}, config={}, state={}, scaler={}, card=""
    )
    settings = PredictorSettings.model_validate({"name": "x", **predictor})
    before = source_sha256(settings)
    assert before == source_sha256(settings)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes() + b"\n")
    assert source_sha256(settings) not in (None, before)


def test_a_rule_is_read_from_no_file():
    assert source_sha256(PredictorSettings(name="last-value", family="baseline")) is None
