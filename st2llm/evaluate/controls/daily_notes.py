"""Planted controls: data whose target depends on sentences, so that we know what the answer must be.

Positive: each day's level is told by a note; the notes of training, validation and test share no phrase, so only
a model that knew beforehand which words mean the same can carry the level over. Both gains must come out positive.
Negative: the same notes, shuffled over the days; they say nothing, and the intervals must hold zero.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from st2llm.data.windows.field import boundaries
from st2llm.predict.baselines import fit_slot_mean
from st2llm.types import Note, Sample, SensorGraph

LEVELS = (0.4, 1.0, 1.6)
"""What a level makes of what is usual."""
_NOISE = 0.05
_CARRIERS = ("Note for the day: {}.", "Today {}.", "The warden writes: {}.")
_PHRASES: dict[str, tuple[tuple[str, ...], ...]] = {
    "train": (
        (
            "the streets are nearly empty",
            "hardly anyone is about",
            "the town is deserted",
            "it is very quiet",
            "almost nobody comes",
            "the place feels abandoned",
            "only a few people pass",
        ),
        (
            "it is an ordinary day",
            "things are as usual",
            "nothing special is going on",
            "a normal number of people pass",
            "it is a typical day",
            "all is at its regular level",
            "there is an average crowd",
        ),
        (
            "the streets are packed",
            "huge crowds are out",
            "the town is overflowing with people",
            "it is extremely busy",
            "everyone is coming",
            "the pavements are jammed",
            "a great many people pass",
        ),
    ),
    "validation": (
        (
            "there is barely a soul around",
            "the centre lies empty and silent",
            "scarcely any visitors show up",
        ),
        ("everything runs its normal course", "the turnout is standard", "it is a day like any other"),
        (
            "masses of visitors fill the centre",
            "there is a huge throng",
            "the squares are bursting with people",
        ),
    ),
    "test": (
        (
            "the centre is a ghost town",
            "hardly a visitor shows up",
            "few walkers are around",
            "the roads are silent and bare",
            "there is next to no one outside",
        ),
        (
            "the usual numbers turn up",
            "a routine day unfolds",
            "visitors come as they normally do",
            "everything is about average",
            "it is business as normal",
        ),
        (
            "the centre is swarming with shoppers",
            "an enormous crowd gathers",
            "the place is crammed full",
            "streams of visitors fill the roads",
            "there are throngs everywhere",
        ),
    ),
}


@dataclass(frozen=True)
class PlantedData:
    """A control data set and an example of its notes in training and in test."""

    data: SensorGraph
    train_note: str
    test_note: str


def plant_daily_notes(
    data: SensorGraph, train: list[Sample], *, places: int, shuffled: bool, seed: int
) -> PlantedData:
    """Replaces the values of the first `places` places by slot mean x level of the day, and adds the day's note.

    data: supplies places, calendar and daily profile (fitted on `train`). Noise of 5 % (log-normal) on each value.
    shuffled: permutes the notes over the days of each split, so that they say nothing about their day.
    """
    rng = np.random.default_rng(seed)
    profile = np.maximum(fit_slot_mean(train).at(data.calendar, data.time)[:, :places], 1.0)
    days = _local_days(data)
    names, index = np.unique(days, return_inverse=True)
    part = _parts(data, index, len(names))
    level = rng.integers(len(LEVELS), size=len(names))
    texts = [level_note(str(part[d]), int(level[d]), rng) for d in range(len(names))]
    if shuffled:
        for which in np.unique(part):
            rows = np.flatnonzero(part == which)
            texts_of = [texts[i] for i in rows]
            for row, other in zip(rows, rng.permutation(len(rows)), strict=True):
                texts[row] = texts_of[int(other)]
    factor = np.array(LEVELS)[level][index][:, None, None]
    values = profile * factor * np.exp(rng.normal(0, _NOISE, size=profile.shape))
    kept = (data.edges.source < places) & (data.edges.target < places)
    edges = replace(
        data.edges,
        source=data.edges.source[kept],
        target=data.edges.target[kept],
        weight=data.edges.weight[kept],
    )
    notes = _notes(data, index, texts)
    made = replace(
        data,
        name=f"{data.name}-{'negative' if shuffled else 'positive'}-control",
        values=values.astype(np.float64),
        places=data.places[:places],
        labels=data.labels[:places],
        lonlat=None if data.lonlat is None else data.lonlat[:places],
        xy=None if data.xy is None else data.xy[:places],
        edges=edges,
        notes=notes,
    )
    first, last = int(np.flatnonzero(part == "train")[0]), int(np.flatnonzero(part == "test")[0])
    return PlantedData(made, texts[first], texts[last])


def level_note(part: str, level: int, rng: np.random.Generator) -> str:
    """Words of a level (0 to 2) that no other part of a split has."""
    phrases = _PHRASES[part][level]
    return _CARRIERS[int(rng.integers(len(_CARRIERS)))].format(phrases[int(rng.integers(len(phrases)))])


def _local_days(data: SensorGraph) -> np.ndarray:
    stamps = pd.to_datetime(data.time, unit="s", utc=True).tz_convert(data.timezone)
    return np.asarray(stamps.strftime("%Y-%m-%d"))


def _parts(data: SensorGraph, index: np.ndarray, days: int) -> np.ndarray:
    """Which split a day belongs to: the one whose windows see its note."""
    _, validation, test, _ = boundaries(data)
    noted = np.array([_middle(np.flatnonzero(index == day)) for day in range(days)])
    return np.where(noted < validation, "train", np.where(noted < test, "validation", "test"))


def _middle(steps: np.ndarray) -> int:
    return (int(steps[0]) + int(steps[-1]) + 1) // 2


def _notes(data: SensorGraph, index: np.ndarray, texts: list[str]) -> tuple[Note, ...]:
    edges = np.flatnonzero(np.diff(index)) + 1
    starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(index)]])
    # A note is dated at the middle of its day, so that a window whose origin the change of clocks moved by an hour
    # still has one note and not its neighbour's as well.
    middle = (starts + ends) // 2
    return tuple(
        Note(int(data.time[m]), int(data.time[m]) + data.freq_s, texts[int(index[m])]) for m in middle
    )
