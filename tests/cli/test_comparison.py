"""The options of `st2llm compare` reach the comparison."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from support.command_line import run_cli

from st2llm.distributed import cluster, parts
from st2llm.distributed.placement import Placement
from st2llm.evaluate.run import compare, plan
from st2llm.evaluate.run_folder.store import RunStore


class _StopError(Exception):
    """Ends the command once its options are known."""


def test_every_option_reaches_the_comparison(monkeypatch):
    seen = {}

    def record(request):
        overrides = request.overrides
        kept = {key: value for key, value in vars(request).items() if key not in ("overrides", "passed")}
        seen.update(
            kept, data=overrides.data, llm=overrides.llm, limit=overrides.limit, settings=overrides.settings
        )
        raise _StopError

    monkeypatch.setattr(plan, "make", lambda *_, **__: SimpleNamespace(stores=(), root=Path("c")))
    monkeypatch.setattr(compare, "run_here", record)
    words = "compare town --data a --llm b --out c --limit 3 --resume --prune --save-arms --quiet"
    run_cli(*words.split(), "--seeds", "0,1", "--set", "budget.steps=7")
    assert seen == {
        "suite": "town",
        "data": "a",
        "llm": "b",
        "out": Path("c"),
        "limit": 3,
        "resume": True,
        "prune": True,
        "save_arms": True,
        "progress": False,
        "settings": {"seeds": [0, 1], "budget.steps": 7},
    }


def test_the_part_reaches_the_comparison(monkeypatch):
    seen = []

    def record(request, part):
        seen.append((request.suite, request.resume, str(part)))
        raise _StopError

    monkeypatch.setattr(plan, "make", lambda *_, resume, **__: SimpleNamespace(stores=(), root=Path("c")))
    monkeypatch.setattr(parts, "run_part", record)
    run_cli("compare", "town", "--part", "2/3")
    assert seen == [("town", False, "2/3")]


def test_the_engine_and_what_each_job_gets_reach_the_comparison(monkeypatch):
    seen = []

    def record(request, placement):
        seen.append((request.suite, placement))
        raise _StopError

    monkeypatch.setattr(plan, "make", lambda *_, **__: SimpleNamespace(stores=(), root=Path("c")))
    monkeypatch.setattr(cluster, "run_on", record)
    options = ["--workers", "3", "--gpus-per-job", "0.5", "--threads", "2"]
    run_cli("compare", "town", "--on", "slurm://gpu?time=60&account=mine", *options)
    settings = (("time", "60"), ("account", "mine"))
    assert seen == [("town", Placement("slurm", "gpu", settings, workers=3, gpus=0.5, threads=2))]


@pytest.mark.parametrize(
    "words",
    [
        ["--seeds", "a,b"],
        ["--prune"],
        ["--part", "1/2", "--on", "ray"],
        ["--workers", "2"],
        ["--gpus-per-job", "1"],
        ["--threads", "2"],
    ],
)
def test_options_that_cannot_be_used_are_a_usage_error(words):
    assert run_cli("compare", "demo", *words).returncode == 2


@pytest.mark.parametrize("existed", [False, True])
def test_a_run_is_called_resumed_only_where_it_had_begun_before(monkeypatch, tmp_path, existed):
    """`--resume` in a new folder once ended with "since it was resumed"."""

    def finish(*_, **__):
        (tmp_path / "run.json").touch()
        return SimpleNamespace(table=lambda: "", verdict="Nothing to tell.", pages=[])

    monkeypatch.setattr(
        plan, "make", lambda *_, **__: SimpleNamespace(stores=(RunStore(tmp_path),), root=tmp_path)
    )
    monkeypatch.setattr(compare, "run_here", finish)
    if existed:
        (tmp_path / "run.json").touch()
    done = run_cli("compare", "town", "--out", tmp_path, "--resume")
    assert ("since it was resumed" in done.stdout) == existed, done.stderr
