"""Selects solved training samples to show in a prompt: random, most recent, or most similar."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64

from st2llm.errors import DataError
from st2llm.retrieve.window_index import WindowIndex
from st2llm.types import Sample, TrainingWindows, check_training_windows, seed_from

ExampleSelector = Callable[[Sample], list[Sample]]
"""Returns the examples for a sample, the best last."""
Selection = Literal["random", "recent", "shape"]


@dataclass(frozen=True)
class RandomExamples:
    """Random training samples: drawn for each sample, the same for the same sample and seed."""

    train: TrainingWindows
    count: int
    seed: int

    def __call__(self, sample: Sample) -> list[Sample]:
        rng = np.random.default_rng(seed_from(f"{self.seed}\n{sample.id}\n{sample.wanted_nodes}"))
        drawn = rng.permutation(len(self.train))[: self.count + 1].tolist()
        return _others(sample, [self.train[int(i)] for i in drawn])[: self.count]


@dataclass(frozen=True)
class RecentExamples:
    """The latest training samples that end before the sample begins, of the same moving object where it has any.

    Where there are no earlier ones (clips, other objects), any training samples are used. ends: time of the last step
    of each training sample. places: its moving object, '' for other kinds.
    """

    train: TrainingWindows
    ends: Int64[np.ndarray, " sample"]
    places: tuple[str, ...]
    count: int

    def __call__(self, sample: Sample) -> list[Sample]:
        same_object = np.array([place == _object_id(sample) for place in self.places])
        before = self.ends < int(sample.time[0])
        usable = next(
            (mask for mask in (same_object & before, before, same_object) if mask.any()),
            np.ones_like(same_object),
        )
        latest = np.flatnonzero(usable)
        latest = latest[np.argsort(self.ends[latest], kind="stable")][-self.count - 1 :]
        return _others(sample, [self.train[int(i)] for i in latest])[-self.count :]


@dataclass(frozen=True)
class SimilarExamples:
    """The training samples whose visible values are most similar in shape, the most similar last."""

    index: WindowIndex
    count: int

    def __call__(self, sample: Sample) -> list[Sample]:
        return _others(sample, self.index.similar(sample, self.count + 1))[: self.count][::-1]


def make_example_selector(
    by: Selection, count: int, train: TrainingWindows, *, seed: int = 0
) -> ExampleSelector:
    """The selector of that name over the training samples. Raises DataError where there are none."""
    check_training_windows(train, "A selector of few-shot examples")
    if not len(train):
        raise DataError("Examples are solved training samples, but there is none. Correct `split`.")
    if by == "random":
        return RandomExamples(train, count, seed)
    if by == "recent":
        ends = np.array([int(sample.time[-1]) for sample in train], dtype=np.int64)
        return RecentExamples(train, ends, tuple(_object_id(sample) for sample in train), count)
    return SimilarExamples(WindowIndex.fit(train), count)


def _object_id(sample: Sample) -> str:
    """The id of the object of a trajectory or of events; '' for other kinds."""
    return sample.place[0] if sample.kind in ("trajectory", "event") else ""


def _others(sample: Sample, candidates: Sequence[Sample]) -> list[Sample]:
    return [candidate for candidate in candidates if candidate.id != sample.id]
