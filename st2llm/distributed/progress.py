"""The progress of all workers in one place: each writes a file beside the locks of the run, which the head reads."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from st2llm.evaluate.report.formats import format_duration
from st2llm.evaluate.run.progress import PlannedArm, ProgressReporter

_WRITE_EVERY_S = 1.0
_LINE_EVERY_S = 30.0
"""Without a terminal, a line is printed when a job begins, and so often."""


class ProgressFile:
    """Writes how far the job of a worker process is, and keeps its notes. now: the time in seconds, of any origin."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now, self.reporter = now, ProgressReporter(self._start, self._update, note=self._note)
        self._path: Path | None = None
        self._notes: list[str] = []
        self._stage, self._steps, self._written = "", 0, 0.0

    @contextmanager
    def of(self, folder: Path, key: str) -> Iterator[None]:
        """A context in which a unit runs; `folder` then holds its file."""
        self._path, self._written = folder / f"{key}.progress.json", -_WRITE_EVERY_S
        try:
            yield
        finally:
            self._path.unlink(missing_ok=True)
            self._path = None

    def take_notes(self) -> tuple[str, ...]:
        """The notes since the last call."""
        notes, self._notes = tuple(self._notes), []
        return notes

    def _note(self, text: str) -> None:
        self._notes.append(text)

    def _start(self, label: str, steps: int) -> None:
        self._stage, self._steps = label, steps
        self._write(0)

    def _update(self, step: int) -> None:
        if self.now() - self._written >= _WRITE_EVERY_S:
            self._write(step)

    def _write(self, step: int) -> None:
        """A file that cannot be written is left out: the results, which matter, tell of a full disk themselves."""
        if self._path is None:
            return
        self._written = self.now()
        temporary = self._path.with_suffix(".new")
        with suppress(OSError):
            temporary.write_text(json.dumps({"stage": self._stage, "step": step, "steps": self._steps}))
            temporary.replace(self._path)


def read_stage(folder: Path, key: str) -> str:
    """`llm-lora-1, lr 0.001, step 120 of 200`; '' before a worker has said so."""
    try:
        content = json.loads((folder / f"{key}.progress.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    step = f", step {content['step']:,} of {content['steps']:,}" if content["step"] else ""
    return f"{content['stage']}{step}"


class SharedProgress:
    """What is done and left of a comparison that several workers run.

    Arms are named by the id of their suite and their key; seconds: how long each finished one took.
    """

    def __init__(self, arms: Sequence[PlannedArm]) -> None:
        self.arms = {(arm.suite, arm.key): arm for arm in arms}
        self.seconds = {name: arm.seconds for name, arm in self.arms.items() if arm.seconds is not None}
        self.workers = 1

    def finish(self, suite: str, key: str, seconds: float) -> None:
        """An arm is finished."""
        self.seconds[suite, key] = seconds

    @property
    def share(self) -> float:
        """The share of the expected work that is done."""
        work = {name: arm.work for name, arm in self.arms.items()}
        total = sum(work.values())
        return sum(work.get(name, 0.0) for name in self.seconds) / total if total else 1.0

    def seconds_left(self) -> float | None:
        """The expected time to the end: the work of unfinished arms at the measured speeds, spread over the workers."""
        seconds, work = defaultdict[str, float](float), defaultdict[str, float](float)
        for name, taken in self.seconds.items():
            if name in self.arms:
                for group in ("", self.arms[name].group):
                    seconds[group] += taken
                    work[group] += self.arms[name].work
        left = [arm for name, arm in self.arms.items() if name not in self.seconds]
        if not left:
            return 0.0
        if not work[""]:
            return None
        speeds = {group: seconds[group] / total for group, total in work.items() if total}
        return sum(arm.work * speeds.get(arm.group, speeds[""]) for arm in left) / self.workers

    def line(self, running: Sequence[str]) -> str:
        """`7 of 42 arms done, 2 running (ridge-0; llm-lora-1, step 120 of 200); about 6 min left for all`."""
        left = self.seconds_left()
        time_left = (
            "time left not known yet"
            if left is None
            else f"about {format_duration(float(round(left)))} left for all"
        )
        names = f" ({'; '.join(running)})" if running else ""
        return (
            f"{len(self.seconds)} of {len(self.arms)} arms done, {len(running)} running{names}; {time_left}"
        )


class ProgressView:
    """Shows the line of a run on stderr: as a bar in a terminal, else a line when jobs begin and each half minute."""

    def __init__(self, progress: SharedProgress, console: Console, bar: Progress | None = None) -> None:
        self.progress, self.console, self.bar = progress, console, bar
        self._task = None if bar is None else bar.add_task("", total=1.0)
        self._printed = time.monotonic()

    def note(self, text: str) -> None:
        """Prints a line beside the progress."""
        self.console.print(text, soft_wrap=True, highlight=False)

    def show(self, running: Sequence[str], *, begins: bool = False) -> None:
        """Shows what runs now; begins: whether a job has just begun."""
        line = self.progress.line(running)
        if self.bar is not None and self._task is not None:
            self.bar.update(self._task, description=line, completed=self.progress.share)
        elif begins or time.monotonic() - self._printed >= _LINE_EVERY_S:
            self.note(line)
            self._printed = time.monotonic()


@contextmanager
def show_shared_progress(show: bool, progress: SharedProgress) -> Iterator[ProgressView]:
    """A view of the progress; one that prints nothing where `show` is off."""
    console = Console(stderr=True, quiet=not show)
    if not show or not console.is_terminal:
        yield ProgressView(progress, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        yield ProgressView(progress, console, bar)
