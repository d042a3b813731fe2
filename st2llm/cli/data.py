"""`st2llm data`: lists, describes and fetches data sets, and writes instruction sets."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from st2llm.cli.completion import complete_data
from st2llm.cli.options import AsJson, DataName, Llm, ResumeOut, Workers, example
from st2llm.cli.terminal import print_json, print_note, print_table, shard_progress

if TYPE_CHECKING:
    from st2llm.commands.catalog import OpenLicence

app = typer.Typer(help="List, describe and fetch data sets; write instruction sets.", no_args_is_help=True)


@app.command("list", epilog=example("st2llm data list"))
def data_list(as_json: AsJson = False) -> None:
    """List the data sets that have a card, and the language models, and whether their files are on this machine."""
    from st2llm.commands import catalog

    entries = catalog.entries()
    if as_json:
        print_json([asdict(entry) for entry in entries])
    else:
        print_table(["name", "kind", "here", "about"], [entry.row() for entry in entries])


@app.command("show", epilog=example("st2llm data show auckland-pedestrians --plot counts.png"))
def data_show(
    name: DataName,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Plot the data into this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Describe a data set: shape, time span, gaps, temporal and spatial dependence, split and licence."""
    from st2llm.data import load_data
    from st2llm.data.describe import describe, summary_rows
    from st2llm.data.describe import plot as draw

    data = load_data(name)
    facts = describe(data)
    if plot is not None:
        draw(data, plot)
    if as_json:
        print_json(facts)
    else:
        print_table(
            ["what", "value"],
            [[escape(key), escape(value)] for key, value in summary_rows(facts)],
            whole=True,
        )
    if plot is not None:
        typer.echo(f"Plot: {plot}", err=as_json)


@app.command("init", epilog=example("st2llm data init counts.csv places.csv --out counts.yaml"))
def data_init(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Files of one data set (csv, Parquet, NetCDF, GPX, .plt, clips), or a folder of them.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.yaml", help="Write the card here; by default it is printed."),
    ] = None,
) -> None:
    """Draft a data card from files: kind, columns, zone, step and unit, with every guess marked."""
    from st2llm.commands.draft import draft_card, write_card

    draft = draft_card(files)
    if draft.left_out:
        print_note(draft.left_out_text)
    if out is None:
        typer.echo(draft.text(), nl=False)
        print_note(f"Save it as a .yaml file in {draft.folder.absolute()}, then: st2llm data show FILE.yaml")
        return
    write_card(draft, out)
    typer.echo(f"Card: {out}")
    print_note(f"Check the guesses in it, then: st2llm data show {out}")


@app.command("export", epilog=example("st2llm data export auckland-pedestrians --out counts.parquet"))
def data_export(
    name: DataName,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            help="A .csv, .parquet or .nc file, or a folder for Hugging Face datasets.",
        ),
    ],
) -> None:
    """Write a data set as a table (csv, parquet), as NetCDF, or as a folder of Hugging Face datasets."""
    from st2llm.data import load_data
    from st2llm.data.convert.export import export

    export(load_data(name), out)
    typer.echo(f"Data: {out}")


@app.command(
    "instruct",
    epilog=example(
        "st2llm data instruct auckland-pedestrians --out sets/auckland --task question-answer.chat"
    ),
)
def data_instruct(
    name: DataName,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder that the shards are written into.")
    ],
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task", metavar="TASK[.VARIANT]", help="A template of the data's kind; may be repeated."
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", metavar="N", min=1, help="Rows per template; by default every sample."),
    ] = None,
    shard: Annotated[int, typer.Option("--shard", metavar="N", min=1, help="Rows per shard.")] = 1000,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Seed of the choice of places and questions.")
    ] = 0,
    part: Annotated[
        str, typer.Option("--part", metavar="PART", help="Part of the split: train, validation or test.")
    ] = "train",
    budget: Annotated[
        int | None,
        typer.Option("--budget", metavar="TOKENS", help="Truncate prompts to at most this many tokens."),
    ] = None,
    llm: Llm = None,
    resume: ResumeOut = False,
    workers: Workers = 1,
) -> None:
    """Write prompts with their true answers as a Hugging Face data set for instruction tuning."""
    from st2llm.commands.instruct.rows import InstructionRequest, parse_part
    from st2llm.commands.instruct.shards import write_instructions

    request = InstructionRequest(name, tuple(task or ()), count, shard, seed, parse_part(part), budget, llm)
    with shard_progress() as on_shard:
        done = write_instructions(request, out, resume=resume, workers=workers, on_shard=on_shard)
    left = f", {done.left_out} left out because they have no true answer" if done.left_out else ""
    typer.echo(f"{done.rows} rows in {done.shards} shards ({done.kept} kept){left}: {done.out}")


@app.command("fetch", epilog=example("st2llm data fetch auckland-pedestrians smollm2-135m"))
def data_fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help="Data sets and language models.", autocompletion=complete_data
        ),
    ],
    accept_license: Annotated[
        bool,
        typer.Option(
            "--accept-license",
            help="Accept the licence terms of these models, which are printed; without it a terminal asks.",
        ),
    ] = False,
) -> None:
    """Download missing data sets and language models into the cache, and verify their checksums."""
    from st2llm.commands import catalog

    for name in names:
        if sys.stderr.isatty():
            print_note(f"Fetching {name}")
        if (licence := catalog.open_licence(name)) is not None:
            _ask_to_accept(licence, accepted=accept_license)
        typer.echo(f"{name}: {catalog.fetch(name)}")


def _ask_to_accept(licence: "OpenLicence", *, accepted: bool) -> None:
    """Prints the terms on stderr, and records that they are accepted by the option, or by a `yes` in the terminal."""
    terms = licence.terms
    typer.echo(
        f"{licence.text}\n\n{licence.model} may be used under these terms: {terms.name}, {terms.url}",
        err=True,
    )
    if accepted:
        licence.accept(by="--accept-license")
    elif sys.stdin.isatty() and typer.prompt("Type yes to accept them", default="no", err=True) == "yes":
        licence.accept(by="prompt")
