"""Controls on graphs whose windows predict whole days: each day has a level, and a note that states it.

Positive control: the values of a day are its usual profile times its level. Both gains must be positive.
Negative control: the same notes, shuffled over the days; the intervals must contain zero.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from st2llm.data.windows.field import boundaries
from st2llm.evaluate.controls.notes import LEVELS, level_note
from st2llm.predict.baselines import fit_slot_mean
from st2llm.types import Note, SensorGraph, TrainingWindows

_NOISE = 0.05


@dataclass(frozen=True)
class PlantedData:
    """A control data set, and a note of its training and of its test part."""

    data: SensorGraph
    train_note: str
    test_note: str


def plant_daily_notes(
    data: SensorGraph, train: TrainingWindows, *, places: int, shuffled: bool, seed: int
) -> PlantedData:
    """The first `places` places with slot mean x level of the day as values, and a note that states the level.

    data: supplies places and calendar. train: the samples that the slot mean is fitted on. Each value has log-normal
    noise of 5 %. shuffled: permutes the notes over the days of each part of the split (the negative control).
    """
    rng = np.random.default_rng(seed)
    profile = np.maximum(fit_slot_mean(train).at(data.calendar, data.time)[:, :places], 1.0)
    days = _local_days(data)
    names, index = np.unique(days, return_inverse=True)
    part = _parts(data, index, len(names))
    level = rng.integers(len(LEVELS), size=len(names))
    texts = [level_note(str(part[d]), int(level[d]), rng) for d in range(len(names))]
    if shuffled:
        for name in np.unique(part):
            rows = np.flatnonzero(part == name)
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
    planted = replace(
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
    return PlantedData(planted, texts[first], texts[last])


def _local_days(data: SensorGraph) -> np.ndarray:
    stamps = pd.to_datetime(data.time, unit="s", utc=True).tz_convert(data.timezone)
    return np.asarray(stamps.strftime("%Y-%m-%d"))


def _parts(data: SensorGraph, index: np.ndarray, days: int) -> np.ndarray:
    """The part of the split that each day belongs to: the one whose windows contain its note."""
    _, validation, test, _ = boundaries(data)
    noted = np.array([_middle(np.flatnonzero(index == day)) for day in range(days)])
    return np.where(noted < validation, "train", np.where(noted < test, "validation", "test"))


def _middle(steps: np.ndarray) -> int:
    return (int(steps[0]) + int(steps[-1]) + 1) // 2


def _notes(data: SensorGraph, index: np.ndarray, texts: list[str]) -> tuple[Note, ...]:
    edges = np.flatnonzero(np.diff(index)) + 1
    starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(index)]])
    # A note is dated at the middle of its day: a window that a change of the clock shifts by an hour still contains
    # exactly one note.
    middle = (starts + ends) // 2
    return tuple(
        Note(int(data.time[m]), int(data.time[m]) + data.freq_s, texts[int(index[m])]) for m in middle
    )
