"""Units begin in their order, wait for those that they need, and are run again when their worker is lost."""

from pathlib import Path

import pytest

from st2llm.distributed.engine import Engine, LostWorkerError, SubmittedJob
from st2llm.distributed.schedule import MOST_TRIES, Schedule
from st2llm.distributed.units import Unit, UnitId
from st2llm.distributed.worker import JobResult, WorkerContext
from st2llm.errors import EngineError
from st2llm.evaluate.run.compare import NOTHING_PASSED

CONTEXT = WorkerContext("t", (), (), Path(), NOTHING_PASSED, save_arms=False, threads=1)


def unit(key, after=None):
    needed = None if after is None else UnitId(0, "", 0, after)
    return Unit(UnitId(0, "", 0, key), "suite", (key,), needed, 1.0, gpu=False)


class FakeJob:
    def __init__(self, outcome):
        self.outcome, self.polls = outcome, 0

    def done(self):
        self.polls += 1
        return self.polls > 1

    def result(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class FakeEngine:
    """Ends each job at the second poll; outcomes: of a key, one after the other."""

    def __init__(self, workers=None, **outcomes):
        self.workers, self.outcomes, self.begun = workers, outcomes, []

    def submit(self, context, unit):
        self.begun.append(unit.id.key)
        left = self.outcomes.get(unit.id.key, [])
        return FakeJob(left.pop(0) if left else JobResult("node"))

    def stop(self):
        pass


class Events(list):
    """What a schedule tells."""

    def begun(self, unit, running):
        self.append(("begun", unit.id.key, len(running)))

    def finished(self, unit, result):
        self.append(("finished", unit.id.key))

    def lost(self, unit, reason):
        self.append(("lost", unit.id.key, reason))

    def waiting(self, running):
        pass


def run(units, engine):
    events = Events()
    Schedule(units, engine, CONTEXT, events).run(sleep=lambda seconds: None)
    return events


def test_the_fakes_are_what_the_protocols_ask_for():
    assert isinstance(FakeEngine(), Engine) and isinstance(FakeJob(None), SubmittedJob)


def test_no_more_units_run_at_once_than_there_are_workers():
    events = run([unit("a"), unit("b"), unit("c")], FakeEngine(workers=2))
    assert max(event[2] for event in events if event[0] == "begun") == 2
    assert [event[1] for event in events if event[0] == "finished"] == ["a", "b", "c"]


def test_a_unit_begins_after_the_one_that_it_needs_and_does_not_wait_for_a_finished_one():
    events = run([unit("b", after="a"), unit("c", after="gone"), unit("a")], FakeEngine())
    names = [event[:2] for event in events]
    assert names.index(("finished", "a")) < names.index(("begun", "b"))
    assert names[0] == ("begun", "c")


def test_a_unit_whose_worker_is_lost_is_run_again_but_not_for_ever():
    engine = FakeEngine(a=[LostWorkerError("gone"), JobResult("node")])
    events = run([unit("a")], engine)
    assert events == [("begun", "a", 1), ("lost", "a", "gone"), ("begun", "a", 1), ("finished", "a")]
    engine = FakeEngine(a=[LostWorkerError("gone")] * 9)
    with pytest.raises(EngineError, match=f"lost {MOST_TRIES} times"):
        run([unit("a")], engine)
    assert engine.begun == ["a"] * MOST_TRIES


def test_after_a_failure_no_unit_begins_and_those_that_run_finish():
    engine = FakeEngine(workers=2, a=[JobResult("node7", "No space left on device.")])
    with pytest.raises(EngineError, match=r"a failed on node7: No space left on device\."):
        run([unit("a"), unit("b"), unit("c")], engine)
    assert engine.begun == ["a", "b"]
