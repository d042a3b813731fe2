"""Runs a suite: every arm on identical samples, planted controls beside it, records and a report of the answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console, Group
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from st2llm.data import load_data
from st2llm.data.windows import Splits, split
from st2llm.errors import ConfigError
from st2llm.evaluate.controls import Planted, plant
from st2llm.evaluate.gain import Scores
from st2llm.evaluate.records import best_reference, build_records, gains, load_arms, score_arms
from st2llm.evaluate.report import write_report
from st2llm.evaluate.runcard import run_card
from st2llm.evaluate.store import Store, read_json, read_lines, write_json, write_lines, write_table
from st2llm.evaluate.study import Study, Watch
from st2llm.evaluate.suite import BudgetSettings, PredictorSettings, Suite, WindowSettings, load_suites
from st2llm.evaluate.table import results_table, verdict_of
from st2llm.metrics import HIGHER_IS_BETTER
from st2llm.types import SensorGraph

CONTROL_RULES = ("hour-of-week", "ridge-deviation")
# Words that differ by the note alone: a frozen model reads each of them once.
CONTROL_INSTRUCTION = "graph/forecast.note"
_CONTROL_SEED = 7


@dataclass(frozen=True)
class Report:
    """What a comparison found, and the folder that holds it."""

    path: Path
    records: list[dict[str, Any]]
    scores: pd.DataFrame
    parts: tuple["Report", ...] = ()
    """The reports of a list of suites, each with a folder of its own; `path` then holds those folders."""

    @property
    def gains(self) -> dict[str, dict[str, Any]]:
        """gain_best and gain_pretraining of each arm with pretrained weights, pooled over seeds, by task/predictor.

        For a list of suites the names begin with the suite's id.
        """
        return {
            (f"{r['suite']}/" if self.parts else "") + f"{r['task']}/{r['predictor']}": {
                "best": r["gain_best"],
                "pretraining": r["gain_pretraining"],
            }
            for r in self.records
            if r["seed"] is None and r["gain_best"]
        }

    @property
    def verdict(self) -> str:
        if self.parts:
            return "\n".join(f"{part.path.name}: {part.verdict}" for part in self.parts)
        return verdict_of(self.path)

    @property
    def pages(self) -> list[Path]:
        """The report.html of each run."""
        return [page for part in self.parts for page in part.pages] or [self.path / "report.html"]

    def table(self) -> Table | Group:
        """The results as a table, for a list of suites one below another."""
        if self.parts:
            return Group(*(part.table() for part in self.parts))
        primary = read_json(self.path / "run.json")["suite"]["primary_metric"]
        return results_table(self.records, primary, width=Console().width)

    def save(self) -> Path:
        """Writes report.md and report.html again; the path of the page, or of the folder that holds the runs."""
        for part in self.parts:
            part.save()
        if self.parts:
            return self.path
        write_report(self.path)
        return self.path / "report.html"


def compare(
    suite: str | Path,
    *,
    data: str | None = None,
    llm: str | None = None,
    out: str | Path | None = None,
    limit: int | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Report:
    """Runs a suite (or a list of suites, each into its own folder below `out`) and reports.

    data, llm, limit override the suite's. out: by default runs/<suite id>. resume: goes on in `out`; finished arms are
    not run again. Raises ConfigError for names that do not exist, StorageError where results cannot be written.
    """
    suites = load_suites(suite)
    root = (
        Path(out)
        if out is not None
        else Path("runs") / (suites[0].id if len(suites) == 1 else Path(suite).stem)
    )
    if len(suites) > 1 and data is not None:
        raise ConfigError(
            f"--data needs a suite with one data set, but {suite} lists {len(suites)} suites. Run one of them."
        )
    planned = [_overridden(one, data=data, llm=llm, limit=limit) for one in suites]
    stores = [Store(root / one.id if len(suites) > 1 else root) for one in suites]
    for store in (Store(root), *stores):
        store.claim(resume=resume)
    found = [_run(one, store, progress=progress) for one, store in zip(planned, stores, strict=True)]
    if len(found) == 1:
        return found[0]
    scores = pd.concat([f.scores.assign(suite=one.id) for f, one in zip(found, suites, strict=True)])
    return Report(root, [r for f in found for r in f.records], scores, tuple(found))


def rescore(run: Path) -> Report:
    """Computes scores, records, controls and pages of a run folder again from its predictions. Nothing is trained.

    Raises ConfigError where the folder holds no run, or no finished arm.
    """
    store = _existing(run)
    card = read_json(run / "run.json")
    suite = Suite.model_validate(card["config"])
    records, scores = [], []
    for task in suite.tasks:
        arms = load_arms(store, suite, task.name, card["data"]["timezone"])
        if arms.facts:
            scores.append(score_arms(arms))
            records += build_records(arms, scores[-1])
    if not records:
        raise ConfigError(
            f"{run} has no finished arm yet. Go on with `st2llm compare ... --out {run} --resume`."
        )
    frame = pd.concat(scores, ignore_index=True)
    write_table(run / "scores.parquet", frame)
    write_lines(run / "results.jsonl", records)
    write_lines(run / "curves.jsonl", _curves(store.arms()))
    if suite.controls is not None and (run / "controls").is_dir():
        write_json(run / "controls.json", _judge(run, suite, card["data"]["timezone"]))
    hashes = {str(f["seed"]): f["encoder_sha256"] for f in store.arms() if f.get("encoder_sha256")}
    seconds = sum(f["wall_s"] for f in store.arms())
    write_json(run / "run.json", {**card, "encoder_sha256": hashes, "seconds": seconds})
    write_report(run)
    return Report(run, records, frame)


def load_report(run: Path) -> Report:
    """The records and scores of a finished run folder, as they are. Raises ConfigError where it holds no results."""
    _existing(run)
    if not (run / "results.jsonl").exists():
        raise ConfigError(f"{run} has no results.jsonl yet. Make it with `st2llm report {run} --rescore`.")
    return Report(run, read_lines(run / "results.jsonl"), pd.read_parquet(run / "scores.parquet"))


def _existing(run: Path) -> Store:
    if not (run / "run.json").is_file():
        raise ConfigError(
            f"{run} holds no run.json, so it is not the folder of a comparison. Give the --out of `compare`."
        )
    return Store(run)


def _overridden(suite: Suite, *, data: str | None, llm: str | None, limit: int | None) -> Suite:
    changes: dict[str, Any] = {}
    if data is not None:
        changes["data"] = data
    if llm is not None:
        if suite.llm is None:
            raise ConfigError(f"{suite.id} has no language model to replace by {llm!r}. Leave --llm out.")
        changes["llm"] = {**suite.llm.model_dump(), "name": llm}
    if limit is not None:
        changes["limit"] = limit
    return Suite.model_validate({**suite.model_dump(), **changes})


def _run(suite: Suite, store: Store, *, progress: bool) -> Report:
    data = load_data(suite.data)
    splits = [
        split(data, task, stride=suite.split.stride or task.horizon, context=suite.split.context)
        for task in suite.tasks
    ]
    with _watching(progress) as watch:
        studies = [Study(suite, data, t, s, watch) for t, s in zip(suite.tasks, splits, strict=True)]
        store.open(run_card(suite, data, splits[0], studies[0]))
        # Controls first: a suite that cannot see a planted gain is not worth its hours.
        if suite.controls is not None:
            for name in ("positive", "negative"):
                _run_control(suite, data, splits[0], store.root / "controls" / name, watch)
        for study in studies:
            for job in study.jobs():
                study.run(job, store)
    return rescore(store.root)


def _run_control(suite: Suite, data: SensorGraph, splits: Splits, folder: Path, watch: Watch) -> None:
    """One planted control as a comparison of its own, in a folder inside the run's."""
    settings = suite.controls
    if settings is None:
        return
    task = suite.tasks[0]
    planted = _planted(suite, data, splits, folder.name)
    made = split(planted.data, task, stride=suite.split.stride or task.horizon, context=suite.split.context)
    study = Study(control_suite(suite, planted), planted.data, task, made, watch)
    store = Store(folder)
    card = run_card(study.suite, planted.data, made, study)
    store.open({**card, "train_note": planted.train_note, "test_note": planted.test_note})
    for job in study.jobs():
        study.run(job, store)


