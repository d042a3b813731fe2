"""Commands that run a suite and write its report: compare and report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from st2llm.cli.options import Changes, DryRun, SuiteName, example
from st2llm.cli.terminal import is_quiet, print_note, print_rich, print_table

if TYPE_CHECKING:
    from st2llm.evaluate.run.plan import Overrides

app = typer.Typer()


@app.command(epilog=example("st2llm compare evaluation/suites/demo.yaml --out runs/demo --resume"))
def compare(
    suite: SuiteName,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="NAME|CARD", help="Replace the data set of a suite with a single data set."
        ),
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(
            "--llm",
            metavar="NAME",
            help="Replace the language model: smollm2-135m, a Hugging Face id, a folder, a GGUF file, random:<name> "
            "or openai:<base_url>#<model>.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder of the run; default runs/<suite id>."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Use at most N test windows.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out; finished arms are kept.")
    ] = False,
    changes: Changes = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="N,...", help="Train with these seeds, such as 0,1,2."),
    ] = None,
    dry_run: DryRun = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="With --resume, delete finished arms that the suite no longer has as they were."
        ),
    ] = False,
    save_arms: Annotated[
        bool,
        typer.Option(
            "--save-arms", help="Keep each trained arm as a checkpoint, in checkpoints/ of the run folder."
        ),
    ] = False,
) -> None:
    """Run a suite: compare language models with native models and baselines on identical samples."""
    from st2llm.evaluate.run.plan import Overrides, make
    from st2llm.train.recipes import parse_overrides

    if prune and not resume:
        raise typer.BadParameter("--prune deletes arms of a run that is resumed. Add --resume.")
    settings = parse_overrides(changes or []) | _parse_seeds(seeds)
    overrides = Overrides(data, llm, limit, settings=settings)
    if dry_run:
        _print_estimate(suite, overrides, out, resume)
        return
    plan = make(suite, overrides, out=out, resume=resume)  # errors of the suite come before torch is loaded
    resumed = any(store.exists for store in plan.stores)
    from st2llm.evaluate.run.compare import compare as run
    from st2llm.evaluate.run.cost import processor_time

    report = run(
        suite,
        data=data,
        llm=llm,
        out=out,
        limit=limit,
        resume=resume,
        prune=prune,
        save_arms=save_arms,
        progress=not is_quiet(),
        settings=settings,
    )
    print_rich(report.table())
    took = f"Took {processor_time()}" + (" since it was resumed." if resumed else ".")
    typer.echo("\n".join([report.verdict, took, *(f"Report: {page}" for page in report.pages)]))


def _parse_seeds(words: str | None) -> dict[str, Any]:
    """The setting `seeds` of `0,1,2`. Raises BadParameter for anything else."""
    if words is None:
        return {}
    try:
        return {"seeds": [int(word) for word in words.split(",")]}
    except ValueError as error:
        raise typer.BadParameter(
            f"--seeds takes whole numbers, such as 0,1,2, but {words!r} came."
        ) from error


def _print_estimate(suite: str, overrides: "Overrides", out: Path | None, resume: bool) -> None:
    from st2llm.evaluate.planning.dry_run import dry_run
    from st2llm.evaluate.planning.estimate import HEADER

    print_note("Checking everything, and measuring a step or an answer of each predictor ...")
    estimate = dry_run(suite, overrides, out=out, resume=resume)
    print_table(HEADER, [arm.row() for arm in estimate.arms], whole=True)
    typer.echo(estimate.summary)


@app.command(epilog=example("st2llm report runs/demo"))
def report(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that compare wrote.")],
    rescore: Annotated[
        bool,
        typer.Option(
            "--rescore",
            help="Recompute the records first, from the predictions or, in a published report, from scores.parquet.",
        ),
    ] = False,
    publish: Annotated[
        bool,
        typer.Option(
            "--publish",
            help="Copy the run to evaluation/reports, to be committed; refused after a run with uncommitted changes.",
        ),
    ] = False,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="The published folder's name; default <date>-<suite>."),
    ] = None,
) -> None:
    """Rebuild report.md and report.html of a finished run, or publish the run."""
    from st2llm.evaluate.run_folder.store import run_folders

    if name and not publish:
        raise typer.BadParameter("--name names a published report. Add --publish.")
    for folder in run_folders(run) if rescore or not publish else []:
        if rescore:
            from st2llm.evaluate.report.run_report import rescore as rescore_run

            rescore_run(folder)
        else:
            from st2llm.evaluate.report.write import write_report

            write_report(folder)
        typer.echo(f"Report: {folder / 'report.html'}")
    if publish:
        from st2llm.evaluate.publication.publish import publish as publish_run

        published = publish_run(run, name=name)
        for note in published.notes:
            typer.echo(f"Note: {note}")
        typer.echo(
            f"Published: {published.folder}\nCommit it: git add {published.folder}, then `make figures`."
        )


@app.command(
    epilog=example("st2llm calibrate five-kinds-graph --seeds 10 --out runs/calibrate-graph --resume")
)
def calibrate(
    suite: SuiteName,
    arms: Annotated[
        str,
        typer.Option(
            "--arms",
            metavar="NAME,...",
            help="Trained arms to compare with themselves; default the native ones.",
        ),
    ] = "",
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", help="Training runs of each arm.")] = 10,
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", min=10, help="Comparisons of each setting.")
    ] = 1000,
    simulation: Annotated[
        bool,
        typer.Option(
            "--simulation/--no-simulation", help="Also simulate errors with planted gains (minutes)."
        ),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="The folder of the results; default runs/calibrate-<suite id>."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the training runs in --out; finished ones are kept.")
    ] = False,
) -> None:
    """Measure how often the gains of a suite are false or missed: coverage, false verdicts and power."""
    from st2llm.evaluate.calibration.calibrate import CalibrationSettings
    from st2llm.evaluate.calibration.calibrate import calibrate as run

    names = tuple(name.strip() for name in arms.split(",") if name.strip())
    settings = CalibrationSettings(names, seeds=seeds, trials=trials, simulation=simulation)
    console = Console(stderr=True, quiet=is_quiet())
    with console.status("") as status:
        folder = run(
            suite,
            out=out,
            settings=settings,
            resume=resume,
            progress=lambda done, of: status.update(f"Simulated {done} of {of} settings"),
        )
    typer.echo(f"Calibration: {folder / 'calibration.md'}")
