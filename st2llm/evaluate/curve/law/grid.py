"""The grid of a scaling law from the runs of a curve: a predictor's loss, size, data and compute at each point."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from st2llm.errors import DataError
from st2llm.evaluate.curve.law.fit import LossGrid
from st2llm.evaluate.run_folder.record import Record
from st2llm.evaluate.run_folder.results import RunResults
from st2llm.metrics import is_higher_better

_TRAINING_FACTOR = 3.0
"""A training step costs a forward pass and twice as much for the backward pass (Kaplan et al. 2020)."""


@dataclass(frozen=True)
class MeasuredGrid:
    """Losses with what they cost. flops: of one forward pass over a window; seconds: of training, mean over seeds;
    seen: windows that training has seen, each time counted.
    """

    losses: LossGrid
    flops: Float64[np.ndarray, " point"]
    seconds: Float64[np.ndarray, " point"]
    seen: Float64[np.ndarray, " point"]

    @property
    def compute(self) -> Float64[np.ndarray, " point"]:
        """Floating-point operations of the training of each point."""
        return np.asarray(_TRAINING_FACTOR * self.flops * self.seen)

    def flops_of(self, parameters: Float64[np.ndarray, " size"]) -> Float64[np.ndarray, " size"]:
        """Operations of a training pass over one window by models of these sizes: a straight line in logarithms."""
        sizes, first = np.unique(self.losses.parameters, return_index=True)
        slope, intercept = np.polyfit(np.log(sizes), np.log(self.flops[first]), 1)
        return np.asarray(_TRAINING_FACTOR * np.exp(intercept + slope * np.log(parameters)))


def read_grid(runs: Sequence[RunResults], predictor: str) -> MeasuredGrid:
    """The grid of a predictor from the runs of a curve's points.

    Raises DataError where a point lacks the predictor, its parameters or training windows, or has other seeds, and for
    a metric that is no error.
    """
    if is_higher_better(runs[0].primary):
        raise DataError(f"A scaling law is of an error, but {runs[0].primary} is higher where it is better.")
    rows = [_records(run, predictor) for run in runs]
    seeds = [sorted(record.seed for record in own if record.seed is not None) for own in rows]
    if any(each != seeds[0] for each in seeds):
        raise DataError(
            f"The points of {predictor!r} have other seeds: {seeds}. Finish the curve with --resume."
        )
    pooled = [own[0] for own in rows]
    by_seed = [
        [run.score(record) for record in own if record.seed is not None] or [run.score(own[0])]
        for run, own in zip(runs, rows, strict=True)
    ]
    losses = np.array(
        [[np.nan if loss is None else loss for loss in row] for row in by_seed], dtype=np.float64
    )
    cost = {
        key: np.array([float(record.cost.get(key) or np.nan) for record in pooled])
        for key in ("params_trained", "flops", "train_s")
    }
    windows = np.array([float(record.train_windows or np.nan) for record in pooled])
    seen = np.array([float((record.training or {}).get("samples_seen") or np.nan) for record in pooled])
    if not np.isfinite([*cost["params_trained"], *cost["flops"], *windows, *seen]).all():
        raise DataError(
            f"A scaling law needs the trained parameters, operations and training windows of {predictor!r} at every "
            f"point. Name a predictor that is trained by gradient descent."
        )
    return MeasuredGrid(
        LossGrid(cost["params_trained"], windows, losses), cost["flops"], cost["train_s"], seen
    )


def _records(run: RunResults, predictor: str) -> list[Record]:
    """The pooled record of a predictor and those of its seeds, in the order of seeds."""
    own = [record for record in run.records if record.predictor == predictor]
    if not own:
        raise DataError(f"{run.folder} has no result of {predictor!r}. Finish the curve with --resume.")
    return sorted(own, key=lambda record: -1 if record.seed is None else record.seed)
