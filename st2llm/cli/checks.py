"""Commands that check what a result rests on: audit and probe-memory."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from st2llm.cli.options import AsJson, Data, example
from st2llm.cli.terminal import print_json, print_note, print_table

if TYPE_CHECKING:
    from st2llm.evaluate.audit.ranking import RunAudit
    from st2llm.evaluate.audit.report import Audit

app = typer.Typer()


@app.command(
    epilog=example(
        "st2llm audit theirs.csv --data los-loop --task forecast-12-12 --claims MAE=3.11 --rival 3.20 --out runs/audit"
    )
)
def audit(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help="A csv, parquet or npz file with a row for each predicted value: sample or origin (time of the first "
            "predicted step), place, step (from 0), value; channel where there are several; truth if you have it. "
            "Or the folder of a run, for its ranking.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="NAME|CARD", help="What a file's predictions are of; NAME#SPLIT for a split."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", metavar="forecast-HISTORY-HORIZON", help="Default: the task of the data card."
        ),
    ] = None,
    claims: Annotated[
        list[str] | None,
        typer.Option("--claims", metavar="METRIC=VALUE", help="A score that is claimed, such as MAE=3.11."),
    ] = None,
    rival: Annotated[
        float | None,
        typer.Option("--rival", metavar="VALUE", help="The score that the first claim is compared with."),
    ] = None,
    units: Annotated[
        str, typer.Option("--units", help="Of the file: raw, standardised or standardised-by-place.")
    ] = "raw",
    timezone: Annotated[
        str,
        typer.Option(
            "--timezone", metavar="ZONE", help="Of times without an offset; default that of the data."
        ),
    ] = "",
    stride: Annotated[
        int, typer.Option("--stride", metavar="N", min=1, help="Steps between test windows.")
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write audit.md and audit.json into this folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find out under which protocol predictions were scored, and what each choice of protocol is worth."""
    from st2llm.evaluate.audit.audit import AuditSettings, audit_file
    from st2llm.evaluate.audit.claims import parse_claims
    from st2llm.evaluate.audit.report import HEADER, RULES_HEADER

    if data is None:
        _print_ranking(predictions, out, as_json=as_json)
        return
    claimed = parse_claims(claims or [], rival)
    print_note("Scoring under each protocol, and fitting the rules ...")
    result = audit_file(predictions, data, task, AuditSettings(units, timezone, stride), claimed)
    _print_audit(result, {HEADER: result.rows(), RULES_HEADER: result.rule_rows()}, out, as_json=as_json)


def _print_ranking(run: Path, out: Path | None, *, as_json: bool) -> None:
    """What the choices of protocol change in the ranking of a run, or of the runs in a folder."""
    from st2llm.evaluate.audit.ranking import HEADER, audit_run

    if run.is_file():
        raise typer.BadParameter("Name what the predictions of a file are of: --data NAME.")
    result = audit_run(run)
    _print_audit(result, {HEADER: result.rows()}, out, as_json=as_json)


def _print_audit(
    result: "Audit | RunAudit",
    tables: dict[tuple[str, ...], list[tuple[str, ...]]],
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Writes a result into the folder `out` where there is one, and prints its sentences and its tables by header."""
    page = None if out is None else result.write(out)
    if as_json:
        print_json(result.to_json())
        return
    typer.echo("\n".join(result.sentences()))
    for header, rows in tables.items():
        typer.echo()
        print_table(header, rows)
    if page is not None:
        typer.echo(f"Report: {page}")


@app.command(
    "probe-memory", epilog=example("st2llm probe-memory --llm smollm2-135m --data los-loop --out runs/demo")
)
def probe_memory(
    data: Data,
    llm: Annotated[
        str,
        typer.Option(
            "--llm",
            metavar="NAME",
            help="A model on this machine: smollm2-135m, a Hugging Face id or a folder.",
        ),
    ],
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", min=2, help="Rows of the data that are continued.")
    ] = 40,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Write memory.json into this folder, such as that of a run, whose records and report then say it.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Test whether a language model has seen a data set: verbatim rows, names of columns, dates."""
    from st2llm.evaluate.audit.memory.probe import probe_memory as run
    from st2llm.llm import load_llm
    from st2llm.llm.local import require_local

    print_note(f"Reading {rows} rows of {data} with {llm} ...")
    probe = run(require_local(load_llm(llm)), data, rows=rows)
    path = None if out is None else probe.write(out)
    if as_json:
        print_json(probe.to_json())
        return
    typer.echo(probe.sentence() + f"\nRows of: {probe.source}")
    print_table(("test", "value", "unit", "95 % interval", "n", "counted"), probe.rows())
    for test, why in probe.refused.items():
        typer.echo(f"{test}: not tested. {why}")
    if path is not None:
        typer.echo(f"Written: {path}")
