"""Parts of a comparison share its folder: every job runs once, and the numbers are those of one process."""

import json
import os
import subprocess

import pytest
from support.command_line import ST2LLM, run_cli
from support.tiny_suite import ENVIRONMENT, assert_same_numbers, leftovers

from st2llm.distributed.parts import run_part, share
from st2llm.distributed.placement import Part
from st2llm.distributed.units import Unit, UnitId
from st2llm.errors import ConfigError
from st2llm.evaluate.run.compare import Request, compare
from st2llm.evaluate.run.plan import Overrides
from st2llm.evaluate.run_folder.store import RunStore


def _unit(key, seconds, after=None):
    needed = None if after is None else UnitId(0, "", 0, after)
    return Unit(UnitId(0, "", 0, key), "suite", (key,), needed, seconds, gpu=False)


def test_every_unit_belongs_to_one_part_and_long_ones_are_spread():
    units = [_unit("a", 1), _unit("b", 9), _unit("c", 8, after="b"), _unit("d", 2), _unit("e", 7)]
    shares = [[unit.id.key for unit in share(units, Part(i, 2))] for i in (1, 2)]
    assert shares == [["b", "d", "c"], ["e", "a"]]


@pytest.mark.slow
def test_two_processes_at_once_end_with_the_numbers_of_one(small_suite, small_run, tmp_path):
    out = tmp_path / "run"
    processes = [
        subprocess.Popen(
            [ST2LLM, "compare", small_suite, "--out", out, "--part", f"{i}/2"],
            env={**os.environ, **ENVIRONMENT},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in (1, 2)
    ]
    ended = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    begun = [line for _, stderr in ended for line in stderr.splitlines() if line.startswith("arm ")]
    assert len(begun) == 5, "every arm is begun by one of the processes"
    assert any("Report: " in stdout for stdout, _ in ended)
    assert_same_numbers(out, small_run)
    assert "resumed" not in json.loads((out / "run.json").read_text())
    assert leftovers(out) == [] and not (out / ".jobs").exists()


@pytest.mark.slow
def test_parts_one_after_the_other_merge_and_report_says_before_what_is_missing(
    small_suite, small_run, tmp_path
):
    out = tmp_path / "run"
    first = run_cli("compare", small_suite, "--out", out, "--part", "1/2", **ENVIRONMENT)
    assert first.returncode == 0, first.stderr
    assert "3 of 5 jobs have finished" in first.stdout
    early = run_cli("report", out)
    assert early.returncode == 1 and early.stderr.count("\n") == 1
    assert "2 of 5 arms have not finished" in early.stderr
    last = run_cli("compare", small_suite, "--out", out, "--part", "2/2", **ENVIRONMENT)
    assert last.returncode == 0 and "Report: " in last.stdout
    assert_same_numbers(out, small_run)


@pytest.mark.slow
def test_a_part_that_runs_already_or_with_other_settings_is_refused(small_suite, two_rules, tmp_path):
    out = tmp_path / "run"
    store = RunStore(out)
    with store.lock("part-1-of-2"):
        with pytest.raises(ConfigError, match="Part 1/2 .* is running already"):
            run_part(Request(two_rules, out=out, progress=False), Part(1, 2))
        with pytest.raises(ConfigError, match="is being written by part-1-of-2"):
            compare(two_rules, out=out, progress=False)
        run_part(Request(two_rules, out=out, progress=False), Part(2, 2))
        more = [{"name": "last-value", "family": "baseline"}]
        other = Request(two_rules, Overrides(settings={"predictors": more}), out=out, progress=False)
        with pytest.raises(ConfigError, match="Start every part with the same suite"):
            run_part(other, Part(2, 2))
    with pytest.raises(ConfigError, match="--prune"):
        run_part(Request(two_rules, out=out, prune=True), Part(1, 2))


def test_options_that_exclude_each_other_are_a_wrong_use(tmp_path):
    for options in (["--part", "1/2", "--on", "ray"], ["--workers", "2"], ["--gpus-per-job", "1"]):
        assert run_cli("compare", "demo", *options, cwd=tmp_path).returncode == 2