def _planted(suite: Suite, data: SensorGraph, splits: Splits, which: str) -> Planted:
    settings = suite.controls
    if settings is None:
        raise ConfigError(f"{suite.id} plans no controls.")
    places = min(settings.places, len(data.places))
    return plant(data, list(splits.train), places=places, shuffled=which == "negative", seed=_CONTROL_SEED)


def control_suite(suite: Suite, planted: Planted) -> Suite:
    """The suite's own arms and budget rules on planted data: one seed, one learning rate, its two strongest rules."""
    settings = suite.controls
    if settings is None:
        raise ConfigError(f"{suite.id} plans no controls.")
    rules = [PredictorSettings(name=name, family="baseline") for name in CONTROL_RULES]
    arms = [suite.predictor(name) for name in settings.predictors]
    batch = suite.budget.batch if suite.budget else 8
    return suite.model_copy(
        update={
            "id": f"{suite.id}-{planted.data.name}",
            "data": planted.data.name,
            "instruction": CONTROL_INSTRUCTION,
            # The slot mean is what is known of a planted day without its note: arms that correct it start out level
            # with the best rule. (From a ridge, which reads the noise of the days before, they started out behind.)
            "skip": "slot",
            # An encoder warmed up on these notes would know them by heart, and every arm would start from there.
            "encoder": suite.encoder.model_copy(update={"warmup": None}),
            "predictors": [*rules, *arms],
            "seeds": suite.seeds[:1],
            "budget": BudgetSettings(steps=settings.steps, batch=batch, lr=[settings.lr]),
            "windows": WindowSettings(select="even", count=settings.windows),
            "controls": None,
            "limit": None,
        }
    )


