"""The command line: every command calls one function of the package and prints what it returns."""

import errno
import json
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from st2llm.errors import St2llmError

if TYPE_CHECKING:
    from st2llm.train.loop import Fit

app = typer.Typer(
    name="st2llm",
    help="Put spatio-temporal data into a language model, and find out whether it was worth it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Data sets: list, look at and fetch them.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Data = Annotated[
    str, typer.Option("--data", metavar="NAME|CARD", help="A known data set, or the path of a data card.")
]
Llm = Annotated[
    str | None,
    typer.Option("--llm", metavar="NAME", help="A language model: smollm2-135m, a hub id or a folder."),
]

Recipe_ = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of one in alignment/configs/.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as budget.steps=500."),
]
RunOut = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where the run goes; default runs/<id>.")
]
RunResume = Annotated[bool, typer.Option("--resume", help="Go on with the run in DIR.")]


def _example(command: str) -> str:
    return f"Example: {command}"


def _print_version(wanted: bool) -> None:
    if wanted:
        import st2llm

        typer.echo(f"st2llm {st2llm.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Put spatio-temporal data into a language model, and find out whether it was worth it."""


@data_app.command("list", epilog=_example("st2llm data list"))
def data_list() -> None:
    """The data sets that have a card, and whether their files are here."""
    from st2llm.commands import catalog

    _table(["name", "kind", "here", "about"], [item.row() for item in catalog.items()])


@data_app.command("show", epilog=_example("st2llm data show auckland-pedestrians --plot counts.png"))
def data_show(
    name: Annotated[
        str, typer.Argument(metavar="NAME|CARD", help="A known data set, or the path of a data card.")
    ],
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the data into this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """What a data set holds: shape, span, gaps, dependence in time and space, split and licence."""
    from st2llm.data import load_data
    from st2llm.data.describe import describe, rows
    from st2llm.data.describe import plot as draw

    data = load_data(name)
    facts = describe(data)
    if plot is not None:
        draw(data, plot)
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, allow_nan=False))
    else:
        _table(["what", "value"], [[escape(key), escape(value)] for key, value in rows(facts)], whole=True)
    if plot is not None:
        typer.echo(f"Drawn into {plot}", err=as_json)


