"""Runs a suite: every arm on identical samples, planted controls beside it, records and a report of the answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from st2llm.config.predictors import BootstrapSettings, PredictorSettings, SuiteBudget, WindowSettings
from st2llm.config.suite import Suite
from st2llm.data import load_data
from st2llm.data.calendar import local_iso
from st2llm.data.windows import split
from st2llm.data.windows.splits import Splits
from st2llm.errors import ConfigError
from st2llm.evaluate.controls.daily_notes import plant_daily_notes
from st2llm.evaluate.controls.faults import Fault, inject_faults, read_faults
from st2llm.evaluate.controls.sample_notes import plant_sample_notes
from st2llm.evaluate.report.run_report import Report, rescore
from st2llm.evaluate.run import plan
from st2llm.evaluate.run.data_summary import first_object
from st2llm.evaluate.run.progress import ProgressReporter, show_progress
from st2llm.evaluate.run.run_card import run_card
from st2llm.evaluate.run.study import Study
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.predict import Predictor
from st2llm.types import DAY_S, Container, SensorGraph

CONTROL_RULES = {
    "graph": ("hour-of-week", "ridge-deviation"),
    "grid": ("mean", "last-value"),
    "video": ("mean", "last-value"),
    "forecast": ("constant-velocity", "last-position"),
    "next-place": ("counts", "counts-transitions"),
    "next-event": ("median-gap", "homogeneous-rate"),
}
"""By kind of field, or by task of sequences."""
_CONTROL_SEED = 7


def compare(
    suite: str | Path,
    *,
    data: str | None = None,
    llm: str | None = None,
    out: str | Path | None = None,
    limit: int | None = None,
    resume: bool = False,
    progress: bool = True,
    predictors: Sequence[Predictor] = (),
) -> Report:
    """Runs a suite (or a list of suites, each into its own folder below `out`) and reports.

    predictors: others that stand beside those of the suite (see `st2llm.wrap`), as arms without a language model.
    data, llm, limit override the suite's. out: by default runs/<suite id>. resume: goes on in `out`; finished arms are
    not run again. Raises ConfigError for names that do not exist, StorageError where results cannot be written.
    """
    names = tuple(predictor.name for predictor in predictors)
    changes = plan.Overrides(data=data, llm=llm, limit=limit, given=names)
    planned = plan.make(suite, changes, out=out, resume=resume)
    found = [
        _run(one, store, predictors, progress=progress)
        for one, store in zip(planned.suites, planned.stores, strict=True)
    ]
    if len(found) == 1:
        return found[0]
    scores = pd.concat([f.scores.assign(suite=one.id) for f, one in zip(found, planned.suites, strict=True)])
    return Report(planned.root, tuple(r for f in found for r in f.results), scores, tuple(found))


def _run(suite: Suite, store: RunStore, given: Sequence[Predictor], *, progress: bool) -> Report:
    data, faults = _with_faults(suite, _loaded(suite))
    splits = [
        split(data, task, stride=suite.stride_of(task), context=suite.split.context) for task in suite.tasks
    ]
    with show_progress(progress) as reporter:
        studies = [
            Study(suite, data, t, s, reporter, given, faults)
            for t, s in zip(suite.tasks, splits, strict=True)
        ]
        store.open({**run_card(suite, data, splits[0], studies[0]), **_told(data, faults)})
        # Controls first: a suite that cannot see a planted gain is not worth its hours.
        if suite.controls is not None:
            for name in ("positive", "negative"):
                _run_control(suite, data, splits[0], store.root / "controls" / name, reporter)
        for study in studies:
            for job in study.jobs():
                study.run(job, store)
    return rescore(store.root)


def _loaded(suite: Suite) -> Container:
    """The suite's data. Raises ConfigError where they are of another kind than the suite's."""
    data = load_data(suite.data)
    if (kind := first_object(data).kind) != suite.kind:
        raise ConfigError(
            f"{suite.id} is a suite of kind {suite.kind}, but {suite.data} is of kind {kind}. Correct `kind`, or "
            f"take other data."
        )
    return data


def _with_faults(suite: Suite, data: Container) -> tuple[Container, tuple[Fault, ...]]:
    """The data with the faults that are to be found, and which these are."""
    asked = suite.faults
    if asked is None or not isinstance(data, SensorGraph):
        return data, ()
    if asked.planted is not None:
        return inject_faults(data, asked.planted, seed=asked.seed)
    return data, read_faults(Path(str(asked.documented)), data)


def _told(data: Container, faults: Sequence[Fault]) -> dict[str, Any]:
    """The faults as run.json holds them: steps of the data, the last one included."""
    if not isinstance(data, SensorGraph) or not faults:
        return {}
    rows = [
        {
            "place": data.places[fault.node],
            "start": local_iso(int(data.time[fault.start]), data.timezone),
            "end": local_iso(int(data.time[fault.stop - 1]), data.timezone),
            "kind": fault.kind,
        }
        for fault in faults
    ]
    return {"faults": rows}


def _run_control(
    suite: Suite, data: Container, splits: Splits, folder: Path, reporter: ProgressReporter
) -> None:
    """One planted control as a comparison of its own, in a folder inside the run's."""
    settings = suite.controls
    if settings is None:
        return
    task, shuffled = suite.tasks[0], folder.name == "negative"
    days = with_days(suite, data)
    if days is not None:
        places = min(settings.places, len(days.places))
        planted = plant_daily_notes(
            days, list(splits.train), places=places, shuffled=shuffled, seed=_CONTROL_SEED
        )
        data, notes = planted.data, (planted.train_note, planted.test_note)
        made = split(data, task, stride=suite.stride_of(task), context=suite.split.context)
    else:
        made = plant_sample_notes(splits, shuffled=shuffled, seed=_CONTROL_SEED)
        notes = (made.train[0].side.notes[0], made.test[0].side.notes[0])
    controlled = control_suite(suite, folder.name, by_day=days is not None)
    study = Study(controlled, data, task, made, reporter)
    store = RunStore(folder)
    card = run_card(study.suite, data, made, study)
    store.open({**card, "train_note": notes[0], "test_note": notes[1]})
    for job in study.jobs():
        study.run(job, store)


