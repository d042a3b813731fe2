"""The whole audit of one file: what it says of windows, truth, claims and rules, and what it writes."""

import json

import numpy as np
import pytest
from support.audited import TASK, table, town

from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.audit import rules, window_choices
from st2llm.evaluate.audit.audit import _task_of, audit
from st2llm.evaluate.audit.claims import parse_claims
from st2llm.evaluate.audit.problem import WINDOWS_FIRST, pose


@pytest.fixture(autouse=True)
def few_windows(monkeypatch):
    """Rules are fitted and measured on few windows."""
    monkeypatch.setattr(rules, "TRAINING_WINDOWS", 40)
    monkeypatch.setattr(window_choices, "_MOST", 30)


@pytest.fixture(scope="module")
def data():
    return town(zeros=True)


@pytest.fixture(scope="module")
def problem(data):
    return pose(data, TASK)


def _audit(folder, rows, data, claims=()):
    path = folder / "theirs.parquet"
    rows.to_parquet(path)
    return audit(path, data, TASK, claims=claims)


def test_a_claim_is_traced_to_the_choice_that_made_it(tmp_path, data, problem):
    rows = table(problem)
    truth = problem.truth(problem.scored.origins)
    error = np.abs(rows["value"].to_numpy().reshape(truth.shape) - truth)
    masked = float(np.nanmean(error[truth != 0]))
    rows["value"] = rows["value"].mask(truth.ravel() == 0, 30.0)  # bad where the truth is zero
    result = _audit(tmp_path, rows, data, parse_claims([f"MAE={masked:.3f}"], masked + 0.5))
    text = " ".join(result.sentences())
    assert f"The claimed MAE is {masked:.3f}".rstrip("0") in text
    assert "it is reproduced by: zeros masked." in text
    assert "these choices alone are worth as much: " in text
    assert "zeros masked" in text.split("worth as much")[1]


def test_windows_that_the_last_batch_left_out_are_named(tmp_path, data, problem):
    kept = problem.scored.origins[: 86 - 86 % 32]
    result = _audit(tmp_path, table(problem, kept), data)
    assert "the first 64 of 86 windows" in result.findings[0]
    assert "as if the last batch of 32 or 64 was dropped" in result.findings[0]


def test_windows_cut_before_the_split_are_named_and_those_across_are_not_scored(tmp_path, data, problem):
    result = _audit(tmp_path, table(problem, problem.sets[2].origins), data)
    assert result.findings[0] == f"The file has the 93 windows of: {WINDOWS_FIRST}."
    assert "7 windows are not of st2llm's test part" in result.findings[1]
    assert result.windows == 86


def test_zeros_in_the_own_truth_where_readings_are_missing_are_reported(tmp_path, data, problem):
    truth = problem.truth(problem.scored.origins)
    result = _audit(tmp_path, table(problem).assign(truth=np.nan_to_num(truth).ravel()), data)
    assert f"0 at {int(np.isnan(truth).sum()):,} entries whose reading is missing" in " ".join(
        result.findings
    )
    assert "that of the data at 100.0 %" in " ".join(result.findings)


def test_predictions_of_training_alone_are_refused(tmp_path, data, problem):
    with pytest.raises(DataError, match="none with a true value in the test part of town"):
        _audit(tmp_path, table(problem, np.arange(40, 60)), data)


def test_the_page_and_the_record_hold_the_same_numbers(tmp_path, data, problem):
    result = _audit(tmp_path, table(problem), data, parse_claims(["MAE=3.1"], 3.2))
    page = result.write(tmp_path / "out").read_text()
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert record == json.loads(json.dumps(result.to_json()))
    assert page.count("| last batch dropped") == 1
    assert {rule["rule"] for rule in record["rules"]} == {"last-value", "yesterday", "hour-of-week", "ridge"}
    assert all(len(row) == 7 for row in result.rows())


def test_another_kind_of_data_is_refused():
    with pytest.raises(DataError, match="Audits are of forecasts of sensor graphs and grids"):
        pose([], TASK)


def test_a_task_is_read_from_its_name():
    assert (_task_of("forecast-36-12", town()).name) == "forecast-36-12"


@pytest.mark.parametrize(("name", "message"), [("impute-48", "'impute-48' came"), (None, "no default task")])
def test_another_task_and_none_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        _task_of(name, town())