@data_app.command(
    "instruct",
    epilog=_example(
        "st2llm data instruct auckland-pedestrians --out sets/auckland --task question-answer.chat"
    ),
)
def data_instruct(
    name: Annotated[
        str, typer.Argument(metavar="NAME|CARD", help="A known data set, or the path of a data card.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the shards are written.")],
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task", metavar="TASK[.VARIANT]", help="A template of the data's kind; may be repeated."
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", metavar="N", min=1, help="Rows of each template; all samples without it."),
    ] = None,
    shard: Annotated[int, typer.Option("--shard", metavar="N", min=1, help="Rows of a file.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Draws places and questions.")] = 0,
    part: Annotated[
        str, typer.Option("--part", metavar="PART", help="train, validation or test, never mixed.")
    ] = "train",
    budget: Annotated[
        int | None, typer.Option("--budget", metavar="TOKENS", help="Drop parts of prompts until they fit.")
    ] = None,
    llm: Llm = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the set in --out; finished shards are kept.")
    ] = False,
) -> None:
    """Write prompts with their true answers as a Hugging Face data set, for training on instructions."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from st2llm.commands.instruct import Order, instruct, known_parts

    order = Order(name, tuple(task or ()), count, shard, seed, known_parts(part), budget, llm)
    columns = (
        TextColumn("shards"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        shown = bar.add_task("shards", total=None)
        done = instruct(
            order, out, resume=resume, say=lambda at, of: bar.update(shown, completed=at, total=of)
        )
    left = f", {done.left_out} left out without a true answer" if done.left_out else ""
    typer.echo(f"{done.rows} rows in {done.shards} shards ({done.kept} kept){left}: {done.out}")


@data_app.command("fetch", epilog=_example("st2llm data fetch auckland-pedestrians smollm2-135m"))
def data_fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Data sets and language models.")],
) -> None:
    """Download what is missing into the cache, and check it."""
    from st2llm.commands import catalog

    for name in names:
        if sys.stderr.isatty():
            typer.echo(f"Fetching {name}", err=True)
        typer.echo(f"{name}: {catalog.fetch(name)}")


@app.command(
    epilog=_example(
        "st2llm prompt graph/forecast --data auckland-pedestrians --place 45-queen-street --llm smollm2-135m"
    )
)
def prompt(
    template: Annotated[
        str, typer.Argument(metavar="KIND/TASK[.VARIANT]", help="A template below prompts/.")
    ],
    data: Data,
    llm: Llm = None,
    index: Annotated[int, typer.Option("--index", metavar="N", help="Which sample of the test part.")] = 0,
    place: Annotated[
        str | None, typer.Option("--place", metavar="ID", help="Ask for this place alone.")
    ] = None,
    history: Annotated[
        int | None, typer.Option("--history", metavar="N", help="Steps that are seen.")
    ] = None,
    horizon: Annotated[
        int | None, typer.Option("--horizon", metavar="N", help="Steps that are asked for.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option("--budget", metavar="TOKENS", help="Drop parts until it fits.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    lint: Annotated[bool, typer.Option("--lint", help="Look for leaks; exit 1 where there are any.")] = False,
) -> None:
    """The prompt a language model would be given for one test sample; --llm counts its tokens."""
    from st2llm.commands.prompt import Question, ask

    asked = ask(
        Question(
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


@app.command(
    epilog=_example("st2llm pretrain los-loop-masked --set budget.steps=500 --out runs/masked --resume")
)
def pretrain(
    recipe: Recipe_,
    changes: Changes = None,
    out: RunOut = None,
    resume: RunResume = False,
) -> None:
    """Train an encoder without a language model: what is next, what was hidden, what is alike, what is noise."""
    from st2llm.config.model import Recipe
    from st2llm.evaluate.run.progress import watching
    from st2llm.train import pretrain as module
    from st2llm.train.checkpointing import is_main
    from st2llm.train.recipes import load_recipe, read_changes

    settings = load_recipe(recipe, read_changes(changes or []), into=Recipe)
    root = out or Path("runs") / settings.id
    with watching(is_main()) as watch:
        watch.begin(settings.id, settings.budget.steps)
        done = module.pretrain(settings, root, resume=resume, tick=watch.reach)
    _say_trained(done, root)


@app.command(epilog=_example("st2llm align align-graph --set budget.steps=100 --out runs/align --resume"))
def align(
    recipe: Recipe_,
    changes: Changes = None,
    out: RunOut = None,
    resume: RunResume = False,
) -> None:
    """Bring an encoder into a frozen language model's space, and report what that did."""
    from st2llm.commands.align import align_and_report
    from st2llm.config.training import read_aligning
    from st2llm.evaluate.run.progress import watching
    from st2llm.train.checkpointing import is_main
    from st2llm.train.recipes import load_recipe, read_changes

    settings = load_recipe(recipe, read_changes(changes or []), into=read_aligning)
    root = out or Path("runs") / settings.id
    with watching(is_main()) as watch:
        done = align_and_report(settings, root, resume=resume, watch=watch)
    _say_trained(done, root)


@app.command(
    epilog=_example("st2llm finetune questions-graph --set budget.steps=100 --out runs/questions --resume")
)
def finetune(
    recipe: Recipe_,
    changes: Changes = None,
    out: RunOut = None,
    resume: RunResume = False,
) -> None:
    """Train part of a language model (LoRA, QLoRA, norms, all): on instructions, or behind soft tokens."""
    from st2llm.commands.finetune import tune
    from st2llm.config.training import read_tuning
    from st2llm.evaluate.run.progress import watching
    from st2llm.train.checkpointing import is_main
    from st2llm.train.recipes import load_recipe, read_changes

    settings = load_recipe(recipe, read_changes(changes or []), into=read_tuning)
    root = out or Path("runs") / settings.id
    with watching(is_main()) as watch:
        done = tune(settings, root, resume=resume, watch=watch)
    _say_trained(done, root)


def _say_trained(done: "Fit", root: Path) -> None:
    """What a finished run has come to."""
    from st2llm.train.checkpointing import is_main

    if not is_main():
        return
    state = "converged" if done.curve.converged else "not converged"
    typer.echo(f"Best validation value {done.curve.best:.6g} ({state}) after {done.curve.step[-1]} steps.")
    typer.echo(f"Checkpoint: {root / 'best'}")
    for page in ("report.md", "alignment.md"):
        if (root / page).exists():
            typer.echo(f"Report: {root / page}")


