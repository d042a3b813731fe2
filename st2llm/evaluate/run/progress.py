"""Progress of long runs: reported by callbacks, shown on stderr."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from st2llm.evaluate.report.formats import format_duration

_LINE_EVERY_S = 30.0
"""Without a terminal, a long arm prints a line so often."""
_MIN_SHARE = 0.05
"""From this share of an arm's steps on, its time left follows from its own speed."""


@dataclass(frozen=True)
class ProgressReporter:
    """Callbacks of a long run: `start(label, steps)` begins a stage, `update(step)` says how many steps are done.

    In a comparison, `begin(suite, key)` comes before the stages of an arm, and `finish(suite, key)` after them.
    `note(text)` says what a person should know beside them.
    """

    start: Callable[[str, int], None] = lambda label, steps: None
    update: Callable[[int], None] = lambda step: None
    begin: Callable[[str, str], None] = lambda suite, key: None
    finish: Callable[[str, str], None] = lambda suite, key: None
    note: Callable[[str], None] = lambda text: None


NO_PROGRESS = ProgressReporter()
"""Reports nothing."""


@dataclass(frozen=True)
class PlannedArm:
    """One arm of a comparison and its seed.

    suite, key: id of its suite and name of its files. label: as people read it. group: arms that take the same time for
    each unit of work. work: expected work, about its seconds on two cores. seconds: how long it took, where an earlier
    start of the run finished it.
    """

    suite: str
    key: str
    label: str
    group: str
    work: float
    seconds: float | None = None


class RunProgress:
    """What is done and left of a comparison. now: the time in seconds, of any origin."""

    def __init__(self, arms: Sequence[PlannedArm], now: Callable[[], float] = time.monotonic) -> None:
        self.arms, self.now = {(arm.suite, arm.key): arm for arm in arms}, now
        self.seconds = {name: arm.seconds for name, arm in self.arms.items() if arm.seconds is not None}
        self._current: tuple[str, str] | None = None
        self._began = 0.0
        self._stage, self._steps, self._step = "", 0, 0

    def begin(self, suite: str, key: str) -> None:
        """Begins an arm, also one that the plan lacks."""
        self._current = (suite, key)
        self.arms.setdefault(self._current, PlannedArm(suite, key, key, "", 1.0))
        self.seconds.pop(self._current, None)
        self._began = self.now()
        self._stage, self._steps, self._step = "", 0, 0

    def start(self, label: str, steps: int) -> None:
        """Begins a stage of the arm. label: it may begin with the key of the arm, which the line names already."""
        self._stage = label.removeprefix(self._current[1] if self._current else "").strip(", ")
        self._steps, self._step = steps, 0

    def update(self, step: int) -> None:
        """`step` steps of the stage are done."""
        self._step = step

    def finish(self, suite: str, key: str) -> None:
        """The arm is finished."""
        self.seconds[suite, key] = self.now() - self._began
        self._current = None

    @property
    def share(self) -> float:
        """The share of the expected time that has passed; 1 at the end."""
        spent, left = sum(self.seconds.values()) + self._spent, self.seconds_left()
        return 0.0 if left is None else spent / (spent + left) if spent + left else 1.0

    def seconds_left(self) -> float | None:
        """The expected time to the end of the run, at least 0; None before anything has been measured.

        The work of unfinished arms, each at the measured speed of its group, or at that of the whole run so far.
        """
        speeds = self._seconds_per_work()
        waiting = [
            arm for name, arm in self.arms.items() if name not in self.seconds and name != self._current
        ]
        if not waiting and self._current is None:
            return 0.0
        if not speeds:
            return None
        left = sum(arm.work * speeds.get(arm.group, speeds[""]) for arm in waiting)
        return left + self._left_of_current(speeds)

    def line(self) -> str:
        """`arm 5 of 42: llm-lora, seed 1, step 120 of 200; about 6 min left for all`."""
        left = self.seconds_left()
        remaining = (
            "time left not known yet"
            if left is None
            else f"about {format_duration(float(round(left)))} left for all"
        )
        arm = self.arms.get(self._current) if self._current else None
        if arm is None:
            return f"{len(self.seconds)} of {len(self.arms)} arms done; {remaining}"
        stage = f", {self._stage}" if self._stage else ""
        step = f", step {self._step:,} of {self._steps:,}" if self._step else ""
        return f"arm {len(self.seconds) + 1} of {len(self.arms)}: {arm.label}{stage}{step}; {remaining}"

    @property
    def _spent(self) -> float:
        return 0.0 if self._current is None else self.now() - self._began

    @property
    def _stage_share(self) -> float:
        return self._step / self._steps if self._steps else 0.0

    def _left_of_current(self, speeds: dict[str, float]) -> float:
        arm = self.arms.get(self._current) if self._current else None
        if arm is None:
            return 0.0
        expected = arm.work * speeds.get(arm.group, speeds[""]) - self._spent
        share = self._stage_share
        at_this_speed = self._spent * (1 - share) / share if share >= _MIN_SHARE else 0.0
        return max(0.0, expected, at_this_speed)

    def _seconds_per_work(self) -> dict[str, float]:
        """The measured speed of each group, and of all arms under ''."""
        seconds, work = defaultdict[str, float](float), defaultdict[str, float](float)
        for name, taken in self.seconds.items():
            if (arm := self.arms.get(name)) is not None:
                for group in (arm.group, ""):
                    seconds[group] += taken
                    work[group] += arm.work
        arm = self.arms.get(self._current) if self._current else None
        if not work and arm is not None and self._stage_share >= _MIN_SHARE:
            seconds[""], work[""] = self._spent, arm.work * self._stage_share
        return {group: seconds[group] / total for group, total in work.items() if total > 0}


