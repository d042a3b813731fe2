"""One suite run several times: with several models (`ladder`), values of a setting (`curve`), or drift (`shift`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from st2llm.cli.options import Changes, Limit, Quick, ResumeOut, SuiteData, SuiteLlm, SuiteName, example
from st2llm.cli.terminal import is_quiet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from st2llm.evaluate.curve.report import CurveReport

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
    data: SuiteData = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder of the ladder; default runs/ladder-<suite>."),
    ] = None,
    limit: Limit = None,
    resume: ResumeOut = False,
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
    data: SuiteData = None,
    llm: SuiteLlm = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder of the curve; default runs/curve-<suite>."),
    ] = None,
    quick: Quick = False,
    resume: ResumeOut = False,
    changes: Changes = None,
) -> None:
    """Run a suite for each value of a setting, and draw error and gains; the report begins with an answer."""
    from st2llm.evaluate.curve.run import curve as run
    from st2llm.evaluate.run.plan import Overrides
    from st2llm.train.recipes import parse_overrides

    overrides = Overrides(data=data, llm=llm, settings=parse_overrides(changes or []))
    folder = out or Path("runs") / f"curve-{Path(suite).stem}"
    _print_answers(
        run(suite, out=folder, overrides=overrides, quick=quick, resume=resume, progress=not is_quiet())
    )


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
    data: SuiteData = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder of the curve; default runs/shift-<suite>."),
    ] = None,
    quick: Quick = False,
    resume: ResumeOut = False,
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
    _print_answers(
        run(suite, out=folder, overrides=overrides, quick=quick, resume=resume, progress=not is_quiet())
    )


def _print_answers(reports: "Iterable[CurveReport]") -> None:
    for report in reports:
        for line in report.answers:
            typer.echo(line)
        typer.echo(f"Report: {report.page}")
