"""What a person sees while something long runs."""

from collections.abc import Iterator
from contextlib import contextmanager

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

from st2llm.evaluate.run.job import Watch


@contextmanager
def watching(show: bool) -> Iterator[Watch]:
    """Progress on stderr: in a terminal a bar for the job at hand with its time left, else a line a job."""
    console = Console(stderr=True)
    if not show:
        yield Watch()
        return
    if not console.is_terminal:
        yield Watch(begin=lambda label, steps: console.print(f"{label}: {steps} steps"))
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

        def begin(label: str, steps: int) -> None:
            jobs.append(bar.add_task(label, total=steps))

        yield Watch(begin, lambda step: bar.update(jobs[-1], completed=step))
