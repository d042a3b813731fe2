from dataclasses import replace

from support import fake_run
from support.command_line import run_cli

from st2llm.evaluate.recommend.errors import errors_page
from st2llm.evaluate.recommend.knowledge import Evidence
from st2llm.evaluate.recommend.measures import Measures

ROW = Evidence(
    "graph", "forecast", "f", "a", "a", "native", "none", "mean", -0.1, 1, "run",
    Measures(0.5, 0.5, 24.0, 0.5, 0.5, 0.0, 5.0, 0.0),
)  # fmt: skip


def test_the_page_has_a_row_for_each_kind_and_task_and_says_what_is_not_known():
    rows = [replace(ROW, source=name, log_ratio=0.0) for name in "ab"]
    page = errors_page([*rows, replace(ROW, kind="grid")])
    assert "On 2 data sets that are left out one by one, the expected gain is wrong by " in page
    assert "| graph | forecast | 2 | " in page
    assert "| grid | forecast | 1 | – | – | – | – | – |" in page
    assert "No kind and task has two data sets" in errors_page([ROW])


def test_the_command_builds_a_base_with_its_page_and_refuses_other_files(tmp_path):
    plan = fake_run.Plan(days=3, leave_out=("predictions", "curves", "answers", "controls", "scores"))
    folder = fake_run.write(tmp_path / "runs/a", plan)
    lines = (folder / "results.jsonl").read_text().replace("auckland-pedestrians", "no-such-data")
    (folder / "results.jsonl").write_text(lines)
    words = ("recommend", "--build", tmp_path / "runs", "--out")
    done = run_cli(*words, tmp_path / "base.csv")
    assert done.returncode == 1
    assert "A knowledge base is a Parquet file, but --out is" in done.stderr
    done = run_cli(*words, tmp_path / "base.parquet")
    assert done.returncode == 1
    assert "no-such-data" in done.stderr
    assert not (tmp_path / "base.parquet").exists()
