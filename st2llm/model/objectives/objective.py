"""The interface of training objectives: totals and counts, so that parts of a batch add up to the whole."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Objective(Protocol):
    """What is minimised: the sum over its terms of `share * total / count`."""

    @property
    def term_weights(self) -> Mapping[str, float]:
        """By term: its weight, divided by what is usual of it where its unit is large."""
        ...

    @property
    def whole_batch(self) -> bool:
        """Whether windows of a batch are compared with each other, so that it must not be cut."""
        ...

    def draw(self, batch: Any, generator: torch.Generator) -> Any:
        """The batch with all that is random about a step: what is hidden, which noise is added."""
        ...

    def counts(self, batch: Any) -> dict[str, int]:
        """How many entries each term of a drawn batch has."""
        ...

    def totals(self, arm: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The sum of each term over a drawn batch, or over part of one."""
        ...

    def selection_score(self, means: Mapping[str, float]) -> float:
        """One number to choose the best state by, lower is better, from the mean of each term."""
        ...


class SingleTermObjective:
    """An objective of a single term, without random choices."""

    name = "loss"
    typical_size = 1.0
    whole_batch = False

    @property
    def term_weights(self) -> dict[str, float]:
        return {self.name: 1 / self.typical_size}

    def draw(self, batch: Any, generator: torch.Generator) -> Any:
        return batch

    def selection_score(self, means: Mapping[str, float]) -> float:
        return means[self.name]
