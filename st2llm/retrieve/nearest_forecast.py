"""Nearest-neighbour forecasts: the futures of the most similar training windows, rescaled to the query."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from st2llm.retrieve.window_index import Match, WindowIndex
from st2llm.retrieve.window_shapes import channel_roles
from st2llm.types import Prediction, Sample, TrainingWindows

MAX_STRETCH = 4.0
"""Maximum factor by which a future is rescaled, so that a nearly constant neighbour does not explode."""
_NOT_BELOW_0 = frozenset({"gap_h", "magnitude"})


@dataclass(frozen=True)
class NearestForecast:
    """The mean or median of the futures of k neighbours, each rescaled to the level and scale of the query.

    Codes (a place, a mark) and labels are decided by majority vote of the neighbours; ties go to the nearest.
    """

    index: WindowIndex
    k: int = 5
    centre: Literal["mean", "median"] = "median"

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """A prediction for each sample; a place without a neighbour takes the mean of its visible values, and that of
        training where none is visible.
        """
        return [self._predict_sample(sample) for sample in samples]

    def _predict_sample(self, sample: Sample) -> Prediction:
        ranking = self._ranking(sample) if not sample.wanted.any() or sample.side.options else None
        if not sample.wanted.any():
            return Prediction(
                None, ranking=ranking, unread_reason=None if ranking else "no neighbour in train"
            )
        value = np.full(sample.values.shape, np.nan)
        for node in sample.wanted_nodes:
            value[:, node] = self._values(sample, node)
        return Prediction(np.where(sample.wanted, value, np.nan), ranking=ranking)

    def _ranking(self, sample: Sample) -> tuple[str, ...] | None:
        """The neighbours' labels, the most frequent first; None where train has none."""
        matches = self.index.matches(sample, None, self.k)
        labels = [label for match in matches if (label := self.index.labels[match.window]) is not None]
        return tuple(label for label, _ in Counter(labels).most_common()) or None

    def _values(self, sample: Sample, node: int) -> Float64[np.ndarray, "time channel"]:
        result, steps = self.index.search(sample, node, self.k), len(sample.values)
        raw = [self._fitted(match, steps) for match in result.matches]
        futures = [
            _rescale(future, (result.level, result.scale), scaling)
            for future, scaling in zip(raw, zip(result.levels, result.scales, strict=True), strict=True)
        ]
        kinds = channel_roles(sample.kind, sample.side.channels, sample.values.shape[2])
        out = np.empty((steps, sample.values.shape[2]))
        for channel, role in enumerate(kinds):
            if role == "code":
                out[:, channel] = _majority([future[:, channel] for future in raw], steps)
                continue
            column = _centre([future[:, channel] for future in futures], steps, self.centre)
            level = result.level[channel]
            spare = level if np.isfinite(level) else self.index.means[node, channel]
            column = np.where(np.isfinite(column), column, spare)
            out[:, channel] = np.maximum(column, 0.0) if self._floor(sample, channel) else column
        return out

    def _fitted(self, match: Match, steps: int) -> Float64[np.ndarray, "time channel"]:
        """The last steps of a neighbour, padded with NaN in front where it is shorter."""
        future = self.index.future(match)
        out = np.full((steps, future.shape[1]), np.nan)
        have = min(steps, len(future))
        out[steps - have :] = future[len(future) - have :]
        return out

    def _floor(self, sample: Sample, channel: int) -> bool:
        """Whether a channel is never negative: gaps between events, and channels without a negative value in train."""
        names = sample.side.channels
        if names and names[channel] in _NOT_BELOW_0 and sample.kind == "event":
            return True
        return sample.kind != "trajectory" and bool(self.index.lowest[channel] >= 0)


def fit_nearest(
    train: TrainingWindows,
    *,
    k: int = 5,
    centre: Literal["mean", "median"] = "median",
    places: Literal["same", "any"] = "same",
) -> NearestForecast:
    """Fits the rule `nearest-windows` on a train part."""
    return NearestForecast(WindowIndex.fit(train, places=places), k, centre)


Scaling = tuple[Float64[np.ndarray, " channel"], Float64[np.ndarray, " channel"]]


def _rescale(
    future: Float64[np.ndarray, "time channel"], target_scaling: Scaling, neighbour_scaling: Scaling
) -> Float64[np.ndarray, "time channel"]:
    """The values of a neighbour on the level and scale of the query; only shifted where either is constant, and as they
    are where nothing is visible of either.
    """
    known = np.isfinite(target_scaling[0]) & np.isfinite(neighbour_scaling[0])
    both = (target_scaling[1] > 0) & (neighbour_scaling[1] > 0)
    ratio = np.where(both, target_scaling[1] / np.where(both, neighbour_scaling[1], 1.0), 1.0)
    moved = target_scaling[0] + (future - neighbour_scaling[0]) * np.clip(ratio, 1 / MAX_STRETCH, MAX_STRETCH)
    return np.where(known, moved, future)


def _centre(
    rows: Sequence[Float64[np.ndarray, " time"]], steps: int, centre: str
) -> Float64[np.ndarray, " time"]:
    """The mean or median of the finite values at each step; NaN where there is none."""
    if not rows:
        return np.full(steps, np.nan)
    stack = np.sort(np.stack(rows), axis=0)  # NaN goes to the end
    count = np.isfinite(stack).sum(axis=0)
    if centre == "mean":
        total = np.where(np.isfinite(stack), stack, 0.0).sum(axis=0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)
    at = np.arange(steps)
    low, high = stack[np.maximum(count - 1, 0) // 2, at], stack[np.minimum(count // 2, len(rows) - 1), at]
    return np.where(count > 0, (low + high) / 2, np.nan)


def _majority(rows: Sequence[Float64[np.ndarray, " time"]], steps: int) -> Float64[np.ndarray, " time"]:
    out = np.full(steps, np.nan)
    for step in range(steps):
        votes = Counter(float(row[step]) for row in rows if np.isfinite(row[step]))
        if votes:
            out[step] = votes.most_common(1)[0][0]
    return out
