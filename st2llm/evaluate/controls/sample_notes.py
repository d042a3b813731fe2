"""Controls for any kind of data: each sample has a level that sets its truth, and a note.

Positive control: the note states that level. Negative control: it states another level, drawn independently.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.data.windows.splits import Splits
from st2llm.evaluate.controls.notes import LEVELS, level_note
from st2llm.types import Sample, SampleSequence, seed_from

_NOISE = 0.05
_GAPS = (0.2, 1.0, 5.0)
"""The factor of each level on the usual gap between events."""
_LEAST_STEP = 0.1


@dataclass(frozen=True)
class PlantedPart:
    """A part of a split whose samples get a level, a note and a truth, all drawn from the seed and the sample's id."""

    part: SampleSequence
    name: str
    shuffled: bool
    seed: int

    def __len__(self) -> int:
        return len(self.part)

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "PlantedPart": ...

    def __getitem__(self, index: int | slice) -> "Sample | PlantedPart":
        if isinstance(index, slice):
            return replace(self, part=self.part[index])
        return plant_sample_note(self.part[index], self.name, shuffled=self.shuffled, seed=self.seed)

    def indices(self) -> Int64[np.ndarray, " window"]:
        return self.part.indices()

    def select(self, positions: Iterable[int]) -> "PlantedPart":
        return replace(self, part=self.part.select(positions))

    @property
    def sha256(self) -> str:
        identity = f"{self.part.sha256} {self.name} {self.shuffled} {self.seed}"
        return hashlib.sha256(identity.encode()).hexdigest()


def plant_sample_notes(splits: Splits, *, shuffled: bool, seed: int) -> Splits:
    """The same splits with planted notes and truths."""

    def plant(part: SampleSequence, name: str) -> PlantedPart:
        return PlantedPart(part, name, shuffled, seed)

    return Splits(
        splits.train.map(lambda part: plant(part, "train")),
        splits.validation.map(lambda part: plant(part, "validation")),
        splits.test.map(lambda part: plant(part, "test")),
    )


def plant_sample_note(sample: Sample, part: str, *, shuffled: bool, seed: int) -> Sample:
    """The sample with a note, and a truth computed from its visible values and its level.

    part: train, validation or test, whose phrases the note takes. shuffled: the note states a level drawn
    independently. The truth has log-normal noise of 5 %.
    """
    rng = np.random.default_rng(seed_from(f"{seed} {sample.id}"))
    level, other = (int(n) for n in rng.integers(len(LEVELS), size=2))
    note = level_note(part, other if shuffled else level, rng)
    side = replace(sample.side, notes=(note,))
    if sample.truth is None:
        return replace(sample, side=side)
    return _ANSWERS.get(sample.task, _field)(replace(sample, side=side), level, rng)


def _field(sample: Sample, level: int, rng: np.random.Generator) -> Sample:
    """Fields: the mean of the visible values of each place, times the factor of the level."""
    visible = np.where(sample.visible, sample.values, np.nan)
    visible_count = np.isfinite(visible).sum(axis=0)
    mean = np.where(visible_count > 0, np.nansum(visible, axis=0) / np.maximum(visible_count, 1), 0.0)
    place_mean = np.maximum(mean, 1.0)
    noise = np.exp(rng.normal(0, _NOISE, size=sample.values.shape))
    return replace(sample, truth=np.where(sample.wanted, place_mean * LEVELS[level] * noise, np.nan))


def _path(sample: Sample, level: int, rng: np.random.Generator) -> Sample:
    """Paths: straight on at the usual speed times the factor of the level."""
    if sample.kind != "trajectory":
        return _field(sample, level, rng)
    x, y = (sample.side.channels.index(name) for name in ("x", "y"))
    xy = np.where(sample.visible, sample.values, np.nan)[:, 0][:, [x, y]]
    visible = xy[np.isfinite(xy).all(axis=1)]
    displacement = visible[-1] - visible[0]
    length = float(np.hypot(*displacement))
    ahead = displacement / length if length > 1e-6 else np.array([1.0, 0.0])
    step = max(length / max(len(visible) - 1, 1), _LEAST_STEP) * LEVELS[level]
    steps = sample.wanted_steps
    paces = step * np.exp(rng.normal(0, _NOISE, size=len(steps)))
    truth = np.full(sample.values.shape, np.nan)
    truth[steps[:, None], 0, [x, y]] = visible[-1] + np.cumsum(paces)[:, None] * ahead
    return replace(sample, truth=np.where(sample.wanted, truth, np.nan))


def _gap(sample: Sample, level: int, rng: np.random.Generator) -> Sample:
    """Next event: the usual (geometric median) gap, a fifth of it or five times as long."""
    channel = sample.side.channels.index("gap_h")
    visible = _visible_channel(sample, channel)
    median_gap = float(np.exp(np.median(np.log(visible[visible > 0])))) if (visible > 0).any() else 1.0
    truth = np.array(sample.truth, dtype=np.float64)
    truth[-1, 0, channel] = median_gap * _GAPS[level] * float(np.exp(rng.normal(0, _NOISE)))
    return replace(sample, truth=np.where(sample.wanted, truth, np.nan))


def _place(sample: Sample, level: int, rng: np.random.Generator) -> Sample:
    """Next place: the latest place, the second or the third latest; with fewer places, these in turn."""
    channel = sample.side.channels.index("place")
    latest = list(dict.fromkeys(_visible_channel(sample, channel)[::-1].astype(int).tolist()))
    code = latest[level % len(latest)]
    truth = np.array(sample.truth, dtype=np.float64)
    truth[-1, 0, channel] = code
    return replace(sample, truth=np.where(sample.wanted, truth, np.nan), label=sample.side.options[code])


def _visible_channel(sample: Sample, channel: int) -> Float64[np.ndarray, " step"]:
    visible = np.where(sample.visible, sample.values, np.nan)[:, 0, channel]
    return np.asarray(visible[np.isfinite(visible)])


_ANSWERS: dict[str, Callable[[Sample, int, np.random.Generator], Sample]] = {
    "forecast": _path,
    "next-event": _gap,
    "next-place": _place,
}
