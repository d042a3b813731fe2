"""Planted controls of a suite: its own comparison on planted truths, in folders inside that of the run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save

from st2llm.config.predictors import ControlSettings
from st2llm.config.suite import Suite
from st2llm.data.windows.splits import Splits, evenly_spaced
from st2llm.encode.scaler import fit_scaler
from st2llm.errors import ConfigError
from st2llm.evaluate.controls.effects import Effect, FieldEffect, GapEffect, PathEffect, PlaceEffect
from st2llm.evaluate.controls.sample_notes import Planting, plant_splits
from st2llm.evaluate.controls.strength import find_amount
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.run_card import run_card
from st2llm.evaluate.run.samples import subsample_places
from st2llm.evaluate.run.study import Study
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.evaluate.scoring.score_table import build_score_table
from st2llm.evaluate.scoring.totals import score
from st2llm.files import write_atomically
from st2llm.metrics import is_higher_better
from st2llm.model.arm import EncoderWithHead
from st2llm.predict.baselines import BaselinePredictor, fit_baseline
from st2llm.predict.baselines.movement import VisitCounts
from st2llm.predict.preprocess.field import SKIPS
from st2llm.serialize.template.template import load_prompt
from st2llm.types import Prediction, Sample

_CONTROL_SEED = 7
_COMMON_GAIN = 0.2
"""What knowing the effect of the negative control gains, which is the same in all its samples."""

_FEWEST_WINDOWS, _MOST_WINDOWS = 60, 1000
"""Windows on which the size of an effect is found: the most where a window asks for few values. The gaps between events
are heavy-tailed, so that sixty of them do not tell their mean error.
"""
_MOST_VALUES = 150_000
"""Wanted values in these windows at most, beyond the fewest windows."""


@dataclass(frozen=True)
class Control:
    """A planted control of a suite. source: the study of the suite's first task, and the folder of its run.

    study: the jobs of the control, on planted data, whose results are stored in `store`.
    """

    source: tuple[Study, RunStore]
    study: Study
    store: RunStore
    splits: Splits
    planting: Planting
    strength: float

    def open(self, *, join: bool = False) -> None:
        """Writes run.json of the control, or resumes its run. join: other processes are running it now."""
        inputs, (source, _) = self.study.inputs, self.source
        real = TaskData(source.inputs.data, inputs.task, source.inputs.splits)
        unplanted = Inputs(inputs.suite, real, inputs.reporter, models=inputs.models)
        notes = {
            f"{part}_note": samples[0].side.notes[0]
            for part, samples in (("train", self.splits.train), ("test", self.splits.test))
        }
        card = {
            **run_card(inputs),
            **notes,
            "planted": _planted_json(unplanted, self.planting, self.strength),
        }
        if join and self.store.exists:
            self.store.join(card)
        else:
            self.store.open(card)

    def prepare_encoder(self, seed: int) -> None:
        """Gives the arms of a seed the encoder that the suite warmed up on the real data.

        An encoder that is warmed up on planted data memorises the notes. Its embeddings of note words are the initial
        ones.
        """
        path = self.study.trained.arms.encoder_path(seed, self.store)
        if self.study.inputs.suite.encoder.warmup is None or path.exists():
            return
        source, store = self.source
        warm = source.trained.arms.initial_encoder(seed, store) or {}
        blueprint = self.study.trained.arms.training.of(seed).blueprint()
        fresh = EncoderWithHead(blueprint, seed=seed).encoder.state_dict()
        state = {name: fresh[name] if name.endswith("notes.weight") else warm[name] for name in warm}
        content = save({name: tensor.contiguous() for name, tensor in state.items()})
        write_atomically(path, partial(Path.write_bytes, data=content))


def make_control(study: Study, store: RunStore, name: str) -> Control:
    """A control of a suite, planted; its folder is inside that of the run. study: that of the suite's first task.

    Raises ConfigError for a strength that the data do not allow, and where the suite's instruction shows no notes.
    """
    inputs, strength = study.inputs, _settings(study.inputs.suite).by_name[name]
    planting = _planting(inputs, strength)
    splits = plant_splits(inputs.splits, planting)
    data = TaskData(inputs.data, inputs.task, splits)
    control = Study(Inputs(control_suite(inputs.suite, name), data, inputs.reporter, models=inputs.models))
    folder = RunStore(store.root / "controls" / name)
    return Control((study, store), control, folder, splits, planting, strength)


def control_names(suite: Suite) -> tuple[str, ...]:
    """The names of the controls of a suite, in the order in which they run."""
    return () if suite.controls is None else tuple(suite.controls.by_name)


def run_controls(study: Study, store: RunStore) -> None:
    """Runs the planted controls of a suite below `controls` in its folder; see `make_control`."""
    for name in control_names(study.inputs.suite):
        control = make_control(study, store, name)
        control.open()
        for seed in control.study.inputs.suite.seeds:
            control.prepare_encoder(seed)
        for job in control.study.jobs():
            control.study.run(job, control.store)


def control_suite(suite: Suite, name: str) -> Suite:
    """The suite of a control: the same pipeline, with the note in the instruction, and the predictors that it names.

    No rule takes part: the one from which the truth is made cannot be beaten without the note, and would be the
    reference of every gain.
    """
    settings = _settings(suite)
    windows = suite.windows
    if settings.windows is not None:
        windows = windows.model_copy(update={"select": "even", "count": settings.windows})
    return suite.model_copy(
        update={
            "id": f"{suite.id}-{name}-control",
            "instruction": instruction_with_notes(suite),
            "predictors": [suite.predictor(predictor) for predictor in settings.predictors],
            "seeds": settings.seeds or suite.seeds,
            "windows": windows,
            "controls": None,
        }
    )


def instruction_with_notes(suite: Suite) -> str:
    """The suite's instruction if it shows notes, else the same with notes: `<kind>/<task>.note` for the usual one.

    Raises ConfigError for another instruction without notes.
    """
    usual = f"{suite.kind}/{suite.tasks[0].type}.soft"
    name = suite.instruction or usual
    if "notes" in load_prompt(name).head.variables:
        return name
    if name != usual:
        raise ConfigError(
            f"{suite.id}: the instruction {name} does not show notes, which planted controls need. Add `notes` to its "
            f"variables and a loop over them to its text, or leave `controls` out."
        )
    return f"{usual.removesuffix('.soft')}.note"


def untrained_rule(suite: Suite) -> str:
    """The rule whose forecast is that of the suite's untrained arms."""
    task, skip = suite.tasks[0].type, str(suite.skip)
    if suite.kind in ("trajectory", "event"):
        starts = {"forecast": "constant-velocity", "recover": "straight-line", "next-event": "median-gap"}
        return starts.get(task, "counts-context" if skip == "none" else skip)
    if skip != "none":
        return SKIPS[skip]
    return "hour-of-week" if suite.encoder.center_on == "slot" else "mean"


