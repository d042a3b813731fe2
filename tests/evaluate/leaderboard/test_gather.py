import shutil
from pathlib import Path

import pytest
from support import fake_run

from st2llm.errors import ConfigError
from st2llm.evaluate.leaderboard.gather import gather, newer_runs

SMALL = fake_run.Plan(
    days=3, arms=fake_run.FEW_ARMS, leave_out=("predictions", "curves", "answers", "controls")
)
REPORTS = Path(__file__).resolve().parents[3] / "evaluation/reports"


def write(folder, **extra):
    return fake_run.write(folder, fake_run.Plan(**{**vars(SMALL), "extra": extra}))


def reasons(folder):
    return {item.folder.name: item.reason for item in gather([folder]).left_out}


def test_runs_are_found_below_a_folder_with_pooled_records_alone(tmp_path):
    write(tmp_path / "list/a")
    write(tmp_path / "b", started="2026-05-02T08:00:00+00:00")
    # a copy of the same records counts once, so the second run needs records of its own
    lines = (tmp_path / "b/results.jsonl").read_text().replace('"last-value"', '"yesterday"')
    (tmp_path / "b/results.jsonl").write_text(lines)
    gathered = gather([tmp_path])
    assert [run.folder.name for run in gathered.runs] == ["b", "a"]
    assert {record.seed for run in gathered.runs for record in run.records} == {None}
    assert gathered.runs[0].windows["forecast-168-24", "llm-lora"] == 3
    assert newer_runs(gathered.runs) == {tmp_path / "list/a": tmp_path / "b"}


def test_records_that_cannot_be_compared_are_left_out_with_the_reason(tmp_path):
    write(tmp_path / "good")
    for name in ("questions", "unfinished", "damaged", "old", "copy"):
        shutil.copytree(tmp_path / "good", tmp_path / name)
    (tmp_path / "questions/run.json").write_text('{"title": "questions"}')
    (tmp_path / "unfinished/results.jsonl").unlink()
    (tmp_path / "damaged/results.jsonl").write_text('{"suite": "quickstart", "da\n')
    (tmp_path / "old/results.jsonl").write_text('{"predictor": "ridge", "mae": 3.0}\n')
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/results.jsonl").write_text('{"truth": 1}\n')
    shutil.copytree(tmp_path / "experiment", tmp_path / "curve")
    (tmp_path / "curve/curve.json").write_text("{}")
    found = reasons(tmp_path)
    assert set(found) == {
        "questions",
        "unfinished",
        "damaged",
        "old",
        "good",
        "experiment",
        "curve",
    }  # `copy` came first
    assert "names no primary metric" in found["questions"]
    assert "--resume" in found["unfinished"]
    assert "missing or damaged" in found["damaged"]
    assert "has no 'family'" in found["old"]
    assert "the same records as" in found["good"]
    assert "no run.json" in found["experiment"]
    assert "It is a curve" in found["curve"]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["rums"], r"There is no folder .*rums.*Give folders that `st2llm compare --out` wrote"),
        (["empty"], "holds no run: neither it nor a folder below it"),
        (["runs", "runs/a"], r"runs/a is given twice, the first time as .*runs/a"),
        (["other"], r"None of the 1 folders .* holds records that can be compared. .*no run.json"),
    ],
    ids=["missing", "empty", "twice", "nothing to compare"],
)
def test_folders_without_runs_and_runs_named_twice_are_refused_in_one_message(tmp_path, folders, message):
    write(tmp_path / "runs/a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/results.jsonl").write_text('{"truth": 1}\n')
    with pytest.raises(ConfigError, match=message):
        gather([tmp_path / folder for folder in folders])


def test_a_committed_report_of_an_earlier_version_is_read_without_the_windows_that_it_does_not_tell():
    (run,) = gather([REPORTS / "2026-11-22-graph-forecast"]).runs
    assert run.primary in run.records[0].metrics
    assert run.windows == {}
