"""Samples of a comparison: restricted to a subset of their places, each place left out in turn, and without truth."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from st2llm.predict.baselines.rule import known_values
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


def ask_for_all(sample: Sample, start: int) -> Sample:
    """The sample with every reading from step `start` on wanted, at all places, and none of them visible."""
    return _asking(sample, np.ones(len(sample.place), dtype=bool), start)


def leave_places_out(sample: Sample, start: int) -> list[Sample]:
    """A copy of the sample for each place with a reading from step `start` on: this place is hidden there, and all
    readings of the others are visible.
    """
    present = np.isfinite(known_values(sample)[start:]).any(axis=(0, 2))
    places = np.arange(len(sample.place))
    return [_asking(sample, places == node, start) for node in np.flatnonzero(present)]


def _asking(sample: Sample, places: Bool[np.ndarray, " node"], start: int) -> Sample:
    """The sample whose wanted and hidden readings are those of `places` from step `start` on."""
    known = known_values(sample)
    hidden = np.zeros_like(sample.wanted)
    hidden[start:, places] = True
    visible, wanted = np.isfinite(known) & ~hidden, np.isfinite(known) & hidden
    return replace(
        sample,
        values=np.where(visible, known, np.nan),
        visible=visible,
        wanted=wanted,
        truth=np.where(wanted, known, np.nan),
    )


def of_each_place(sample: Sample) -> list[Sample]:
    """A sample for each wanted place of this one, which asks for that place alone. What is visible does not change."""
    places = [sample.place[node] for node in sample.wanted_nodes]
    return [replace(sample.at(place), id=f"{sample.id}/{place}") for place in places]


def without_truth(samples: Sequence[Sample]) -> list[Sample]:
    """The samples as predictors get them."""
    return [sample.without_truth() for sample in samples]
