"""Objectives for the task that the windows ask: regression of values, or the likelihood of the model's head."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.align.sequence_head import NOISE_SIZE, TRAINING_DRAWS
from st2llm.encode.batch import Batch
from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.point_batch import PointBatch
from st2llm.encode.sequence import SequenceShape
from st2llm.model.objectives.objective import SingleTermObjective


def absolute_error(
    predicted: Float[Tensor, "batch time node channel"],
    batch: FieldBatch,
    scale: Float[Tensor, "node channel"],
) -> tuple[Float[Tensor, ""], int]:
    """Sum of absolute errors over valid entries, and their count.

    scale: the factors from standardised errors to raw units, or to spreads of channels (`FieldScaler.error_scale`).
    Returns the sum, not a mean over batch means, so that pooling is exact.
    """
    error = (predicted - batch.target).abs() * scale.to(predicted.device)
    return (error * batch.valid).sum(), int(batch.valid.sum())


class Regression(SingleTermObjective):
    """Mean absolute (or squared) error over the target entries of the windows; scale: see `absolute_error`."""

    name = "regression"

    def __init__(self, scale: Float[Tensor, "node channel"], *, squared: bool = False) -> None:
        self.scale, self.squared = scale, squared
        self.typical_size = float((scale**2 if squared else scale).mean())

    def counts(self, batch: FieldBatch) -> dict[str, int]:
        return {self.name: int(batch.valid.sum())}

    def totals(self, arm: nn.Module, batch: FieldBatch) -> dict[str, Tensor]:
        predicted = arm(batch)
        if self.squared:
            error = (predicted - batch.target) * self.scale.to(predicted.device)
            return {self.name: (error**2 * batch.valid).sum()}
        return {self.name: absolute_error(predicted, batch, self.scale)[0]}


class Likelihood(SingleTermObjective):
    """The loss of the arm's own head: a proper score of its prediction (nats, or an energy score)."""

    name = "likelihood"

    def draw(self, batch: Any, generator: torch.Generator) -> Any:
        needs_draws = isinstance(batch, PointBatch) and batch.needs_draws
        return batch.with_noise(TRAINING_DRAWS, NOISE_SIZE, generator) if needs_draws else batch

    def counts(self, batch: Batch) -> dict[str, int]:
        return {self.name: len(batch)}

    def totals(self, arm: nn.Module, batch: Batch) -> dict[str, Tensor]:
        head: nn.Module = arm.head  # type: ignore[assignment]
        return {self.name: head.loss(arm(batch), batch).sum()}  # type: ignore[operator]


def objective_of_task(
    shape: FieldShape | SequenceShape, scale: Float[Tensor, "*node channel"], *, squared: bool = False
) -> Regression | Likelihood:
    """The supervised objective of a shape: regression (scale: see `absolute_error`), or the head's own score."""
    if isinstance(shape, SequenceShape) or shape.classes:
        return Likelihood()
    return Regression(scale, squared=squared)
