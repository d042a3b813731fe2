"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from st2llm.cli.completion import complete_config, complete_data, complete_suite

_DATA_HELP = "A known data set, or the path of a data card."
Data = Annotated[
    str,
    typer.Option("--data", metavar="NAME|CARD", help=_DATA_HELP, autocompletion=complete_data),
]
DataName = Annotated[str, typer.Argument(metavar="NAME|CARD", help=_DATA_HELP, autocompletion=complete_data)]
SuiteName = Annotated[
    str,
    typer.Argument(
        metavar="SUITE",
        help="A suite file, or the name of one in evaluation/suites.",
        autocompletion=complete_suite,
    ),
]
SuiteData = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|CARD",
        help="Replace the data set of a suite with a single data set.",
        autocompletion=complete_data,
    ),
]
SuiteLlm = Annotated[
    str | None,
    typer.Option(
        "--llm",
        metavar="NAME",
        help="Replace the language model: smollm2-135m, a Hugging Face id, a folder, a GGUF file, random:<name> "
        "or openai:<base_url>#<model>.",
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Use at most N test windows.")]
Quick = Annotated[
    bool,
    typer.Option("--quick", help="Run the quick form of the suite; its report says what it cannot show."),
]
ResumeOut = Annotated[
    bool, typer.Option("--resume", help="Continue what is in --out; finished parts of it are kept.")
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers", metavar="N", min=1, help="Processes that write shards, each with its own data."
    ),
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
    str,
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file, or the name of one in alignment/configs/.",
        autocompletion=complete_config,
    ),
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
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check everything and print the plan and its cost; train nothing."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


def example(command: str) -> str:
    return f"Example: {command}"
