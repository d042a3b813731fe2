"""Commands that train a model, answer with it and publish it: pretrain, align, finetune, predict, push."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from st2llm.cli.options import (
    Changes,
    ConfigName,
    Data,
    DryRun,
    Llm,
    Resume,
    ResumeOut,
    RunFolder,
    Workers,
    example,
)
from st2llm.cli.terminal import is_quiet, print_note, print_table, shard_progress
from st2llm.errors import ConfigError

if TYPE_CHECKING:
    from st2llm.train.loop.budget import FitResult
    from st2llm.train.run import AnyRecipe

app = typer.Typer()


@app.command(
    epilog=example("st2llm pretrain los-loop-masked --set budget.steps=500 --out runs/masked --resume")
)
def pretrain(
    recipe: ConfigName,
    changes: Changes = None,
    out: RunFolder = None,
    resume: Resume = False,
    dry_run: DryRun = False,
) -> None:
    """Train a native model (no language model): regression, likelihood, masked, contrastive or diffusion."""
    from st2llm.config.training import PretrainRecipe
    from st2llm.evaluate.run.progress import show_progress
    from st2llm.train import pretrain as module
    from st2llm.train.checkpointing import is_main
    from st2llm.train.recipes import load_recipe, parse_overrides

    settings = load_recipe(recipe, parse_overrides(changes or []), into=PretrainRecipe)
    root = out or Path("runs") / settings.id
    if dry_run:
        _print_plan(settings, root, resume)
        return
    with show_progress(is_main() and not is_quiet()) as reporter:
        reporter.start(settings.id, settings.budget.steps)
        done = module.pretrain(settings, root, resume=resume, on_step=reporter.update)
    _print_result(done, root)


@app.command(epilog=example("st2llm align align-graph --set budget.steps=100 --out runs/align --resume"))
def align(
    recipe: ConfigName,
    changes: Changes = None,
    out: RunFolder = None,
    resume: Resume = False,
    dry_run: DryRun = False,
) -> None:
    """Train an encoder whose outputs a frozen language model reads as soft tokens; report alignment metrics."""
    from st2llm.commands.align import align_and_report
    from st2llm.config.training import align_recipe_type
    from st2llm.evaluate.run.progress import show_progress
    from st2llm.train.checkpointing import is_main
    from st2llm.train.recipes import load_recipe, parse_overrides

    settings = load_recipe(recipe, parse_overrides(changes or []), into=align_recipe_type)
    root = out or Path("runs") / settings.id
    if dry_run:
        _print_plan(settings, root, resume)
        return
    with show_progress(is_main() and not is_quiet()) as reporter:
        done = align_and_report(settings, root, resume=resume, reporter=reporter)
    _print_result(done, root)


@app.command(
    epilog=example("st2llm finetune questions-graph --set budget.steps=100 --out runs/questions --resume")
)
def finetune(
    recipe: ConfigName,
    changes: Changes = None,
    out: RunFolder = None,
    resume: Resume = False,
    dry_run: DryRun = False,
) -> None:
    """Fine-tune a language model (LoRA, QLoRA, norms, partial or full) on instructions or with soft tokens."""
    from st2llm.commands.finetune import run_finetune
    from st2llm.config.training import finetune_recipe_type
    from st2llm.evaluate.run.progress import show_progress
    from st2llm.train.checkpointing import is_main
    from st2llm.train.recipes import load_recipe, parse_overrides

    settings = load_recipe(recipe, parse_overrides(changes or []), into=finetune_recipe_type)
    root = out or Path("runs") / settings.id
    if dry_run:
        _print_plan(settings, root, resume)
        return
    with show_progress(is_main() and not is_quiet()) as reporter:
        done = run_finetune(settings, root, resume=resume, reporter=reporter)
    _print_result(done, root)


def _print_plan(settings: "AnyRecipe", root: Path, resume: bool) -> None:
    """Checks a training run and prints its plan and cost, without training."""
    from st2llm.evaluate.planning.training import plan_training

    print_table(["what", "value"], plan_training(settings, root, resume=resume), whole=True)


def _print_result(done: "FitResult", root: Path) -> None:
    """Prints the best validation value, the checkpoint and the report of a finished run."""
    from st2llm.train.checkpointing import is_main
    from st2llm.train.loop.budget import OUTCOME_LABELS

    if not is_main():
        return
    curve = done.curve
    label = OUTCOME_LABELS[curve.outcome]
    typer.echo(f"Best validation value {curve.best:.6g} ({label}) after {curve.step[-1]} steps.")
    typer.echo(f"Checkpoint: {root / 'best'}")
    for page in ("report.md", "alignment.md"):
        if (root / page).exists():
            typer.echo(f"Report: {root / page}")


@app.command(epilog=example("st2llm predict runs/forecast --data los-loop --future 1h --out next-hour.csv"))
def predict(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|openai:URL#MODEL",
            help="A folder that pretrain, align or finetune wrote, hub:OWNER/NAME, or servers (URL,URL,...).",
        ),
    ],
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE|DIR",
            help="The .csv, .parquet or .json file of the predictions, else printed; with --shard a folder.",
        ),
    ] = None,
    future: Annotated[
        str | None,
        typer.Option(
            "--future", metavar="DURATION", help="Predict only what follows the end of the data, such as 24h."
        ),
    ] = None,
    horizon: Annotated[
        int | None, typer.Option("--horizon", metavar="N", min=1, help="The same as --future, in steps.")
    ] = None,
    top: Annotated[
        int,
        typer.Option("--top", metavar="K", min=1, help="Places, marks or classes listed for each answer."),
    ] = 1,
    format_name: Annotated[
        str | None,
        typer.Option("--format", metavar="csv|parquet|json", help="By default that of FILE, or csv."),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            metavar="KIND/TASK[.VARIANT]",
            help="The prompt of a language model on servers, or that was tuned on instructions.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Plot the last predictions into this PNG file."),
    ] = None,
    shard: Annotated[
        int | None,
        typer.Option(
            "--shard", metavar="N", min=1, help="Write the folder --out, N samples to a parquet file."
        ),
    ] = None,
    resume: ResumeOut = False,
    workers: Workers = 1,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", min=1, help="Requests in flight at each server.")
    ] = 8,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count prompts and tokens for servers, and ask none.")
    ] = False,
    price: Annotated[
        str | None,
        typer.Option(
            "--price", metavar="IN,OUT", help="Of a million tokens of prompts and of answers, for --dry-run."
        ),
    ] = None,
    llm: Llm = None,
) -> None:
    """Predict all windows of a data set, or with --future or --horizon what follows its end. Needs no labels.

    A language model on servers is asked in shards: --template, --shard and --out DIR.
    """
    from st2llm.model.checkpoint_folder import find_checkpoint

    if shard is not None or dry_run or checkpoint.startswith("openai:"):
        if future is not None or horizon is not None or plot is not None or format_name is not None:
            raise ConfigError(
                "Shards are parquet files of all of the data. Leave --future, --horizon, --plot and --format out."
            )
        model = checkpoint if checkpoint.startswith("openai:") else str(find_checkpoint(checkpoint))
        request = (model, data, template, top, shard or 1000, concurrency)
        if dry_run:
            _print_costs(request, price, llm, workers)
        else:
            _predict_shards(request, out, resume, workers)
        return
    folder = find_checkpoint(checkpoint)  # before torch is imported, which takes seconds
    from st2llm.commands.predict.run import PredictRequest, predict
    from st2llm.commands.predict.table import as_text, table_format, write_table
    from st2llm.data.describe.sample_plot import plot_predictions

    chosen = table_format(out, format_name)
    done = predict(PredictRequest(folder, data, future, horizon, template, top))
    if out is None:
        typer.echo(as_text(done.table, chosen), nl=False)
    else:
        write_table(out, done.table, chosen, done.fitted_on)
        typer.echo(f"{len(done.table):,} predictions in {out}")
    for note in done.notes():
        print_note(f"{note}.")
    if plot is not None:
        plot_predictions(done.samples, done.predictions, plot)
        typer.echo(f"Plot: {plot}", err=out is None)


def _predict_shards(
    settings: tuple[str, str, str | None, int, int, int], out: Path | None, resume: bool, workers: int
) -> None:
    from st2llm.commands.predict.shards import ShardRequest, predict_shards

    if out is None:
        raise ConfigError("Shards are written into a folder. Name it with --out.")
    with shard_progress() as on_shard:
        done = predict_shards(ShardRequest(*settings), out, resume=resume, workers=workers, on_shard=on_shard)
    typer.echo(f"{done.rows:,} predictions in {done.shards} shards ({done.kept} kept): {done.out}")
    if done.unread:
        print_note(f"{done.unread:,} of {done.rows:,} predictions could not be read.")


def _print_costs(
    settings: tuple[str, str, str | None, int, int, int], price: str | None, llm: str | None, workers: int
) -> None:
    from st2llm.commands.predict.cost import estimate_costs, parse_price
    from st2llm.commands.predict.shards import ShardRequest

    parsed = None if price is None else parse_price(price)
    costs = estimate_costs(ShardRequest(*settings), llm or "smollm2-135m", workers=workers)
    typer.echo("\n".join(costs.lines(parsed)))
    print_note(f"Tokens are those of {llm or 'smollm2-135m'}; --llm counts with another tokenizer.")


@app.command(epilog=example("st2llm push runs/questions ./tuned-model --merged"))
def push(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="A folder that pretrain, align or finetune wrote, or hub:OWNER/NAME."
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="FOLDER|hub:OWNER/NAME", help="A new folder, or a Hugging Face repository."),
    ],
    merged: Annotated[
        bool,
        typer.Option(
            "--merged", help="Write a plain language model with the adapters merged into its weights."
        ),
    ] = False,
) -> None:
    """Copy a checkpoint to a new folder, or upload it to a private repository of the Hugging Face hub."""
    from st2llm.model.checkpoint_folder import find_checkpoint

    folder = find_checkpoint(checkpoint)  # before torch is imported, which takes seconds
    from st2llm.model.push import push_checkpoint

    typer.echo(f"Pushed to {push_checkpoint(folder, target, merged=merged)}")
