"""Training means of each place by slot of the calendar, such as the hour of the week."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.data.calendar import month_of_year
from st2llm.errors import DataError
from st2llm.predict.baselines.rule import WindowValues, known_values
from st2llm.types import DAY_S, MONTH_S, Calendar, Sample, TrainingWindows, check_training_windows


@dataclass(frozen=True)
class SlotMean:
    """Training mean of each place and channel by local hour of the week (step of day x day of week).

    Monthly data have a slot for each month of the year; data with longer steps, or without a clock (video), one slot.
    A slot without training values takes the place's mean over all slots, a place without any the channel's mean over
    all places.
    """

    table: Float64[np.ndarray, "slot node channel"]
    freq_s: int

    def at(self, calendar: Calendar, time: Int64[np.ndarray, " time"]) -> WindowValues:
        return np.asarray(self.table[_slot_index(calendar, time, self.freq_s)], dtype=np.float64)

    def of(self, sample: Sample) -> WindowValues:
        return self.at(sample.side.calendar, sample.time)

    def to_json(self) -> dict[str, Any]:
        return {"table": self.table.tolist(), "freq_s": self.freq_s}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "SlotMean":
        return cls(np.array(content["table"], dtype=np.float64), int(content["freq_s"]))


@dataclass(frozen=True)
class HeldOutSlotMean:
    """Slot means without the values of the window itself (the jackknife).

    Slot means that include a training window make its deviations too small and correlated with those of other windows
    of the slot. Where a slot has few training values, a model fitted on such deviations does not transfer to later
    windows. For a window without values in the training part these are the slot means.
    """

    means: SlotMean
    training: "_TrainingValues"
    sums: "_SlotSums"

    def of(self, sample: Sample) -> WindowValues:
        own = np.isin(self.training.time, sample.time)
        if not own.any():
            return self.means.of(sample)
        window = _slot_sums(self.training.rows[own], self.training.slots[own], len(self.means.table))
        others = _SlotSums(self.sums.total - window.total, self.sums.count - window.count)
        return others.means(self.means.freq_s).of(sample)

    def to_json(self) -> dict[str, Any]:
        """The means of all training windows."""
        return self.means.to_json()


def fit_slot_mean(train: TrainingWindows) -> SlotMean:
    """Means of all values of the training windows, wanted ones included; each time step counts once."""
    check_training_windows(train, "A slot mean")
    training, freq_s = _training_values(train), train[0].side.freq_s
    return _slot_sums(training.rows, training.slots, _slot_count(freq_s)).means(freq_s)


def fit_held_out_slot_mean(train: TrainingWindows) -> HeldOutSlotMean:
    """Slot means that leave out each training window. Raises DataError for windows without a clock."""
    check_training_windows(train, "A slot mean")
    side = train[0].side
    if not side.freq_s:
        raise DataError(
            f"{side.dataset} has no clock, so no window can be held out of the means of its slots. Subtract each "
            f"place's own mean (`encoder.center_on: place`)."
        )
    training = _training_values(train)
    sums = _slot_sums(training.rows, training.slots, _slot_count(side.freq_s))
    return HeldOutSlotMean(sums.means(side.freq_s), training, sums)


@dataclass(frozen=True)
class _TrainingValues:
    """The values of all training windows, a row for each time step."""

    time: Int64[np.ndarray, " step"]
    rows: Float64[np.ndarray, "step node channel"]
    slots: Int64[np.ndarray, " step"]


def _training_values(train: TrainingWindows) -> _TrainingValues:
    freq_s = train[0].side.freq_s
    used: set[int] = set()
    parts = []
    for sample in train:
        fresh = np.array([int(t) not in used for t in sample.time])
        if freq_s:  # the time stamps of clips all begin at 0 and identify no step
            used.update(sample.time.tolist())
        slots = _slot_index(sample.side.calendar, sample.time, freq_s)
        parts.append((sample.time[fresh], known_values(sample)[fresh], slots[fresh]))
    time, rows, slots = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _TrainingValues(time, rows, slots)


@dataclass(frozen=True)
class _SlotSums:
    """Sum and number of the values of each slot."""

    total: Float64[np.ndarray, "slot node channel"]
    count: Float64[np.ndarray, "slot node channel"]

    def means(self, freq_s: int) -> SlotMean:
        total, count = self.total, self.count
        overall = total.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
        everywhere = total.sum(axis=(0, 1)) / np.maximum(count.sum(axis=(0, 1)), 1)
        overall = np.where(count.sum(axis=0) > 0, overall, everywhere)
        return SlotMean(np.where(count > 0, total / np.maximum(count, 1), overall), freq_s)


def _slot_sums(
    rows: Float64[np.ndarray, "step node channel"], slots: Int64[np.ndarray, " step"], count: int
) -> _SlotSums:
    total, known = np.zeros((2, count, *rows.shape[1:]))
    np.add.at(total, slots, np.nan_to_num(rows))
    np.add.at(known, slots, np.isfinite(rows))
    return _SlotSums(total, known)


def fit_place_mean(train: TrainingWindows) -> SlotMean:
    """The mean of each place over all values of the training windows, in every slot; each time step counts once."""
    check_training_windows(train, "A mean of places")
    training, freq_s = _training_values(train), train[0].side.freq_s
    one_slot = _slot_sums(training.rows, np.zeros_like(training.slots), 1).means(freq_s)
    return SlotMean(np.repeat(one_slot.table, _slot_count(freq_s), axis=0), freq_s)


def _slot_count(freq_s: int) -> int:
    if freq_s == MONTH_S:
        return 12
    return 7 * _steps_per_day(freq_s) if 0 < freq_s <= DAY_S else 1


def _steps_per_day(freq_s: int) -> int:
    return -(-DAY_S // freq_s)


def _slot_index(
    calendar: Calendar, time: Int64[np.ndarray, " time"], freq_s: int
) -> Int64[np.ndarray, " time"]:
    if freq_s == MONTH_S:
        return month_of_year(time, freq_s)
    if 0 < freq_s <= DAY_S:
        slot = calendar.day_of_week * _steps_per_day(freq_s) + calendar.step_of_day
        return np.asarray(slot, dtype=np.int64)
    return np.zeros(len(time), dtype=np.int64)
