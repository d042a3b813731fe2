"""Lists of suites, and the script that runs a comparison."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support import tiny_suite
from support.command_line import run_cli
from support.tiny_suite import ENVIRONMENT, assert_same_numbers, records

from st2llm.errors import ConfigError
from st2llm.evaluate.report.run_report import Report, load_report
from st2llm.evaluate.run.compare import compare

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[3] / "evaluation/compare.py"


def _list(card, folder):
    for name, metric in (("one", "mae"), ("two", "r2")):
        content = tiny_suite.rules(card, id=name, primary_metric=metric)
        tiny_suite.write_suite(folder / f"{name}.yaml", content)
    path = folder / "both.yaml"
    path.write_text(yaml.safe_dump(["one.yaml", "two.yaml"]))
    return path


def test_a_list_of_suites_runs_each_into_its_own_folder_and_prints_each_verdict(card, tmp_path):
    suites, out = _list(card, tmp_path), tmp_path / "runs"
    done = run_cli("compare", suites, "--out", out)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    for name in ("one", "two"):
        assert {r["suite"] for r in records(out / name)} == {name}
        assert f"{name}: No language model took part" in said
        assert str(out / name / "report.html") in said.replace("\n", "")
    assert "MAE [95 %]" in said
    assert "R2 [95 %]" in said


def test_the_report_of_a_list_joins_its_parts(card, tmp_path):
    suites, out = _list(card, tmp_path), tmp_path / "runs"
    report = compare(suites, out=out, progress=False)
    assert isinstance(report, Report)
    assert [part.path for part in report.parts] == [out / "one", out / "two"]
    *lines, family = report.verdict.splitlines()
    assert lines == [f"{p.path.name}: {p.verdict}" for p in report.parts]
    assert family == "None of the 2 tasks has a gain with an interval."
    assert family in (out / "overview.md").read_text()
    assert report.pages == [out / "one/report.html", out / "two/report.html"]
    assert len(report.records) == 12
    assert set(report.scores["suite"]) == {"one", "two"}
    for page in report.pages:
        page.unlink()
    assert report.save() == out
    assert all(page.is_file() for page in report.pages)


def test_a_list_takes_no_other_data_and_no_file_for_a_folder(card, tmp_path):
    suites = _list(card, tmp_path)
    with pytest.raises(ConfigError, match="a suite with one data set"):
        compare(suites, data=str(card), out=tmp_path / "runs", progress=False)
    with pytest.raises(ConfigError, match="is a file, but a folder"):
        compare(suites, out=suites, progress=False)


def test_a_list_is_refused_before_any_work_where_one_of_its_folders_holds_a_run(card, tmp_path):
    suites = _list(card, tmp_path)
    compare(tmp_path / "two.yaml", out=tmp_path / "runs/two", progress=False)
    with pytest.raises(ConfigError, match="two already holds a run"):
        compare(suites, out=tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs/one").exists()


def test_the_script_is_the_command(rules, finished_rules, tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, rules, "--out", tmp_path / "script"],
        env={**os.environ, **ENVIRONMENT, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "script/report.html") in done.stdout.replace("\n", "")
    assert load_report(finished_rules).verdict in done.stdout
    assert_same_numbers(tmp_path / "script", finished_rules)
