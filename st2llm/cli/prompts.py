"""`st2llm prompt`: shows the prompt of a test sample."""

import json
from typing import Annotated

import typer

from st2llm.cli.options import Data, Llm, example

app = typer.Typer()


@app.command(
    epilog=example(
        "st2llm prompt graph/forecast --data auckland-pedestrians --place 45-queen-street --llm smollm2-135m"
    )
)
def prompt(
    template: Annotated[
        str, typer.Argument(metavar="KIND/TASK[.VARIANT]", help="A template below prompts/.")
    ],
    data: Data,
    llm: Llm = None,
    index: Annotated[int, typer.Option("--index", metavar="N", help="Index of the test sample.")] = 0,
    place: Annotated[
        str | None, typer.Option("--place", metavar="ID", help="Ask for this place only.")
    ] = None,
    history: Annotated[
        int | None, typer.Option("--history", metavar="N", help="Number of observed steps.")
    ] = None,
    horizon: Annotated[
        int | None, typer.Option("--horizon", metavar="N", help="Number of predicted steps.")
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option("--budget", metavar="TOKENS", help="Truncate the prompt to at most this many tokens."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    lint: Annotated[
        bool,
        typer.Option("--lint", help="Check the prompt for leaks of the answer; exit 1 if there are any."),
    ] = False,
) -> None:
    """Print the prompt of one test sample; with --llm, count its tokens."""
    from st2llm.commands.prompt import PromptRequest, render_prompt

    asked = render_prompt(
        PromptRequest(
            template, data, llm=llm, index=index, place=place, history=history, horizon=horizon, budget=budget
        )
    )
    findings = asked.lint() if lint else []
    if as_json:
        typer.echo(json.dumps(asked.record(), ensure_ascii=False))
    else:
        typer.echo(str(asked.prompt))
    for finding in findings:
        typer.echo(f"lint: {finding}", err=True)
    if findings:
        raise typer.Exit(1)
