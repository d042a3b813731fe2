"""Samples of a comparison: cached, and restricted to a subset of their places."""

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

import numpy as np

from st2llm.data.windows.splits import SampleSequence
from st2llm.types import Sample, seed_from


class CachedSamples(Sequence[Sample]):
    """The samples of a part of a split, each made on first access and then kept."""

    def __init__(self, part: SampleSequence) -> None:
        self.part = part
        self._made: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.part)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> "Sample | list[Sample]":
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        position = range(len(self))[index]
        if position not in self._made:
            self._made[position] = self.part[position]
        return self._made[position]


def subsample_places(sample: Sample, count: int | None) -> Sample:
    """The sample with `count` of its wanted places, evenly spaced from a start that its id determines.

    Returns all places where count is None or not smaller than their number. What is visible does not change. Every
    predictor gets the same places.
    """
    places = sample.wanted_nodes
    if count is None or count >= len(places):
        return sample
    start = seed_from(sample.id) % len(places)
    kept = [places[(start + i * len(places) // count) % len(places)] for i in range(count)]
    mask = np.zeros_like(sample.wanted)
    mask[:, kept] = True
    wanted = sample.wanted & mask
    truth = None if sample.truth is None else np.where(wanted, sample.truth, np.nan)
    return replace(sample, wanted=wanted, truth=truth)


def without_truth(samples: Sequence[Sample]) -> list[Sample]:
    """The samples as predictors get them."""
    return [sample.without_truth() for sample in samples]
