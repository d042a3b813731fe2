"""Publishing a run: what is copied, what is refused, and that a copy can be scored again."""

import shutil

import pandas as pd
import pytest
from support.command_line import run_cli

from st2llm.errors import ConfigError
from st2llm.evaluate.publication.publish import publish
from st2llm.evaluate.run_folder.store import read_json, read_lines, write_json
from st2llm.evaluate.scoring.score_run import score_run

LEFT_BEHIND = ("predictions", "validation", "answers", "controls", "checkpoints")
CLEAN = {
    "commit": "a" * 40,
    "dirty": False,
    "changed": [],
    "started": "2026-05-01T08:00:00+00:00",
    "resumed": [],
}


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run, as if it had been made from a clean tree with data and model named relatively."""
    folder = shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    base = str(finished.parents[1])
    for path in [*folder.glob("*.json*"), *folder.glob("report.*"), *folder.glob("arms/*.json")]:
        path.write_text(path.read_text().replace(base, "data"))
    change(folder, **CLEAN)
    (tmp_path / "evaluation/reports").mkdir(parents=True)
    return folder


def change(folder, **keys):
    write_json(folder / "run.json", {**read_json(folder / "run.json"), **keys})


def test_a_clean_run_is_copied_and_its_records_follow_from_the_copied_scores(run, tmp_path):
    done = run_cli("report", run, "--publish", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    copy = tmp_path / "evaluation/reports/2026-05-01-everything"
    assert "Commit it: git add evaluation/reports/2026-05-01-everything" in done.stdout
    assert "Note: everything: 2 of at least 3 seeds" in done.stdout
    assert not any((copy / name).exists() for name in LEFT_BEHIND)
    assert (copy / "scores.parquet").stat().st_size <= (run / "scores.parquet").stat().st_size
    before = read_lines(copy / "results.jsonl")
    assert run_cli("report", copy, "--rescore").returncode == 0
    assert read_lines(copy / "results.jsonl") == before == read_lines(run / "results.jsonl")


def test_records_without_predictions_follow_the_scores(run):
    scores = pd.read_parquet(run / "scores.parquet")
    scores.loc[scores["metric"] == "abs_error", "sum"] *= 2
    scores.to_parquet(run / "scores.parquet", index=False)
    before = {(r["predictor"], r["seed"]): r["metrics"]["mae"] for r in read_lines(run / "results.jsonl")}
    for record in score_run(run)[0]:
        assert record.metrics["mae"].value == pytest.approx(
            2 * before[record.predictor, record.seed]["value"]
        )


def test_without_scores_and_predictions_a_run_cannot_be_scored(run):
    (run / "scores.parquet").unlink()
    with pytest.raises(ConfigError, match=r"neither predictions/ nor scores\.parquet"):
        score_run(run)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"dirty": True, "changed": ["st2llm/metrics.py"]},
            r"commit aaaaaaa with uncommitted .*st2llm/metrics\.py",
        ),
        (
            {"resumed": [{**CLEAN, "dirty": True, "started": "2026-05-02"}]},
            "on 2026-05-02 .*files outside the package",
        ),
        ({"commit": "unknown"}, "no known commit"),
        (
            {"config": {"data": "/home/someone/town.yaml"}},
            "mentions /home/someone/town.yaml, a path of this machine",
        ),
    ],
    ids=["dirty", "dirty at resume", "unknown commit", "machine path"],
)
def test_a_run_that_others_could_not_repeat_is_refused(run, tmp_path, keys, message):
    change(run, **keys)
    with pytest.raises(ConfigError, match=message):
        publish(run, tmp_path / "evaluation/reports")
    assert list((tmp_path / "evaluation/reports").iterdir()) == []


def test_an_unfinished_run_is_refused(run, tmp_path):
    card = read_json(run / "run.json")
    write_json(run / "run.json", {key: value for key, value in card.items() if key != "finished"})
    with pytest.raises(ConfigError, match="not a finished run: its run.json has no `finished`"):
        publish(run, tmp_path / "evaluation/reports")


def test_an_existing_report_is_kept_and_a_folder_that_is_missing_is_named(run, tmp_path):
    kept = tmp_path / "evaluation/reports/mine"
    kept.mkdir()
    with pytest.raises(ConfigError, match="mine exists already"):
        publish(run, kept.parent, name="mine")
    with pytest.raises(ConfigError, match=r"no folder .*elsewhere"):
        publish(run, tmp_path / "elsewhere")


def test_the_runs_of_a_list_of_suites_are_published_together_or_not_at_all(run, tmp_path):
    runs = tmp_path / "five"
    for name in ("first", "second"):
        shutil.copytree(run, runs / name)
    change(runs / "second", dirty=True)
    with pytest.raises(ConfigError, match="second was run"):
        publish(runs, tmp_path / "evaluation/reports")
    change(runs / "second", dirty=False)
    folder = publish(runs, tmp_path / "evaluation/reports").folder
    assert folder.name == "2026-05-01-five"
    assert {path.parent.name for path in folder.glob("*/report.md")} == {"first", "second"}
