"""Commands that run a suite and write its report: compare and report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from st2llm.cli.options import Changes, DryRun, Limit, ResumeOut, SuiteData, SuiteLlm, SuiteName, example
from st2llm.cli.terminal import is_quiet, print_note, print_rich, print_table

if TYPE_CHECKING:
    from st2llm.evaluate.report.run_report import Report
    from st2llm.evaluate.run.compare import Request
    from st2llm.evaluate.run.plan import Overrides

app = typer.Typer()


@app.command(epilog=example("st2llm compare evaluation/suites/demo.yaml --out runs/demo --resume"))
def compare(
    suite: SuiteName,
    data: SuiteData = None,
    llm: SuiteLlm = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder of the run; default runs/<suite id>."),
    ] = None,
    limit: Limit = None,
    resume: ResumeOut = False,
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
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            metavar="I/N",
            help="Run the I-th of N parts of the jobs; the others may run at once, on machines that share --out.",
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="ENGINE",
            help="Run the jobs on ray, ray://HOST:PORT, slurm, slurm://PARTITION or slurm://local.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="With --on, N jobs at once.")
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            "--gpus-per-job",
            metavar="F",
            min=0,
            help="With --on, GPUs of a job; 0.5 lets two share one on Ray.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="With --on, threads of a job.")
    ] = None,
) -> None:
    """Run a suite: compare language models with native models and baselines on identical samples."""
    from st2llm.evaluate.run.plan import Overrides, make
    from st2llm.train.recipes import parse_overrides

    if part is not None and on is not None:
        raise typer.BadParameter(
            "--part runs a share of the jobs here, and --on all of them elsewhere. Give one."
        )
    if on is None and (workers, gpus, threads) != (None, None, None):
        raise typer.BadParameter(
            "--workers, --gpus-per-job and --threads are about the jobs of --on. Add --on ray."
        )
    if prune and not resume:
        raise typer.BadParameter("--prune deletes arms of a run that is resumed. Add --resume.")
    settings = parse_overrides(changes or []) | _parse_seeds(seeds)
    overrides = Overrides(data, llm, limit, settings=settings)
    if dry_run:
        _print_estimate(suite, overrides, out, resume)
        return
    # Errors of the suite come before torch is loaded.
    plan = make(suite, overrides, out=out, resume=resume or part is not None)
    resumed = any(store.exists for store in plan.stores)
    from st2llm.evaluate.run.compare import Request, run_here
    from st2llm.evaluate.run.cost import processor_time

    request = Request(
        suite,
        overrides,
        out=out,
        resume=resume,
        prune=prune,
        save_arms=save_arms,
        progress=not is_quiet(),
    )
    if part is not None:
        report = _run_part(request, part, plan.root)
        if report is None:
            return
    elif on is not None:
        from st2llm.distributed.cluster import run_on
        from st2llm.distributed.placement import parse_placement

        report = run_on(request, parse_placement(on, workers=workers, gpus=gpus, threads=threads))
    else:
        report = run_here(request)
    print_rich(report.table())
    took = f"Took {processor_time()}" + (" since it was resumed." if resumed else ".")
    typer.echo("\n".join([report.verdict, took, *(f"Report: {page}" for page in report.pages)]))


def _run_part(request: "Request", words: str, root: Path) -> "Report | None":
    """Runs a part of a comparison; its report where no job of another part is left."""
    from st2llm.distributed.parts import run_part
    from st2llm.distributed.placement import parse_part

    result = run_part(request, parse_part(words))
    if result.report is None:
        typer.echo(
            f"Part {words} is done; {result.finished} of {result.planned} jobs have finished. The part that is last "
            f"writes the report into {root}."
        )
    return result.report


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
            from st2llm.distributed.merge import merge_folder
            from st2llm.evaluate.report.write import write_report

            if not merge_folder(folder):
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
    stored: Annotated[
        Path | None,
        typer.Option(
            "--run",
            metavar="DIR",
            help="A finished run of the suite, whose scores are used; nothing is trained.",
        ),
    ] = None,
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
    resume: ResumeOut = False,
) -> None:
    """Measure how often the gains of a suite are false or missed: coverage, false verdicts and power."""
    from st2llm.evaluate.calibration.calibrate import CalibrationSettings
    from st2llm.evaluate.calibration.calibrate import calibrate as run

    names = tuple(name.strip() for name in arms.split(",") if name.strip())
    settings = CalibrationSettings(names, seeds=seeds, trials=trials, simulation=simulation, run=stored)
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
