"""Commands over the records of many runs: leaderboard and recommend."""

from pathlib import Path
from typing import Annotated

import typer

from st2llm.cli.completion import complete_data
from st2llm.cli.options import AsJson, example
from st2llm.cli.terminal import print_json, print_note, print_table

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


_HEADER = ("arm", "predictors", "gain over rule", "95 % interval", "beats rule", "data sets")


@app.command(epilog=example("st2llm recommend auckland-pedestrians"))
def recommend(
    card: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|CARD",
            help="A known data set, or the path of a data card.",
            autocompletion=complete_data,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", metavar="TYPE", help="forecast, impute, next-place, ...; default that of the card."
        ),
    ] = None,
    knowledge: Annotated[
        Path | None,
        typer.Option("--knowledge", metavar="FILE", help="A knowledge base; default the one that ships."),
    ] = None,
    build: Annotated[
        list[Path] | None,
        typer.Option(
            "--build",
            metavar="RUNS",
            help="Build a knowledge base from the runs below this folder instead; may be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="With --build, the file to write.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rank arms for a data set by the gains that they had on data like it, and say how sure that is."""
    if build:
        if card or not out:
            raise typer.BadParameter("--build RUNS takes --out FILE, and no data set.")
        from st2llm.evaluate.recommend import build as build_base

        typer.echo(f"Knowledge base of {build_base(build, out)} rows: {out}")
        return
    if card is None or out:
        raise typer.BadParameter("Name a data set, or give --build RUNS and --out FILE.")
    from st2llm.evaluate.recommend import recommend as recommend_arms

    advice = recommend_arms(card, task=task, knowledge=knowledge)
    if as_json:
        print_json(advice.to_json())
        return
    typer.echo(f"{advice.sentence}\n")
    print_table(_HEADER, advice.rows(), whole=True)
    typer.echo("\n".join(["", *advice.notes(), f"Measured: {advice.measured}."]))
