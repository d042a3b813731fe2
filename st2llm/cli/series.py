"""One suite run several times: with several models (`ladder`), values of a setting (`curve`), or drift (`shift`)."""

from pathlib import Path
from typing import Annotated

import typer

from st2llm.cli.options import Changes, SuiteName, example
from st2llm.cli.terminal import is_quiet

app = typer.Typer()


@app.command(
    epilog=example("st2llm ladder demo --llm smollm2-135m gemma-3-270m qwen2.5-coder-0.5b --out runs/ladder"),
    context_settings={"allow_extra_args": True},
)
def ladder(
    context: typer.Context,
    suite: SuiteName,
    llm: Annotated[
        list[str] | None,
        typer.Option(
            "--llm",
            metavar="NAME...",
            help="The language models: packaged names, Hugging Face ids, folders, GGUF files, and for text arms "
            "openai:<base_url>#<model>.",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME|CARD", help="Replace the data set of the suite.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder of the ladder; default runs/ladder-<suite>."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Use at most N test windows.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the ladder in --out; finished arms are kept.")
    ] = False,
    changes: Changes = None,
) -> None:
    """Run a suite with several language models, and draw gain against parameters; rules are run once."""
    if not llm:
        raise typer.BadParameter("Name the language models, after the suite: --llm A B C.")
    from st2llm.evaluate.ladder.climb import ladder as run
    from st2llm.evaluate.run.plan import Overrides
    from st2llm.train.recipes import parse_overrides

    overrides = Overrides(data=data, limit=limit, settings=parse_overrides(changes or []))
    folder = out or Path("runs") / f"ladder-{Path(suite).stem}"
    report = run(
        suite, [*llm, *context.args], out=folder, overrides=overrides, resume=resume, progress=not is_quiet()
    )
    for line in report.needs:
        typer.echo(f"7 billion parameters, {line}")
    typer.echo(f"Report: {report.page}")


@app.command(epilog=example("st2llm curve data-efficiency-graph --quick --out runs/curve"))
def curve(
    suite: SuiteName,
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME|CARD", help="Replace the data set of the suite.")
    ] = None,
    llm: Annotated[
        str | None, typer.Option("--llm", metavar="NAME", help="Replace the language model of the suite.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder of the curve; default runs/curve-<suite>."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Run the quick form of the suite; its report says what it cannot show."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the curve in --out; finished arms are kept.")
    ] = False,
    changes: Changes = None,
) -> None:
    """Run a suite for each value of a setting, and draw error and gains; the report begins with an answer."""
    from st2llm.evaluate.curve.run import curve as run
    from st2llm.evaluate.run.plan import Overrides
    from st2llm.train.recipes import parse_overrides

    overrides = Overrides(data=data, llm=llm, settings=parse_overrides(changes or []))
    folder = out or Path("runs") / f"curve-{Path(suite).stem}"
    for report in run(
        suite, out=folder, overrides=overrides, quick=quick, resume=resume, progress=not is_quiet()
    ):
        for line in report.answers:
            typer.echo(line)
        typer.echo(f"Report: {report.page}")


@app.command(
    epilog=example("st2llm shift shift-injected --strength 0 0.5 1 --out runs/shift"),
    context_settings={"allow_extra_args": True},
)
def shift(
    context: typer.Context,
    suite: SuiteName,
    strength: Annotated[
        list[float] | None,
        typer.Option(
            "--strength", metavar="S...", help="The strengths of the drift; the first is compared with."
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="The drift at strength 1: level, scale, season, missing or pattern, or KIND=SIZE; may be repeated. "
            "Default: that of the suite's `shift`.",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME|CARD", help="Replace the data set of the suite.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder of the curve; default runs/shift-<suite>."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Run the quick form of the suite.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the curve in --out; finished arms are kept.")
    ] = False,
    changes: Changes = None,
) -> None:
    """Run a suite with drift of several strengths in its test windows, and report what each predictor keeps."""
    if not strength:
        raise typer.BadParameter("Name the strengths, after the suite: --strength 0 0.5 1.")
    from st2llm.evaluate.curve.points import strength_settings
    from st2llm.evaluate.curve.run import curve as run
    from st2llm.evaluate.run.plan import Overrides
    from st2llm.train.recipes import parse_overrides

    settings = strength_settings([*map(str, strength), *context.args], kind or [])
    overrides = Overrides(data=data, settings={**settings, **parse_overrides(changes or [])})
    folder = out or Path("runs") / f"shift-{Path(suite).stem}"
    for report in run(
        suite, out=folder, overrides=overrides, quick=quick, resume=resume, progress=not is_quiet()
    ):
        for line in report.answers:
            typer.echo(line)
        typer.echo(f"Report: {report.page}")