@contextmanager
def show_run_progress(show: bool, arms: Sequence[PlannedArm]) -> Iterator[ProgressReporter]:
    """Shows the progress of a comparison on stderr: a bar in a terminal, else a line per arm and half minute."""
    if not show:
        yield NO_PROGRESS
        return
    console, run = Console(stderr=True), RunProgress(arms)

    def print_line(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False)

    if not console.is_terminal:
        yield _report(run, _print_lines(run, print_line), print_line)
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        shown = bar.add_task(run.line(), total=1.0)

        def show_line(begins: bool) -> None:
            bar.update(shown, description=run.line(), completed=run.share)

        yield _report(run, show_line, print_line)


def _print_lines(run: RunProgress, print_line: Callable[[str], None]) -> Callable[[bool], None]:
    """Prints the line of a run when an arm begins, and at most every _LINE_EVERY_S seconds after it."""
    printed = [run.now()]

    def show(begins: bool) -> None:
        if begins or run.now() - printed[0] >= _LINE_EVERY_S:
            print_line(run.line())
            printed[0] = run.now()

    return show


def _report(run: RunProgress, show: Callable[[bool], None], note: Callable[[str], None]) -> ProgressReporter:
    """Callbacks that keep `run` up to date. show: called after each, with whether an arm begins."""

    def begin(suite: str, key: str) -> None:
        run.begin(suite, key)
        show(True)

    def start(label: str, steps: int) -> None:
        run.start(label, steps)
        show(False)

    def update(step: int) -> None:
        run.update(step)
        show(False)

    return ProgressReporter(start, update, begin, run.finish, note)


class TrainingLines:
    """Prints how far a training is, as lines: one when a stage takes its first step, then at most one per half minute.

    A stage that an earlier start of the run finished takes no step, and prints nothing.
    """

    def __init__(self, print_line: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        self.print_line, self.now = print_line, now
        self._label, self._steps = "", 0
        self._first: tuple[int, float] | None = None
        self._printed = 0.0

    def start(self, label: str, steps: int) -> None:
        """Begins a stage of so many steps."""
        self._label, self._steps, self._first = label, steps, None

    def update(self, step: int) -> None:
        """`step` steps of the stage are done, those of an earlier start included."""
        now = self.now()
        if self._first is None:
            self._first, self._printed = (step, now), now
            self.print_line(f"{self._label}: step {step:,} of {self._steps:,}")
        elif now - self._printed >= _LINE_EVERY_S:
            first, began = self._first
            left = (now - began) / max(1, step - first) * (self._steps - step)
            duration = format_duration(float(round(left)))
            self.print_line(f"{self._label}: step {step:,} of {self._steps:,}; about {duration} left")
            self._printed = now


@contextmanager
def show_progress(show: bool) -> Iterator[ProgressReporter]:
    """Shows the progress of a training on stderr: a bar with the time left in a terminal, else lines."""
    console = Console(stderr=True)
    if not show:
        yield ProgressReporter()
        return
    if not console.is_terminal:
        lines = TrainingLines(lambda line: console.print(line, soft_wrap=True, highlight=False))
        yield ProgressReporter(lines.start, lines.update)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        jobs: list[TaskID] = []

        def start(label: str, steps: int) -> None:
            jobs.append(bar.add_task(label, total=steps))

        yield ProgressReporter(start, lambda step: bar.update(jobs[-1], completed=step))
