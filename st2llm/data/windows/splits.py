"""The result of `split` for any kind of data: three lazy sequences of samples, each named by a hash."""

import hashlib
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Int64

from st2llm.display import Displayed, Overview
from st2llm.types import HeldOutWindows, SampleSequence, TrainingWindows, ValidationWindows

Windows = TypeVar("Windows", TrainingWindows, ValidationWindows, HeldOutWindows)


@dataclass(frozen=True, eq=False, repr=False)
class Splits(Displayed):
    """The samples to train on, to select models with, and to test on."""

    train: TrainingWindows
    validation: ValidationWindows
    test: HeldOutWindows

    @classmethod
    def of(cls, train: SampleSequence, validation: SampleSequence, test: SampleSequence) -> "Splits":
        """The three parts, each as a type of its own."""
        return cls(TrainingWindows(train), ValidationWindows(validation), HeldOutWindows(test))

    def indices(self) -> dict[str, Int64[np.ndarray, " window"]]:
        """Where the samples of each part start, by the name of the part."""
        return {name: part.indices() for name, part in self._parts()}

    @property
    def sha256(self) -> str:
        """A hash of the whole split."""
        return hashlib.sha256(" ".join(part.sha256 for _, part in self._parts()).encode()).hexdigest()

    def overview(self) -> Overview:
        """The number of samples of each part."""
        return Overview([(name, f"{len(part):,}") for name, part in self._parts()])

    def _parts(self) -> tuple[tuple[str, SampleSequence], ...]:
        return ("train", self.train), ("validation", self.validation), ("test", self.test)


def evenly_spaced(windows: Windows, count: int | None) -> Windows:
    """`count` evenly spaced windows, including the first and the last; all of them where count is None or too large."""
    if count is None or count >= len(windows):
        return windows
    return windows.select(
        np.unique(np.linspace(0, len(windows) - 1, count).round().astype(np.int64)).tolist()
    )
