"""Reports a training run to TensorBoard, Weights & Biases or MLflow, through the trackers of accelerate."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker
from accelerate.utils import is_mlflow_available, is_tensorboard_available, is_wandb_available

from st2llm.config.training import Recipe
from st2llm.errors import ConfigError
from st2llm.train.loop.state import Checkpointer, TrainingState

_AVAILABLE: Mapping[str, Callable[[], bool]] = {
    "tensorboard": is_tensorboard_available,
    "wandb": is_wandb_available,
    "mlflow": is_mlflow_available,
}


class TrackedCheckpointer:
    """Saves a run with another checkpointer, then reports the losses of the evaluation to trackers."""

    def __init__(self, inner: Checkpointer, trackers: Sequence[GeneralTracker]) -> None:
        self.inner, self.trackers = inner, trackers

    def save(self, state: TrainingState, terms: Mapping[str, float]) -> None:
        self.inner.save(state, terms)
        step, train, validation = state.rows[-1]
        values = {"loss/train": train, "loss/validation": validation, "loss/best": state.best}
        values |= {f"terms/{name}": value for name, value in terms.items()}
        for tracker in self.trackers:
            tracker.log({k: float(v) for k, v in values.items() if math.isfinite(v)}, step=step)

    def load(self) -> TrainingState | None:
        return self.inner.load()


def check_trackers(recipe: Recipe) -> None:
    """Raises ConfigError where `report_to` names a tracker that is not installed."""
    for name in recipe.report_to:
        if not _AVAILABLE[name]():
            raise ConfigError(
                f"{recipe.id}: report_to names {name}, which is not installed here. Run `pip install {name}`, or leave "
                f"it out; log.jsonl in the run's folder holds the losses in any case."
            )


@contextmanager
def tracked(recipe: Recipe, root: Path, inner: Checkpointer) -> Iterator[Checkpointer]:
    """A checkpointer that also reports to the trackers of the recipe, which are closed at the end.

    root: the folder of the run; TensorBoard writes into `tensorboard/` in it, MLflow into `mlflow/` unless
    MLFLOW_TRACKING_URI is set.
    """
    if not recipe.report_to:
        yield inner
        return
    trackers = [_tracker(name, recipe, root) for name in recipe.report_to]
    settings = _flat(recipe.model_dump(mode="json"))
    try:
        for tracker in trackers:
            tracker.start()
            tracker.store_init_configuration(settings)
        yield TrackedCheckpointer(inner, trackers)
    finally:
        for tracker in trackers:
            tracker.finish()


def _tracker(name: str, recipe: Recipe, root: Path) -> GeneralTracker:
    if name == "tensorboard":
        return TensorBoardTracker(recipe.id, root / "tensorboard")
    if name == "wandb":
        return WandBTracker("st2llm", name=recipe.id)
    return MLflowTracker("st2llm", logging_dir=str(root / "mlflow"), run_name=recipe.id)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Nested settings by their path, with values that every tracker takes."""
    flat: dict[str, bool | int | float | str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
