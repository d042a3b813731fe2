"""`st2llm audit` on the command line."""

import json

import pytest
from support.audited import table
from support.command_line import run_cli

from st2llm import load_data, tasks
from st2llm.evaluate.audit.problem import pose


@pytest.mark.slow
def test_an_audit_prints_json_and_writes_its_report(card, tmp_path):
    problem = pose(load_data(card), tasks.forecast(48, 24), stride=24)
    table(problem).to_csv(tmp_path / "theirs.csv", index=False)
    done = run_cli(
        *("audit", tmp_path / "theirs.csv", "--data", card, "--task", "forecast-48-24", "--stride", "24"),
        *("--claims", "MAE=3.2", "--rival", "3.3", "--out", tmp_path / "out", "--json"),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["windows"] == len(problem.scored.origins)
    assert record["claims"][0]["margin"] > 0
    assert (tmp_path / "out" / "audit.md").is_file()


def test_an_empty_folder_is_an_error_with_what_to_do(card, tmp_path):
    done = run_cli("audit", tmp_path, "--data", card, "--task", "forecast-24-12")
    assert done.returncode == 1
    assert "Give a csv, parquet or npz file with the columns" in done.stderr


def test_a_file_without_data_is_a_usage_error_and_a_folder_needs_a_run(tmp_path):
    (tmp_path / "theirs.csv").write_text("origin,place,step,value\n")
    done = run_cli("audit", tmp_path / "theirs.csv")
    assert done.returncode == 2
    assert "--data NAME" in done.stderr
    done = run_cli("audit", tmp_path)
    assert done.returncode == 1
    assert "holds no run.json" in done.stderr
