"""The result of `split` for any kind of data: three lazy sequences of samples, each named by a hash."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Int64

from st2llm.types import Sample


@runtime_checkable
class SampleSequence(Protocol):
    """The samples of one part of a split, oldest first; each is built on access."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "SampleSequence": ...

    def indices(self) -> Int64[np.ndarray, " window"]:
        """Where each sample starts: steps of a graph or grid, rows of trajectories or events, frames of clips."""
        ...

    def select(self, positions: Iterable[int]) -> "SampleSequence":
        """The samples at these positions, in this order. Raises IndexError for a position out of range."""
        ...

    @property
    def sha256(self) -> str:
        """A hash of the data, the task and every start."""
        ...


@dataclass(frozen=True, eq=False)
class Splits:
    """The samples to train on, to select models with, and to test on."""

    train: SampleSequence
    validation: SampleSequence
    test: SampleSequence

    def indices(self) -> dict[str, Int64[np.ndarray, " window"]]:
        """Where the samples of each part start, by the name of the part."""
        return {name: part.indices() for name, part in self._parts()}

    @property
    def sha256(self) -> str:
        """A hash of the whole split."""
        return hashlib.sha256(" ".join(part.sha256 for _, part in self._parts()).encode()).hexdigest()

    def _parts(self) -> tuple[tuple[str, SampleSequence], ...]:
        return ("train", self.train), ("validation", self.validation), ("test", self.test)


def evenly_spaced(windows: SampleSequence, count: int | None) -> SampleSequence:
    """`count` evenly spaced windows, including the first and the last; all of them where count is None or too large."""
    if count is None or count >= len(windows):
        return windows
    return windows.select(
        np.unique(np.linspace(0, len(windows) - 1, count).round().astype(np.int64)).tolist()
    )