def _settings(suite: Suite) -> ControlSettings:
    if suite.controls is None:
        raise ConfigError(f"{suite.id} sets no `controls`.")
    return suite.controls


def _planting(inputs: Inputs, strength: float) -> Planting:
    """How a control plants: with an effect of the size at which a perfect use of the note gains `strength`.

    At a strength of 0, with the same effect in all samples, which each arm can learn and of which no note tells.
    """
    rule = fit_baseline(untrained_rule(inputs.suite), inputs.train)
    planting = Planting(rule, _effect(inputs, rule), 0.0, _CONTROL_SEED, common=strength == 0)
    if planting.common and isinstance(planting.effect, PlaceEffect):
        return replace(planting, amount=1.0)
    samples = _windows_for_size(inputs)
    forecasts = [planting.forecast(sample) for sample in samples]

    def gain(amount: float) -> float:
        return _gain(inputs, *_errors(inputs, replace(planting, amount=amount), samples, forecasts))

    most = 1.0 if isinstance(planting.effect, PlaceEffect) else 2.0**20
    return replace(planting, amount=find_amount(strength or _COMMON_GAIN, gain, most=most))


def _effect(inputs: Inputs, rule: BaselinePredictor) -> Effect:
    if isinstance(rule.rule, VisitCounts):
        return PlaceEffect(rule.rule)
    if inputs.task.type == "next-event":
        gap = inputs.train[0].side.channels.index("gap_h")
        gaps = np.array([np.asarray(sample.truth)[-1, 0, gap] for sample in inputs.train])
        return GapEffect(gaps[np.isfinite(gaps)])
    if inputs.suite.kind == "trajectory" and inputs.task.type == "forecast":
        return PathEffect()
    return FieldEffect(fit_scaler(inputs.train).std)


def _windows_for_size(inputs: Inputs) -> list[Sample]:
    """Evenly spaced validation windows, and training windows where these are too few."""
    places = inputs.suite.validation.places
    values = int(subsample_places(inputs.train[0], places).wanted.sum())
    count = int(np.clip(_MOST_VALUES // max(1, values), _FEWEST_WINDOWS, _MOST_WINDOWS))
    samples = [subsample_places(sample, places) for sample in evenly_spaced(inputs.validation, count)]
    if missing := count - len(samples):
        samples += [subsample_places(sample, places) for sample in evenly_spaced(inputs.train, missing)]
    return samples


def _errors(
    inputs: Inputs, planting: Planting, samples: Sequence[Sample], forecasts: Sequence[Prediction]
) -> tuple[float, float]:
    """The primary metric of the rule, which knows no note, and of a perfect use of the notes (of a common effect)."""
    pairs = [planting.plant_from(s, f, "test") for s, f in zip(samples, forecasts, strict=True)]
    planted = [sample for sample, _ in pairs]
    metric = inputs.suite.primary_metric
    # At the usual level: an effect may have a mean that arms learn without the note.
    usual = (
        list(forecasts)
        if planting.common
        else [
            planting.effect.informed(s, f, 0, planting.amount)
            for s, f in zip(samples, forecasts, strict=True)
        ]
    )
    tables = (build_score_table(planted, rows) for rows in (usual, [informed for _, informed in pairs]))
    without, informed = (score(table, (metric,), inputs.channels)[metric] for table in tables)
    return without, informed


def _gain(inputs: Inputs, without: float, informed: float) -> float:
    higher = is_higher_better(inputs.suite.primary_metric)
    return informed - without if higher else (without - informed) / without


def _planted_json(inputs: Inputs, planting: Planting, strength: float) -> dict[str, Any]:
    """What was planted: the primary metric without the note and with a perfect use of it.

    inputs: the control's, with the real test windows.
    """
    samples = inputs.test_samples(inputs.suite.predictors[0])
    forecasts = [planting.forecast(sample) for sample in samples]
    without, informed = _errors(inputs, planting, samples, forecasts)
    return {
        "strength": strength,
        "amount": planting.amount,
        "rule": planting.rule.name,
        "without_note": without,
        "with_note": informed,
        "gain": _gain(inputs, without, informed),
    }
