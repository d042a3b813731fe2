"""Solved training samples to show in a prompt: at random, the most recent, or those most alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64

from st2llm.errors import DataError
from st2llm.retrieve.window_index import WindowIndex
from st2llm.types import Sample, seed_from

ExampleSelector = Callable[[Sample], list[Sample]]
"""Gives the examples for a sample, the best last."""
Selection = Literal["random", "recent", "shape"]


@dataclass(frozen=True)
class RandomExamples:
    """As many training samples as asked, drawn anew for each sample, the same for the same sample and seed."""

    train: Sequence[Sample]
    count: int
    seed: int

    def __call__(self, sample: Sample) -> list[Sample]:
        rng = np.random.default_rng(seed_from(f"{self.seed}\n{sample.id}\n{sample.wanted_nodes}"))
        drawn = rng.permutation(len(self.train))[: self.count + 1].tolist()
        return _others(sample, [self.train[int(i)] for i in drawn])[: self.count]


@dataclass(frozen=True)
class RecentExamples:
    """The latest training samples that end before the sample begins, of the same object where it has any.

    order: positions in train by the time of their last step. Training samples that do not end before (clips, other
    objects) are taken as they are where there are no earlier ones.
    """

    train: Sequence[Sample]
    ends: Int64[np.ndarray, " sample"]
    places: tuple[str, ...]
    count: int

    def __call__(self, sample: Sample) -> list[Sample]:
        own = np.array([place == _object(sample) for place in self.places])
        before = self.ends < int(sample.time[0])
        usable = next((mask for mask in (own & before, before, own) if mask.any()), np.ones_like(own))
        latest = np.flatnonzero(usable)
        latest = latest[np.argsort(self.ends[latest], kind="stable")][-self.count - 1 :]
        return _others(sample, [self.train[int(i)] for i in latest])[-self.count :]


@dataclass(frozen=True)
class SimilarExamples:
    """The training samples whose visible values have the most similar shape, the most similar last."""

    index: WindowIndex
    count: int

    def __call__(self, sample: Sample) -> list[Sample]:
        return _others(sample, self.index.similar(sample, self.count + 1))[: self.count][::-1]


def make_example_selector(
    by: Selection, count: int, train: Sequence[Sample], *, seed: int = 0
) -> ExampleSelector:
    """What chooses the examples for a sample from the training part. Raises DataError where that is empty."""
    if not len(train):
        raise DataError("Examples are solved training samples, but there is none. Correct `split`.")
    if by == "random":
        return RandomExamples(train, count, seed)
    if by == "recent":
        ends = np.array([int(sample.time[-1]) for sample in train], dtype=np.int64)
        return RecentExamples(train, ends, tuple(_object(sample) for sample in train), count)
    return SimilarExamples(WindowIndex.fit(train), count)


def _object(sample: Sample) -> str:
    """What moves; '' where a sample is of many places, or of what happens anywhere."""
    return sample.place[0] if sample.kind == "trajectory" else ""


def _others(sample: Sample, found: Sequence[Sample]) -> list[Sample]:
    return [one for one in found if one.id != sample.id]
