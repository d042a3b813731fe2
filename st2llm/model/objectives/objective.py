"""The interface of training objectives: totals and counts, so that parts of a batch add up to the whole."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from st2llm.config.objectives import Weighting


@runtime_checkable
class Objective(Protocol):
    """A training objective; the minimised value is the sum over its terms of `term_weight * total / count`."""

    @property
    def term_weights(self) -> Mapping[str, float]:
        """The weight of each term, divided by the typical size of terms in large units."""
        ...

    @property
    def weighting(self) -> Weighting:
        """How several terms share the weights of a module; fixed adds them up."""
        ...

    @property
    def whole_batch(self) -> bool:
        """Whether samples of a batch are compared with each other, so that it must not be split."""
        ...

    def draw(self, batch: Any, generator: torch.Generator) -> Any:
        """The batch with all random choices of a step made: what is hidden, which noise is added."""
        ...

    def counts(self, batch: Any) -> dict[str, int]:
        """The number of entries of each term in a drawn batch."""
        ...

    def totals(self, arm: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The sum of each term over a drawn batch, or over part of one."""
        ...

    def selection_score(self, means: Mapping[str, float]) -> float:
        """The number by which the best state is selected (lower is better), from the mean of each term."""
        ...


class SingleTermObjective:
    """An objective of a single term, without random choices."""

    name = "loss"
    typical_size = 1.0
    whole_batch = False
    weighting: Weighting = "fixed"

    @property
    def term_weights(self) -> dict[str, float]:
        return {self.name: 1 / self.typical_size}

    def draw(self, batch: Any, generator: torch.Generator) -> Any:
        return batch

    def selection_score(self, means: Mapping[str, float]) -> float:
        return means[self.name]
