"""Positive and negative controls of a suite: comparisons on planted data, in folders inside that of the run."""

from pathlib import Path

from st2llm.config.predictors import BootstrapSettings, PredictorSettings, SuiteBudget, WindowSettings
from st2llm.config.suite import Suite
from st2llm.data.windows import split
from st2llm.errors import ConfigError
from st2llm.evaluate.controls.daily_notes import plant_daily_notes
from st2llm.evaluate.controls.sample_notes import plant_sample_notes
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.run_card import run_card
from st2llm.evaluate.run.study import Study
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.types import DAY_S, Container, SensorGraph

CONTROL_RULES = {
    "graph": ("hour-of-week", "ridge-deviation"),
    "grid": ("mean", "last-value"),
    "video": ("mean", "last-value"),
    "forecast": ("constant-velocity", "last-position"),
    "next-place": ("counts", "counts-transitions"),
    "next-event": ("median-gap", "homogeneous-rate"),
}
"""The rules of a control: by kind of field, or by task of sequences."""
_CONTROL_SEED = 7


def run_control(inputs: Inputs, folder: Path) -> None:
    """Runs one planted control of a suite in a folder named `positive` or `negative`.

    inputs: those of the first task. Does nothing where the suite sets no controls.
    """
    suite = inputs.suite
    if suite.controls is None:
        return
    shuffled = folder.name == "negative"
    days = whole_day_data(suite, inputs.data)
    planted, notes = _planted(inputs, days, shuffled=shuffled)
    control = control_suite(suite, folder.name, by_day=days is not None)
    study = Study(Inputs(control, planted, inputs.reporter))
    store = RunStore(folder)
    store.open({**run_card(study.inputs), "train_note": notes[0], "test_note": notes[1]})
    for job in study.jobs():
        study.run(job, store)


def _planted(inputs: Inputs, days: SensorGraph | None, *, shuffled: bool) -> tuple[TaskData, tuple[str, str]]:
    """The planted data, and a note of its training and of its test part."""
    suite, task, splits = inputs.suite, inputs.task, inputs.splits
    if days is None or suite.controls is None:
        planted = plant_sample_notes(splits, shuffled=shuffled, seed=_CONTROL_SEED)
        return TaskData(inputs.data, task, planted), (
            planted.train[0].side.notes[0],
            planted.test[0].side.notes[0],
        )
    places = min(suite.controls.places, len(days.places))
    notes = plant_daily_notes(
        days, splits.train.cached(), places=places, shuffled=shuffled, seed=_CONTROL_SEED
    )
    planted = split(notes.data, task, stride=suite.stride_of(task), context=suite.split.context)
    return TaskData(notes.data, task, planted), (notes.train_note, notes.test_note)


def whole_day_data(suite: Suite, data: Container) -> SensorGraph | None:
    """The data, if they are a graph and each window predicts at least a whole day; else None."""
    horizon = int(getattr(suite.tasks[0], "horizon", 0))
    return data if isinstance(data, SensorGraph) and horizon * data.freq_s >= DAY_S else None


def control_suite(suite: Suite, name: str, *, by_day: bool) -> Suite:
    """The suite of a control: two rules and the arms that the suite names for it, one seed, one learning rate.

    by_day: whether each day has a level (`plant_daily_notes`), or each sample (`plant_sample_notes`).
    """
    settings = suite.controls
    if settings is None:
        raise ConfigError(f"{suite.id} sets no `controls`.")
    word = suite.tasks[0].type
    rule_names = CONTROL_RULES[suite.kind if suite.kind in CONTROL_RULES else word]
    rules = [PredictorSettings(name=rule, family="baseline") for rule in rule_names]
    arms = [suite.predictor(name) for name in settings.predictors]
    batch = suite.budget.batch if suite.budget else 8
    return suite.model_copy(
        update={
            "id": f"{suite.id}-{name}-control",
            # Instructions differ by the note alone, so a frozen model encodes few texts.
            "instruction": f"{suite.kind}/{word}.note",
            # Without its note, a planted day is best predicted by the slot mean, so arms that correct it start level
            # with the best rule. (Correcting a ridge, which fits the noise of earlier days, they started behind.)
            "skip": "slot" if by_day else suite.skip if suite.kind == "trajectory" else "none",
            "bootstrap": suite.bootstrap if by_day else BootstrapSettings(block="sample"),
            # An encoder warmed up on planted data would have memorised the notes before any arm is trained.
            "encoder": suite.encoder.model_copy(update={"warmup": None}),
            "predictors": [*rules, *arms],
            "seeds": suite.seeds[:1],
            "budget": SuiteBudget(steps=settings.steps, batch=batch, lr=[settings.lr]),
            "windows": WindowSettings(select="even", count=settings.windows),
            "controls": None,
            "limit": None,
        }
    )
