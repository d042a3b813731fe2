"""`st2llm prompt`, `ask` and `check-description`: the prompt of a test sample, its answer, and a check of a text."""

from pathlib import Path
from typing import Annotated

import typer

from st2llm.cli.completion import complete_template
from st2llm.cli.options import AsJson, Data, Llm, example
from st2llm.cli.terminal import print_json, print_note, visible

app = typer.Typer()


Template = Annotated[
    str,
    typer.Argument(
        metavar="KIND/TASK[.VARIANT]",
        help="A template in prompts/, or a .md file.",
        autocompletion=complete_template,
    ),
]
Index = Annotated[int, typer.Option("--index", metavar="N", help="Index of the test sample.")]
Place = Annotated[str | None, typer.Option("--place", metavar="ID", help="Ask for this place only.")]
History = Annotated[int | None, typer.Option("--history", metavar="N", help="Number of observed steps.")]
Horizon = Annotated[int | None, typer.Option("--horizon", metavar="N", help="Number of predicted steps.")]
Budget = Annotated[
    int | None,
    typer.Option("--budget", metavar="TOKENS", help="Truncate the prompt to at most this many tokens."),
]


@app.command(
    epilog=example(
        "st2llm prompt graph/forecast --data auckland-pedestrians --place 45-queen-street --llm smollm2-135m"
    )
)
def prompt(
    template: Template,
    data: Data,
    llm: Llm = None,
    index: Index = 0,
    place: Place = None,
    history: History = None,
    horizon: Horizon = None,
    budget: Budget = None,
    as_json: AsJson = False,
    lint: Annotated[
        bool,
        typer.Option("--lint", help="Check the prompt for leaks of the answer; exit 1 if there are any."),
    ] = False,
) -> None:
    """Print the prompt of one test sample; with --llm, also the number of its tokens (on stderr)."""
    from st2llm.commands.prompt import PromptRequest, render_prompt

    asked = render_prompt(
        PromptRequest(
            template, data, llm=llm, index=index, place=place, history=history, horizon=horizon, budget=budget
        )
    )
    findings = asked.lint() if lint else []
    if as_json:
        print_json(asked.record())
    else:
        typer.echo(str(asked.prompt))
    if asked.prompt.tokens is not None and not as_json:
        print_note(f"{asked.prompt.tokens:,} tokens of {llm}")
    for finding in findings:
        typer.echo(f"lint: {finding}", err=True)
    if findings:
        raise typer.Exit(1)
    if lint:
        print_note("lint: clean, no leak of the answer was found")


@app.command(
    epilog=example(
        "st2llm ask graph/forecast --data auckland-pedestrians --place 45-queen-street --llm smollm2-135m"
    )
)
def ask(
    template: Template,
    data: Data,
    llm: Annotated[
        str,
        typer.Option(
            "--llm",
            metavar="NAME",
            help="The model to ask: smollm2-135m, a Hugging Face id, a folder, openai:URL#MODEL, or a checkpoint of "
            "finetune (a folder or hub:OWNER/NAME).",
        ),
    ],
    index: Index = 0,
    place: Place = None,
    history: History = None,
    horizon: Horizon = None,
    budget: Budget = None,
    as_json: AsJson = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Plot what was read into this PNG file.")
    ] = None,
) -> None:
    """Ask a language model about one test sample: print the prompt, its answer, and the values read from it."""
    from st2llm.commands.ask import ask as ask_model
    from st2llm.commands.ask import plot_answer
    from st2llm.commands.prompt import PromptRequest

    asked = ask_model(PromptRequest(template, data, llm, index, place, history, horizon, budget))
    if as_json:
        print_json(asked.record())
    else:
        typer.echo(visible("\n".join(asked.lines())))
    if plot is not None:
        plot_answer(asked, plot)
        typer.echo(f"Plot: {plot}", err=as_json)


@app.command(
    name="check-description",
    epilog=example(
        "st2llm check-description graph/describe answer.txt --data auckland-pedestrians --index 3"
    ),
)
def check_description(
    template: Template,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A text file with the description.")],
    data: Data,
    index: Index = 0,
    place: Place = None,
    history: History = None,
    horizon: Horizon = None,
) -> None:
    """Compare the claims of a description with the data of the prompt's sample; exit 1 if they contradict any."""
    from st2llm.commands.check_description import check_description as check
    from st2llm.commands.prompt import PromptRequest

    request = PromptRequest(template, data, index=index, place=place, history=history, horizon=horizon)
    checked = check(file.read_text(encoding="utf-8"), request)
    for line in checked.lines():
        typer.echo(line)
    if checked.contradicted:
        raise typer.Exit(1)
