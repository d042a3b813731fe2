"""Publishing a run: what is copied, what is refused, and that a copy can be scored again."""

import shutil

import pandas as pd
import pytest
from support import fake_run, tiny_suite
from support.command_line import run_cli

from st2llm.errors import ConfigError
from st2llm.evaluate.publication.publish import publish
from st2llm.evaluate.run_folder.reading import read_json, read_lines
from st2llm.evaluate.run_folder.store import write_json, write_lines
from st2llm.evaluate.scoring.score_run import score_run

LEFT_BEHIND = ("predictions", "validation", "answers", "controls", "checkpoints")
CLEAN = {
    "commit": "a" * 40,
    "dirty": False,
    "changed": [],
    "started": "2026-05-01T08:00:00+00:00",
    "resumed": [],
}


PLAN = fake_run.Plan(
    arms=fake_run.FEW_ARMS,
    seeds=(0, 1),
    demo=False,
    leave_out=("predictions", "answers"),
    extra={**CLEAN, "finished": "2026-05-01T09:00:00+00:00"},
)


@pytest.fixture
def run(tmp_path):
    """A finished run from a clean tree, without pages worth reading."""
    folder = fake_run.write(tmp_path / "run", PLAN)
    for name in ("report.md", "report.html"):
        (folder / name).write_text("A page.")
    write_json(folder / "arms/last-value-0.json", {"key": "last-value-0"})
    (tmp_path / "evaluation/reports").mkdir(parents=True)
    return folder


@pytest.fixture
def real_run(finished, tmp_path):
    """A copy of a real run, as if it had been made from a clean tree with data and model named relatively."""
    folder = shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    base = str(finished.parents[1])
    for path in [*folder.glob("*.json*"), *folder.glob("report.*"), *folder.glob("arms/*.json")]:
        path.write_text(path.read_text().replace(base, "data"))
    change(folder, **CLEAN)
    (tmp_path / "evaluation/reports").mkdir(parents=True)
    return folder


def change(folder, **keys):
    write_json(folder / "run.json", {**read_json(folder / "run.json"), **keys})


def test_a_clean_run_is_copied_and_the_command_says_what_to_commit(run, tmp_path):
    done = run_cli("report", run, "--publish", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    copy = tmp_path / "evaluation/reports/2026-05-01-quickstart"
    assert "Commit it: git add evaluation/reports/2026-05-01-quickstart" in done.stdout
    assert {path.name for path in copy.iterdir()} == {
        "run.json", "results.jsonl", "curves.jsonl", "controls.json", "report.md", "report.html", "arms",
        "scores.parquet",
    }  # fmt: skip
    pd.testing.assert_frame_equal(
        pd.read_parquet(copy / "scores.parquet"), pd.read_parquet(run / "scores.parquet")
    )


def test_limitations_are_noted_and_not_refused(run, tmp_path):
    change(run, resumed=[{**CLEAN, "commit": "b" * 40}])
    rows = [{**row, "lr": 0.001} for row in read_lines(run / "results.jsonl")]
    write_lines(run / "results.jsonl", rows)
    (run / "controls.json").unlink()
    notes = "\n".join(publish(run, tmp_path / "evaluation/reports").notes)
    assert "2 of at least 3 seeds" in notes
    assert "no planted controls" in notes
    assert "started at commit aaaaaaa, resumed at bbbbbbb" in notes


@pytest.mark.slow
def test_the_records_of_a_copy_follow_from_its_scores(real_run, tmp_path):
    copy = publish(real_run, tmp_path / "evaluation/reports").folder
    before = read_lines(copy / "results.jsonl")
    assert run_cli("report", copy, "--rescore").returncode == 0
    assert read_lines(copy / "results.jsonl") == before == read_lines(real_run / "results.jsonl")
    assert (copy / "report.html").read_bytes() == (real_run / "report.html").read_bytes()

    scores = pd.read_parquet(copy / "scores.parquet")
    scores.loc[scores["metric"] == "abs_error", "sum"] *= 2
    scores.to_parquet(copy / "scores.parquet", index=False)
    twice = {(row["predictor"], row["seed"]): 2 * row["metrics"]["mae"]["value"] for row in before}
    for record in score_run(copy)[0]:
        assert record.metrics["mae"].value == pytest.approx(twice[record.predictor, record.seed])


@pytest.mark.parametrize("name", ["scores.parquet", "arms/last-value-0.json"])
def test_a_report_without_scores_or_arms_says_why_it_cannot_be_scored(run, name):
    change(run, config=tiny_suite.rules("town"))
    (run / name).unlink()
    with pytest.raises(
        ConfigError, match=f"neither predictions/ nor {name.split('/')[0]}, as reports of earlier"
    ):
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
    (runs / "ladder.md").write_text("Made in /home/someone/runs.")
    with pytest.raises(ConfigError, match="a path of this machine"):
        publish(runs, tmp_path / "evaluation/reports")
    (runs / "ladder.md").write_text("Over both.")
    folder = publish(runs, tmp_path / "evaluation/reports").folder
    assert folder.name == "2026-05-01-five"
    assert {path.parent.name for path in folder.glob("*/report.md")} == {"first", "second"}
    assert (folder / "ladder.md").read_text() == "Over both."