@app.command(epilog=_example("st2llm predict runs/masked --data los-loop --out answers.parquet"))
def predict(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A folder that pretrain, align or finetune wrote.")
    ],
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.parquet", help="Where the answers go.")],
) -> None:
    """Answer with a checkpoint, one row an asked entry, all of the data and what comes next. Needs no labels."""
    from st2llm.commands.predict import answer

    count = answer(checkpoint, data, out)
    typer.echo(f"{count:,} answers in {out}")


@app.command(epilog=_example("st2llm push runs/questions ./tuned-model --merged"))
def push(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A folder that pretrain, align or finetune wrote.")
    ],
    target: Annotated[str, typer.Argument(metavar="FOLDER|hub:OWNER/NAME", help="Where it goes.")],
    merged: Annotated[
        bool, typer.Option("--merged", help="One plain language model, what was trained in its weights.")
    ] = False,
) -> None:
    """Hand a checkpoint on: to a new folder or a hub, as it is or merged into one model."""
    from st2llm.model.push import push as hand_on

    typer.echo(f"Pushed to {hand_on(checkpoint, target, merged=merged)}")


@app.command(epilog=_example("st2llm compare evaluation/suites/demo.yaml --out runs/demo --resume"))
def compare(
    suite: Annotated[
        str, typer.Argument(metavar="SUITE", help="A suite file, or the name of one in evaluation/suites.")
    ],
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="NAME|CARD", help="Other data for a suite with one data set."),
    ] = None,
    llm: Llm = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the run is written.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="At most N test windows.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out; no finished arm repeats.")
    ] = False,
) -> None:
    """Compare language-model arms with primitive arms and baselines on identical samples."""
    from st2llm.evaluate.run.plan import Overrides, make

    make(suite, Overrides(data, llm, limit), out=out, resume=resume)  # refused before torch is loaded
    from st2llm.evaluate.run.compare import compare as run

    report = run(suite, data=data, llm=llm, out=out, limit=limit, resume=resume)
    Console().print(report.table())
    typer.echo("\n".join([report.verdict, *(f"Report: {page}" for page in report.pages)]))


@app.command(epilog=_example("st2llm report runs/demo"))
def report(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that compare wrote.")],
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Compute the scores anew from the predictions.")
    ] = False,
) -> None:
    """Write report.md and report.html of a run anew."""
    if rescore:
        from st2llm.evaluate.scoring.rescore import rescore as score_anew

        score_anew(run)
    else:
        from st2llm.evaluate.report.write import write_report

        write_report(run)
    typer.echo(f"Report: {run / 'report.html'}")


@app.command(epilog=_example("st2llm doctor"))
def doctor() -> None:
    """What is installed, what is cached and what is missing."""
    from st2llm.commands.doctor import examine

    rows = [
        [fact.group, fact.name, fact.value if fact.well else f"[red]{fact.value}[/red]"] for fact in examine()
    ]
    _table(["", "what", "found"], rows)


def _table(head: list[str], rows: list[list[str]], *, whole: bool = False) -> None:
    """Prints a table. whole: the first column is never cut, however narrow the screen."""
    table = Table(*head, box=None, pad_edge=False)
    if whole:
        table.columns[0].no_wrap, table.columns[0].min_width = True, max(len(row[0]) for row in rows)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


def _say(error: Exception) -> str:
    """One message for one error: what was expected, what came, where, what to do."""
    if isinstance(error, St2llmError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        where = f" for {error.filename}" if error.filename else ""
        return f"There is no room left on the disk{where}. Free some and run the same command again."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename or 'no file named'}. Give a path that can be used."
    what = f"{type(error).__name__}: {error}"
    return f"Unexpected {what}. This is a fault in st2llm: run again with --debug and report what it shows."


def main(arguments: list[str] | None = None) -> None:
    """Leaves with 0 for done, 1 for failed, 2 for a command not understood, 130 for an interrupt."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=[word for word in given if word != "--debug"])  # so that it may stand anywhere
    except KeyboardInterrupt:
        sys.exit(_interrupted())
    except SystemExit as leaving:
        sys.exit(_interrupted() if leaving.code == 130 else leaving.code)
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        typer.echo(f"error: {_say(error)}", err=True)
        sys.exit(1)


def _interrupted() -> int:
    typer.echo(
        "Interrupted. What was finished is kept: `st2llm compare ... --resume` goes on from there.", err=True
    )
    return 130
