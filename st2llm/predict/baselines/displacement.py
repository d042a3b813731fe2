"""A closed-form regression of the positions of a moving object."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from sklearn.linear_model import Ridge

from st2llm.errors import DataError
from st2llm.predict.baselines.movement import ConstantVelocity, path_prediction, visible_positions
from st2llm.types import Prediction, Sample, TrainingWindows, check_training_windows

_PENALTY = 1e-3
"""Of the ridge regression, as a multiple of the number of rows, with displacements in units of their spread."""


@dataclass(frozen=True)
class RidgeDisplacement:
    """A ridge regression from the displacements between visible steps to those from the last one to each step ahead.

    scale: metres, the root mean square of training displacements. fixes: the number of visible steps that it was fitted
    for; a path with others is extended at constant velocity.
    """

    model: Ridge
    scale: float
    fixes: int
    line = ConstantVelocity()

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [self._predict(sample) for sample in samples]

    def _predict(self, sample: Sample) -> Prediction:
        path, (_, at, xy) = self.line.path(sample), visible_positions(sample)
        if len(at) == self.fixes:
            inputs = np.diff(xy, axis=0).reshape(1, -1) / self.scale
            ahead = self.model.predict(inputs).reshape(-1, 2) * self.scale
            path[sample.first_wanted_step :] = xy[-1] + ahead
        return path_prediction(sample, path)


def ridge_displacement(train: TrainingWindows) -> RidgeDisplacement:
    """Fits the regression on the training paths whose positions are all known.

    Raises DataError where there is none, or where a path has fewer than two visible steps.
    """
    check_training_windows(train, "A ridge regression of displacements")
    rows = [row for sample in train if (row := _row(sample)) is not None]
    fixes = len(rows[0][0]) // 2 + 1 if rows else 0
    if fixes < 2:
        raise DataError(
            f"{train[0].side.dataset} has {len(rows)} training paths with all their positions, and a regression of "
            f"displacements needs some with two visible steps. Ask for a longer history, or take `constant-velocity`."
        )
    x, y = (np.stack(column) for column in zip(*rows, strict=True))
    scale = float(np.sqrt((x**2).mean())) or 1.0
    return RidgeDisplacement(Ridge(alpha=_PENALTY * len(x)).fit(x / scale, y / scale), scale, fixes)


def _row(sample: Sample) -> tuple[Float64[np.ndarray, " input"], Float64[np.ndarray, " output"]] | None:
    """The displacements of the history and those ahead; None where a position is not known."""
    _, at, xy = visible_positions(sample)
    if sample.truth is None or len(at) < sample.first_wanted_step:
        return None
    channels = [sample.side.channels.index(name) for name in ("x", "y")]
    ahead = sample.truth[sample.first_wanted_step :, 0][:, channels] - xy[-1]
    return (np.diff(xy, axis=0).ravel(), ahead.ravel()) if np.isfinite(ahead).all() else None
