"""What `split` gives of any kind of data: three parts, each a lazy sequence of samples that can be named by a hash."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Int64

from st2llm.types import Sample


@runtime_checkable
class SampleSequence(Protocol):
    """Samples of one part of a split, oldest first; each is made when it is asked for."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "SampleSequence": ...

    def indices(self) -> Int64[np.ndarray, " window"]:
        """Where each sample begins, as the kind counts: steps of a field, rows of a table, frames of a clip."""
        ...

    def select(self, positions: Iterable[int]) -> "SampleSequence":
        """The samples at these positions, in this order. Raises IndexError for one that is not there."""
        ...

    @property
    def sha256(self) -> str:
        """Names these samples: the data, the task and every start."""
        ...


@dataclass(frozen=True, eq=False)
class Splits:
    """The samples to learn from, to choose by, and to be judged on."""

    train: SampleSequence
    validation: SampleSequence
    test: SampleSequence

    def indices(self) -> dict[str, Int64[np.ndarray, " window"]]:
        """The starts of each part's samples, by the part's name."""
        return {name: part.indices() for name, part in self._parts()}

    @property
    def sha256(self) -> str:
        """Names the whole split."""
        return hashlib.sha256(" ".join(part.sha256 for _, part in self._parts()).encode()).hexdigest()

    def _parts(self) -> tuple[tuple[str, SampleSequence], ...]:
        return ("train", self.train), ("validation", self.validation), ("test", self.test)


def evenly_spaced(windows: SampleSequence, count: int | None) -> SampleSequence:
    """`count` evenly spaced windows, first and last among them; all where count is None or not smaller."""
    if count is None or count >= len(windows):
        return windows
    return windows.select(
        np.unique(np.linspace(0, len(windows) - 1, count).round().astype(np.int64)).tolist()
    )
