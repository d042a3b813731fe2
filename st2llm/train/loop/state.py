"""The state of a training run between two evaluations, and the interface of what saves it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass
class TrainingState:
    """All that a run needs to resume: saved by a `Checkpointer` after each evaluation.

    rows: step, training loss and validation loss of each evaluation, the untrained module first. best, weights: the
    best validation loss, and the trained weights then. current: the trained weights now. last: the weights that are
    evaluated now, which are their moving average where one is kept. optimiser: the optimiser's tensors.
    """

    step: int
    rows: list[tuple[int, float, float]]
    best: float
    weights: dict[str, Tensor]
    current: dict[str, Tensor]
    last: dict[str, Tensor] = field(default_factory=dict)
    optimiser: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0


@runtime_checkable
class Checkpointer(Protocol):
    """Saves the state of a run, and loads it when the run is resumed."""

    def save(self, state: TrainingState, terms: Mapping[str, float]) -> None:
        """terms: the terms of the objective at this evaluation, for the log."""
        ...

    def load(self) -> TrainingState | None:
        """The state that was saved last; None for a new run."""
        ...
