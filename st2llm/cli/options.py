"""Options and arguments that several commands share, and table output."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

Data = Annotated[
    str, typer.Option("--data", metavar="NAME|CARD", help="A known data set, or the path of a data card.")
]
Llm = Annotated[
    str | None,
    typer.Option(
        "--llm",
        metavar="NAME",
        help="Count tokens with the tokenizer of this language model: smollm2-135m, a Hugging Face id or a folder.",
    ),
]

ConfigName = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of one in alignment/configs/.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a setting, such as budget.steps=500; may be repeated."
    ),
]
RunFolder = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The folder of the run; default runs/<id>.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in DIR.")]


def example(command: str) -> str:
    return f"Example: {command}"


def print_table(header: list[str], rows: list[list[str]], *, whole: bool = False) -> None:
    """Prints a table. whole: never truncates the first column, however narrow the screen."""
    table = Table(*header, box=None, pad_edge=False)
    if whole:
        table.columns[0].no_wrap, table.columns[0].min_width = True, max(len(row[0]) for row in rows)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
