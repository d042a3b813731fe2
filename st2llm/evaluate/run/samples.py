"""Samples of a comparison: restricted to a subset of their places, and without their truth."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from st2llm.types import Sample, seed_from


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
