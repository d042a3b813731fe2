"""The process that is connected to Ray: what it answers, and when the head of a cluster counts as gone."""

from multiprocessing import Pipe

import pytest

pytest.importorskip("ray", reason="needs the extra `ray`")

from st2llm.distributed.engine import LostWorkerError
from st2llm.distributed.engines import ray_driver
from st2llm.distributed.engines.ray_driver import RayDriver, _Head, _last_line, serve
from st2llm.distributed.placement import parse_placement
from st2llm.errors import EngineError

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]  # Ray takes a second to import


def _refuse(address):
    raise ConnectionRefusedError(address)


def test_a_head_is_gone_after_eight_seconds_without_an_answer_and_at_once_where_a_worker_is_lost(monkeypatch):
    monkeypatch.setattr(ray_driver, "_check_answers", _refuse)
    clock = [0.0]
    head = _Head("head:1", lambda: clock[0])
    for clock[0] in (0.5, 2.0, 7.9):
        head.check()
    clock[0] = 9.5
    with pytest.raises(EngineError, match="does not answer any more .*continue with --resume"):
        head.check()
    assert head.gone
    with pytest.raises(EngineError, match="does not answer any more"):
        _Head("head:1", lambda: 0.0).check(now=True)


@pytest.mark.parametrize(
    ("node", "gone"),
    [("node ID: 4a. This can happen if its raylet crashed", True), ("node ID: 5b.", False)],
)
def test_a_task_that_was_lost_with_the_node_of_the_driver_is_the_end_of_the_run(monkeypatch, node, gone):
    """Caught: "The job is run again" before the message that Ray is gone."""
    driver = RayDriver.__new__(RayDriver)
    driver.node, driver._tasks = "4a", ["task"]
    driver.head = _Head("head:1", lambda: 0.0)
    monkeypatch.setattr(ray_driver, "_check_answers", lambda address: None)

    def lost(task):
        raise ray_driver.exceptions.WorkerCrashedError(node)

    monkeypatch.setattr(ray_driver.exceptions.WorkerCrashedError, "__str__", lambda self: self.args[0])
    monkeypatch.setattr(ray_driver.ray, "get", lost)
    with pytest.raises(EngineError if gone else LostWorkerError, match="is gone: its head" if gone else "5b"):
        driver.result(0)
    assert driver.head.gone == gone


class _FakeDriver:
    """Loses the worker of each task; notes that it was stopped."""

    def __init__(self, placement):
        self.workers, self.stopped = placement.workers, []
        _FakeDriver.latest = self

    def result(self, number):
        raise LostWorkerError(f"task {number}")

    share = submit = done = result

    def stop(self):
        self.stopped.append(True)


def test_errors_are_answers_and_a_closed_pipe_stops_the_tasks(monkeypatch):
    monkeypatch.setattr(ray_driver, "RayDriver", _FakeDriver)
    here, there = Pipe()
    here.send(parse_placement("ray", workers=3, threads=1))
    here.send(("result", 7))
    answers = []
    monkeypatch.setattr(
        there, "send", lambda answer: answers.append(answer) or (len(answers) == 2 and here.close())
    )
    serve(there)
    assert answers[0] == 3 and isinstance(answers[1], LostWorkerError) and str(answers[1]) == "task 7"
    assert _FakeDriver.latest.stopped == [True]


def test_the_message_of_a_failed_task_is_its_error_without_colours():
    text = "\x1b[36mray::ridge-0()\x1b[39m (pid=1)\n  File a\nModuleNotFoundError: No module named 'st2llm'\n"
    assert _last_line(RuntimeError(text)) == "ModuleNotFoundError: No module named 'st2llm'"
