"""A worker says in one message what stopped its job, and where the traceback of a fault of ours lies."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from support.faulty_model import FaultyModel, request
from support.tiny_suite import leftovers

from st2llm.distributed import worker
from st2llm.distributed.units import UnitId
from st2llm.distributed.worker import WorkerContext, work
from st2llm.evaluate.run.compare import open_run, prepare

pytestmark = pytest.mark.slow


@pytest.fixture
def context(two_rules, tmp_path, monkeypatch):
    """The context of a run that is open; its model raises."""
    monkeypatch.setattr(worker, "_known", [])
    asked = request(two_rules, tmp_path / "run", FaultyModel(tmp_path / "met", "raise"))
    (suite,), (store,) = (planned := asked.make_plan()).suites, planned.stores
    open_run(prepare(suite, asked.passed), store)
    return WorkerContext(
        "token", (suite,), (store.root,), Path.cwd(), asked.passed, save_arms=False, threads=1
    )


def test_a_job_that_raises_names_the_error_and_the_file_of_its_traceback(context):
    result = work(context, UnitId(0, "", 0, "faulty-model-0"))
    assert result.error.startswith("ValueError: there is no forecast today (traceback in ")
    path = Path(result.error.partition("traceback in ")[2].rstrip(")"))
    assert "raise ValueError" in path.read_text()
    assert work(context, UnitId(0, "", 0, "faulty-model-0")).error is None


def test_a_full_disk_in_a_worker_is_one_message_and_the_job_can_run_again(context, monkeypatch):
    put, root = Path.replace, context.roots[0]

    def no_room(self, target):
        if "predictions" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(self, target)

    id = UnitId(0, "", 0, "last-value-0")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", no_room)
        result = work(context, id)
    assert "No space left on device" in result.error and "\n" not in result.error
    assert leftovers(root) == []
    assert work(context, id).error is None
    assert (root / "arms/last-value-0.json").exists()


def test_a_worker_that_sees_another_disk_says_so(context, tmp_path):
    elsewhere = replace(context, token="b", roots=(tmp_path / "elsewhere",))
    assert "Give an --out that all workers share" in work(elsewhere, UnitId(0, "", 0, "last-value-0")).error
    astray = replace(context, folder=tmp_path / "nowhere")
    assert "a folder that all workers share" in work(astray, UnitId(0, "", 0, "last-value-0")).error


def test_a_unit_that_a_worker_does_not_know_names_the_version(context):
    assert "another version of st2llm" in work(context, UnitId(0, "", 0, "no-such-0")).error