def with_days(suite: Suite, data: Container) -> SensorGraph | None:
    """The data, if each window of a suite asks about a whole day at least, which a day's level can be planted into."""
    horizon = int(getattr(suite.tasks[0], "horizon", 0))
    return data if isinstance(data, SensorGraph) and horizon * data.freq_s >= DAY_S else None


def control_suite(suite: Suite, name: str, *, by_day: bool) -> Suite:
    """The suite's own arms and budget rules on planted data: one seed, one learning rate, two rules.

    by_day: days have a level each, as `controls.plant` makes them; if not, each sample has one of its own.
    """
    settings = suite.controls
    if settings is None:
        raise ConfigError(f"{suite.id} plans no controls.")
    word = suite.tasks[0].word
    known = CONTROL_RULES[suite.kind if suite.kind in CONTROL_RULES else word]
    rules = [PredictorSettings(name=rule, family="baseline") for rule in known]
    arms = [suite.predictor(name) for name in settings.predictors]
    batch = suite.budget.batch if suite.budget else 8
    return suite.model_copy(
        update={
            "id": f"{suite.id}-{name}-control",
            # Words that differ by the note alone: a frozen model reads each of them once.
            "instruction": f"{suite.kind}/{word}.note",
            # The slot mean is what is known of a planted day without its note: arms that correct it start out level
            # with the best rule. (From a ridge, which reads the noise of the days before, they started out behind.)
            "skip": "slot" if by_day else suite.skip if suite.kind == "trajectory" else "none",
            "bootstrap": suite.bootstrap if by_day else BootstrapSettings(block="sample"),
            # An encoder warmed up on these notes would know them by heart, and every arm would start from there.
            "encoder": suite.encoder.model_copy(update={"warmup": None}),
            "predictors": [*rules, *arms],
            "seeds": suite.seeds[:1],
            "budget": SuiteBudget(steps=settings.steps, batch=batch, lr=[settings.lr]),
            "windows": WindowSettings(select="even", count=settings.windows),
            "controls": None,
            "limit": None,
        }
    )
