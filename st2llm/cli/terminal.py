"""What a command prints, in a terminal or a pipe: tables, JSON, notes; and how much of it (`--quiet`, `-v`)."""

import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Verbosity = Literal["quiet", "normal", "verbose"]

_PIPE_WIDTH = 100_000
_LEVELS: Mapping[Verbosity, int] = {
    "quiet": logging.ERROR,
    "normal": logging.WARNING,
    "verbose": logging.INFO,
}
_NO_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")
"""Environment variables that turn off the progress bars of huggingface_hub, datasets and tqdm."""

_verbosity: ContextVar[Verbosity] = ContextVar("verbosity", default="normal")


def is_quiet() -> bool:
    """Whether the running command was given `--quiet`."""
    return _verbosity.get() == "quiet"


def print_note(text: str) -> None:
    """Prints a line on stderr, beside the output of the command; nothing with `--quiet`."""
    if not is_quiet():
        typer.echo(text, err=True)


@contextmanager
def shard_progress() -> Iterator[Callable[[int, int], None]]:
    """A progress bar of shards on stderr, where that is a terminal; yields what sets finished and all shards."""
    columns = (
        TextColumn("shards"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    hidden = is_quiet() or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        shown = bar.add_task("shards", total=None)
        yield lambda finished, total: bar.update(shown, completed=finished, total=total)


def visible(message: str) -> str:
    """The text with control characters written out: what it quotes may hold commands to the terminal."""
    return re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", _written_out, message
    )


def _written_out(character: re.Match[str]) -> str:
    return character[0].encode("unicode_escape").decode("ascii")


def print_json(content: object) -> None:
    """Prints one JSON value on one line."""
    typer.echo(json.dumps(content, ensure_ascii=False, allow_nan=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, whole: bool = False) -> None:
    """Prints a table. whole: never truncates the first column, however narrow the screen."""
    table = Table(*header, box=None, pad_edge=False)
    if whole:
        table.columns[0].no_wrap, table.columns[0].min_width = (
            True,
            max((len(row[0]) for row in rows), default=0),
        )
    for row in rows:
        table.add_row(*row)
    print_rich(table)


def print_rich(content: RenderableType) -> None:
    """Prints a table or styled text: fitted to the terminal; in a pipe a line for each row, however long."""
    console = Console()
    if console.is_terminal:
        console.print(content)
        return
    wide = Console(file=io.StringIO(), width=_PIPE_WIDTH)
    with wide.capture() as captured:
        wide.print(content)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


@contextmanager
def use_verbosity(verbosity: Verbosity) -> Iterator[None]:
    """A context in which the command prints as much as asked for; enter it before libraries are imported.

    Log messages of the package go to stderr: warnings; with `-v` also what it does; with `--quiet` errors alone.
    Progress bars of libraries are off in a pipe and with `--quiet`.
    """
    if verbosity == "quiet" or not sys.stderr.isatty():
        for name in _NO_BARS:
            os.environ.setdefault(name, "1")
    logger, handler = logging.getLogger("st2llm"), logging.StreamHandler()
    token, before = _verbosity.set(verbosity), logger.level
    logger.setLevel(_LEVELS[verbosity])
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        _verbosity.reset(token)