def _judge(run: Path, suite: Suite, timezone: str) -> dict[str, Any]:
    """What each control found, and whether it came out as it should."""
    found = {}
    for name in ("positive", "negative"):
        folder = run / "controls" / name
        if not (folder / "run.json").is_file():
            continue
        card = read_json(folder / "run.json")
        planned = Suite.model_validate(card["config"])
        arms = load_arms(Store(folder), planned, suite.tasks[0].name, timezone)
        scores = Scores(score_arms(arms), suite.bootstrap.draws)
        llms = [p for p in arms.predictors if arms.of(p)[0]["pretrained"]]
        if not llms or best_reference(arms) is None:
            continue
        choose = max if suite.primary_metric in HIGHER_IS_BETTER else min
        best = choose(llms, key=lambda p: float(arms.of(p)[0]["validation"]))
        gain, pretraining = gains(arms, scores, best)
        both = [g for g in (gain, pretraining) if g is not None]
        found[name] = {
            "description": _CONTROL_WORDS[name],
            "train_note": card["train_note"],
            "test_note": card["test_note"],
            "llm_arm": best,
            "arms": [
                {
                    "predictor": p,
                    "backbone": arms.of(p)[0]["backbone"],
                    **scores.estimate(suite.primary_metric, p).to_json(),
                }
                for p in arms.predictors
            ],
            "gain_best": gain.to_json() if gain else None,
            "gain_pretraining": pretraining.to_json() if pretraining else None,
            "passed": len(both) == 2 and all(_as_planted(name, g.low, g.high) for g in both),
        }
    return found


_CONTROL_WORDS = {
    "positive": (
        "The level of each day is told by a note. Notes of training, validation and test share no phrase, so only "
        "weights that knew before which words mean the same carry the level over. Both gains must be above zero."
    ),
    "negative": "The same notes, shuffled over the days: they tell nothing. Both intervals must hold zero.",
}


def _as_planted(name: str, low: float | None, high: float | None) -> bool:
    if low is None or high is None:
        return False
    return low > 0 if name == "positive" else low <= 0 <= high


def _curves(facts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = ("predictor", "task", "seed")
    return [{**{k: f[k] for k in keys}, **curve} for f in facts for curve in f["curves"]]


@contextmanager
def _watching(show: bool) -> Iterator[Watch]:
    """Progress on stderr: in a terminal a bar for the job at hand with its time left, else a line a job."""
    console = Console(stderr=True)
    if not show:
        yield Watch()
        return
    if not console.is_terminal:
        yield Watch(begin=lambda label, steps: console.print(f"{label}: {steps} steps"))
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        jobs: list[TaskID] = []

        def begin(label: str, steps: int) -> None:
            jobs.append(bar.add_task(label, total=steps))

        yield Watch(begin, lambda step: bar.update(jobs[-1], completed=step))
