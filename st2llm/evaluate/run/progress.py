"""Progress of long runs: reported by callbacks, shown on stderr."""

from collections.abc import Callable, Iterator
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


@dataclass(frozen=True)
class ProgressReporter:
    """Callbacks of a long run: `start(label, steps)` begins a job, `update(step)` says how many steps are done."""

    start: Callable[[str, int], None] = lambda label, steps: None
    update: Callable[[int], None] = lambda step: None


NO_PROGRESS = ProgressReporter()
"""Reports nothing."""


@contextmanager
def show_progress(show: bool) -> Iterator[ProgressReporter]:
    """Shows progress on stderr: a bar with the time left in a terminal, else one line per job."""
    console = Console(stderr=True)
    if not show:
        yield ProgressReporter()
        return
    if not console.is_terminal:
        yield ProgressReporter(start=lambda label, steps: console.print(f"{label}: {steps} steps"))
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
