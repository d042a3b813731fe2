"""Commands over the records of many runs: leaderboard."""

from pathlib import Path
from typing import Annotated

import typer

from st2llm.cli.options import example
from st2llm.cli.terminal import print_note

app = typer.Typer()


@app.command(epilog=example("st2llm leaderboard runs evaluation/reports --out leaderboard.html"))
def leaderboard(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUNS...", help="Folders that compare wrote, or that hold such folders."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The HTML page.")] = Path(
        "leaderboard.html"
    ),
) -> None:
    """Show many runs on one page: data sets by arms, gains, cost and links to the reports."""
    from st2llm.evaluate.leaderboard.write import write_leaderboard
    from st2llm.evaluate.report.formats import pluralize

    rendered = write_leaderboard(runs, out)
    for item in rendered.left_out:
        print_note(f"Left out: {item.folder}. {item.reason}")
    typer.echo(f"Leaderboard of {pluralize(rendered.runs, 'run')}: {out}")
