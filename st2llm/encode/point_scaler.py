"""Statistics of the points of training sequences, by which they are standardised."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float64

from st2llm.types.rounding import real_spread


@dataclass(frozen=True)
class QueryScaler:
    """Numbers that are known of an event before it is predicted, such as its height where its mark is asked for.

    at: positions among the numbers of an event of those that are known of any training event. mean, std: of these.
    """

    at: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def scale(self, rows: Float64[np.ndarray, "row number"]) -> Float64[np.ndarray, "row known"]:
        """The known numbers, standardised and 0 where one is missing, then 1 for each that is there, else 0."""
        scaled = (rows[:, list(self.at)] - np.array(self.mean)) / np.array(self.std)
        is_there = np.isfinite(scaled)
        return np.hstack([np.where(is_there, scaled, 0.0), is_there.astype(np.float64)])


def fit_query_scaler(rows: Float64[np.ndarray, "row number"]) -> QueryScaler:
    """Statistics of the numbers (NaN: missing) of training events; a constant number keeps its unit."""
    at = np.flatnonzero(np.isfinite(rows).any(axis=0))
    known = rows[:, at]
    spread = real_spread(np.nanstd(known, axis=0), np.nanmax(np.abs(known), axis=0))
    return QueryScaler(
        tuple(at.tolist()),
        tuple(np.nanmean(known, axis=0).tolist()),
        tuple(np.where(spread > 0, spread, 1.0).tolist()),
    )


@dataclass(frozen=True)
class PointScaler:
    """Mean and standard deviation of each feature of the training points, and one unit of space in metres.

    step_m: the typical mean step of the training paths in metres. query: of what is known of an event to predict.
    """

    mean: Float64[np.ndarray, " feature"]
    std: Float64[np.ndarray, " feature"]
    metres: float
    step_m: float = 1.0
    query: QueryScaler = QueryScaler()

    def to_json(self) -> dict[str, object]:
        query = {"query": asdict(self.query)} if self.query.at else {}
        return query | {
            "kind": "point",
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "metres": self.metres,
            "step_m": self.step_m,
        }


def typical_step(mean_steps: Sequence[float]) -> float:
    """The median of the mean steps of paths that move, in metres; 1 where none does."""
    steps = np.array(mean_steps, dtype=np.float64)
    moving = steps[np.isfinite(steps) & (steps > 0)]
    return float(np.median(moving)) if moving.size else 1.0
