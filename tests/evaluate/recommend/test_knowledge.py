import json
from pathlib import Path

import pytest
from support import fake_run

from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.recommend.errors import errors_page
from st2llm.evaluate.recommend.knowledge import (
    build_knowledge,
    data_source,
    is_current,
    read_knowledge,
)
from st2llm.evaluate.recommend.measures import Measures

DAILY = Measures(0.9, 0.6, 24.0, None, 0.5, 0.0, 5.0, 0.0)
SMALL = {"days": 3, "leave_out": ("predictions", "curves", "answers", "controls", "scores")}
REPORTS = Path(__file__).resolve().parents[3] / "evaluation/reports"


@pytest.fixture
def runs(tmp_path):
    fake_run.write(tmp_path / "runs/a", fake_run.Plan(**SMALL))
    return tmp_path / "runs"


def test_a_knowledge_base_holds_the_best_arm_of_each_class_and_reads_back(runs, tmp_path):
    out = tmp_path / "known.parquet"
    asked = []
    rows = build_knowledge([runs], out, load=lambda name: asked.append(name) or DAILY)
    held = read_knowledge(out)
    assert asked == ["auckland-pedestrians"]
    assert len(held) == rows
    by_class = {row.arm_class: row for row in held}
    assert by_class["ridge"].predictor == "ridge-deviation"
    assert by_class["rule"].log_ratio == 0.0
    assert by_class["native"].measures == DAILY
    assert is_current([runs], out)


def test_measures_are_kept_when_it_is_built_again_and_a_new_run_makes_it_stale(runs, tmp_path):
    out = tmp_path / "known.parquet"
    build_knowledge([runs], out, load=lambda name: DAILY)
    fake_run.write(runs / "b", fake_run.Plan(**{**SMALL, "tasks": ("forecast-24-6",)}))
    assert not is_current([runs], out)
    build_knowledge([runs], out)  # no data of that name is needed
    assert {row.task for row in read_knowledge(out)} == {"forecast-168-24", "forecast-24-6"}


def test_an_arm_with_the_error_of_a_rule_and_a_replaced_run_are_no_evidence(runs, tmp_path):
    lines = [json.loads(line) for line in (runs / "a/results.jsonl").read_text().splitlines()]
    rule = next(line["metrics"] for line in lines if line["predictor"] == "yesterday")
    for line in lines:
        if line["predictor"] == "matched":
            line["metrics"] = rule
    (runs / "a/results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "known.parquet"
    build_knowledge([runs], out, load=lambda name: DAILY)
    assert "matched" not in {row.arm_class for row in read_knowledge(out)}
    fake_run.write(runs / "b", fake_run.Plan(**SMALL, extra={"started": "2027-01-01T00:00:00+00:00"}))
    build_knowledge([runs], out)
    assert {row.run for row in read_knowledge(out)} == {"b"}


def test_a_missing_damaged_or_other_knowledge_base_is_refused(runs, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="There is no knowledge base .*--build"):
        read_knowledge(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(DataError, match="bad.parquet is missing or damaged"):
        read_knowledge(tmp_path / "bad.parquet")
    build_knowledge([runs], tmp_path / "known.parquet", load=lambda name: DAILY)
    monkeypatch.setattr("st2llm.evaluate.recommend.knowledge._FORMAT", 2)
    with pytest.raises(DataError, match=r"version 1\.1, but this st2llm reads 2\.1.*--build"):
        read_knowledge(tmp_path / "known.parquet")


def test_runs_with_a_rule_alone_teach_nothing(tmp_path):
    arms = tuple(arm for arm in fake_run.ARMS if arm.name == "ridge")
    fake_run.write(tmp_path / "a", fake_run.Plan(**SMALL, arms=arms, llm=False))
    with pytest.raises(ConfigError, match="nothing to learn from"):
        build_knowledge([tmp_path], tmp_path / "known.parquet", load=lambda name: DAILY)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("ett-h1-standardised", "ett-h1"),
        ("eth-ucy#zara1", "eth-ucy"),
        ("ersst-ocean", "ersst"),
        ("town", "town"),
    ],
)
def test_parts_and_scalings_of_a_data_set_have_one_source(name, source):
    assert data_source(name) == source


@pytest.mark.slow
def test_the_knowledge_base_that_ships_is_the_one_of_the_committed_reports():
    out = REPORTS.parent / "knowledge.parquet"
    assert is_current([REPORTS], out), "run `make figures`"
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    assert page == errors_page(read_knowledge(out)), "run `make figures`"
    assert {row.kind for row in read_knowledge(out)} == {"graph", "grid", "video", "trajectory", "event"}
