"""Records are read from results.jsonl and written again without a change."""

import json
from pathlib import Path

import pytest

from st2llm.errors import DataError
from st2llm.evaluate.run_folder.record import Gain, Record

REPORTS = Path(__file__).resolve().parents[3] / "evaluation/reports"
LINES = [
    line
    for path in sorted(REPORTS.rglob("results.jsonl"))
    for line in path.read_text(encoding="utf-8").splitlines()
    if '"suite"' in line and '"ledger"' in line
]


def kept(new, old):
    """Whether every key of `old`, at every depth, has the same value in `new`."""
    if not isinstance(old, dict) or new is None:
        return new == old
    return all(key in new and kept(new[key], value) for key, value in old.items())


def test_each_committed_record_is_written_as_it_was_read():
    """New keys may be added; none is lost or changed."""
    assert len(LINES) > 100
    old = [json.loads(line) for line in LINES]
    assert [line for line in old if not kept(Record.from_json(line).to_json(), line)] == []


def test_keys_that_earlier_versions_lack_take_their_defaults():
    record = Record.from_json(
        {"predictor": "ridge", "task": "t", "family": "baseline", "n": 3, "metrics": {}}
    )
    assert (record.unread, record.seed, record.converged, record.gain_best) == (0, None, None, None)


def test_a_record_without_metrics_is_refused_by_the_name_of_its_file():
    with pytest.raises(DataError, match="x/results.jsonl has no 'metrics'"):
        Record.from_json(
            {"predictor": "ridge", "task": "t", "family": "baseline", "n": 3}, source="x/results.jsonl"
        )


@pytest.mark.parametrize("content", [None, {}, {"vs": "ridge", "value": None}])
def test_a_gain_without_a_value_is_none(content):
    assert Gain.from_json(content) is None


def test_only_metrics_with_a_value_are_measured():
    metrics = {name: {"value": v, "low": None, "high": None} for name, v in (("mae", 1.0), ("r2", None))}
    record = Record.from_json({"predictor": "a", "task": "t", "family": "text", "n": 1, "metrics": metrics})
    assert set(record.metrics) == {"mae", "r2"} and set(record.measured) == {"mae"}
