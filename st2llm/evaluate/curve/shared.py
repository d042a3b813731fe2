"""What the points of a curve share: results and warmed-up encoders that do not depend on its axes."""

import shutil
from collections.abc import Callable, Collection, Mapping
from functools import partial

from st2llm.config.predictors import PredictorSettings
from st2llm.config.suite import Suite
from st2llm.evaluate.curve.points import Point, cover_all, covers
from st2llm.evaluate.run.job import job_key
from st2llm.evaluate.run_folder import resumption
from st2llm.files import write_atomically


def _is_trained(predictor: PredictorSettings) -> bool:
    return predictor.trained


def _needs_llm(predictor: PredictorSettings) -> bool:
    return predictor.trained or predictor.family == "text" or predictor.text_features == "states"


def _is_fitted(predictor: PredictorSettings) -> bool:
    return not predictor.external


_DEPENDS_ON: Mapping[str, Callable[[PredictorSettings], bool]] = {
    "encoder": _is_trained,
    "budget.steps": _is_trained,
    "budget.batch": _is_trained,
    "budget.lr": _is_trained,
    "budget.weight_decay": _is_trained,
    "up": _is_trained,
    "adapt": _is_trained,
    "skip": _is_trained,
    "instruction": _is_trained,
    "init_from": _is_trained,
    "llm": _needs_llm,
    "train": _is_fitted,
}
"""Which predictors depend on a setting; on all others, such as tasks and windows, all depend."""
TEST_ALONE = ("shift", "windows")
"""Settings that change test windows alone."""
_KEEPS_ENCODER = (
    "budget.steps",
    "budget.batch",
    "budget.lr",
    "budget.weight_decay",
    "up",
    "adapt",
    "llm",
    *TEST_ALONE,
)
"""Settings that the warm-up of the encoder does not depend on."""


def share(first: Point, point: Point) -> None:
    """Copies into the run of a point what another point has finished and the axes do not change.

    An encoder is copied where the warm-up does not depend on what differs between the two.
    """
    changed = [axis for axis, value in point.at.items() if value != first.at[axis]]
    for key in shared_keys(point, changed):
        resumption.copy(first.folder, key, point.folder)
    if cover_all(TEST_ALONE, changed):
        for key in _trained_keys(point):
            resumption.lend(first.folder, key, point.folder)
    if cover_all(_KEEPS_ENCODER, changed):
        _copy_encoders(first, point)


def keeps_arms(axes: Collection[str], suite: Suite) -> bool:
    """Whether an axis changes test windows alone, so that the arms of one point predict those of the others.

    Predictors with objectives or data of their own are not kept; where a suite has one, all are trained at each point.
    """
    own = any(predictor.set.has_own_training for predictor in suite.predictors)
    return not own and any(covers(TEST_ALONE, axis) for axis in axes)


def _trained_keys(point: Point) -> list[str]:
    """The keys of arms without a language model; one with it predicts from its checkpoint up to 0.4 % otherwise."""
    suite = point.suite
    trained = [p for p in suite.predictors if p.trained and p.family == "primitive"]
    return [
        job_key(suite, task.name, predictor.name, seed)
        for task in suite.tasks
        for predictor in trained
        for seed in suite.seeds
    ]


def shared_keys(point: Point, changed: Collection[str]) -> list[str]:
    """The keys of the jobs that do not depend on the changed settings."""
    suite = point.suite
    kept = [p for p in suite.predictors if not any(_depends(p, axis) for axis in changed)]
    return [
        job_key(suite, task.name, predictor.name, seed)
        for task in suite.tasks
        for predictor in kept
        for seed in suite.seeds
    ]


def _depends(predictor: PredictorSettings, axis: str) -> bool:
    known = next((key for key in _DEPENDS_ON if covers((key,), axis)), None)
    return True if known is None else _DEPENDS_ON[known](predictor)


def _copy_encoders(first: Point, point: Point) -> None:
    for encoder in (first.folder / "encoder").glob("*.safetensors"):
        target = point.folder / "encoder" / encoder.name
        if not target.exists():
            write_atomically(target, partial(shutil.copyfile, encoder))
