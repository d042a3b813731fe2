"""Checks the unit and the clock of audited predictions against the true values."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.data.calendar import local_iso
from st2llm.errors import ConfigError, DataError, nearest
from st2llm.evaluate.audit.alignment import Aligned
from st2llm.evaluate.audit.problem import Problem

UNITS = ("raw", "standardised", "standardised-by-place")
_FAR = 2.0
"""Predictions whose error is so many times that of a constant have another unit, where another unit suits them."""
_MAX_SHIFT_S = 14 * 3600
_HOUR_S, _QUARTER_S = 3600, 900
_ENTRIES = 200_000
"""Entries that the clock is checked on."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """Means and standard deviations by series: `(value - mean) / std` is standardised."""

    mean: Float64[np.ndarray, " series"]
    std: Float64[np.ndarray, " series"]


def fit_scaler(values: Float64[np.ndarray, "time series"], *, by_place: bool) -> Scaler:
    """The scaler of readings, one for all series or one for each; a series that does not vary keeps its scale."""
    if by_place:
        mean, std = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    else:
        mean, std = (np.full(values.shape[1], statistic(values)) for statistic in (np.nanmean, np.nanstd))
    return Scaler(mean, np.where(std > 0, std, 1.0))


def to_raw(aligned: Aligned, problem: Problem, units: str) -> Aligned:
    """The predictions in raw units. units: one of UNITS, those of the file.

    Raises ConfigError for another name, and DataError where `raw` values are plainly in another unit.
    """
    if units not in UNITS:
        raise ConfigError(f"There are no units {units!r}. {nearest(units, UNITS)}")
    if units == "raw":
        _check_raw(aligned, problem)
        return aligned
    scaler = fit_scaler(problem.training_values(), by_place=units != "standardised")
    own = None if aligned.own_truth is None else aligned.own_truth * scaler.std + scaler.mean
    return Aligned(
        aligned.origins, aligned.value * scaler.std + scaler.mean, aligned.truth, own, aligned.padded
    )


def _check_raw(aligned: Aligned, problem: Problem) -> None:
    """Raises DataError where the error is far above that of a constant and a change of the unit mends it."""
    valid = aligned.valid
    value, truth = aligned.value[valid], aligned.truth[valid]
    if len(truth) < 2 or not np.std(value) or not np.std(truth):
        return
    error = float(np.abs(value - truth).mean())
    constant = float(np.abs(truth - np.median(truth)).mean())
    slope, intercept = np.polyfit(value, truth, 1)
    mended = float(np.abs(slope * value + intercept - truth).mean())
    if error <= _FAR * constant or mended > constant or mended > error / _FAR:
        return
    undone = {units: _error_if(aligned, problem, units) for units in UNITS[1:]}
    likely = min(undone, key=lambda units: undone[units])
    if undone[likely] <= 1.1 * mended:
        raise DataError(
            f"The predictions are not in {problem.data.unit or 'the unit of the data'}: they are on average "
            f"{error:.4g} off, but {undone[likely]:.4g} if they are standardised. Add --units {likely}, or "
            f"convert them."
        )
    raise DataError(
        f"The predictions are not in {problem.data.unit or 'the unit of the data'}: they are on average {error:.4g} "
        f"off, a constant {constant:.4g}, and {slope:.4g} times the prediction plus {intercept:.4g} only {mended:.4g}. "
        f"Convert them to the unit of the data first."
    )


def _error_if(aligned: Aligned, problem: Problem, units: str) -> float:
    """The mean absolute error of the predictions if they are in these units."""
    scaler = fit_scaler(problem.training_values(), by_place=units != "standardised")
    error = np.abs(aligned.value * scaler.std + scaler.mean - aligned.truth)
    return float(error[aligned.valid].mean())


@dataclass(frozen=True)
class ClockShift:
    """That predictions suit the truth of another time better. steps: how many later (negative: earlier)."""

    steps: int
    mae_now: float
    mae_shifted: float

    def in_words(self, freq_s: int) -> str:
        hours = abs(self.steps) * freq_s / 3600
        return (
            f"the predictions suit the true values {hours:g} h {'later' if self.steps > 0 else 'earlier'} better (MAE "
            f"{self.mae_shifted:.4g} against {self.mae_now:.4g})"
        )


def find_shift(aligned: Aligned, problem: Problem) -> ClockShift | None:
    """The shift of the clock, of 1 to 14 hours, that lowers the MAE most, if it lowers it by a tenth or more.

    Of the first step alone, since forecasts of later steps resemble what was known when they were made.
    """
    freq = problem.data.freq_s
    most, unit = _MAX_SHIFT_S // freq, max(1, -(-_QUARTER_S // freq))
    shifts = [k for k in range(-most, most + 1) if k % unit == 0 and (k == 0 or abs(k) * freq >= _HOUR_S)]
    kept = _thinned(len(aligned.origins), aligned.value.shape[2])
    value, origins = aligned.value[kept, 0], aligned.origins[kept]
    errors = {k: _error_at(value, origins + k, problem) for k in shifts}
    now, best = errors[0], min(errors, key=lambda k: errors[k])
    return ClockShift(best, now, errors[best]) if errors[best] < 0.9 * now else None


def check_clock(aligned: Aligned, problem: Problem, shift: ClockShift | None) -> None:
    """Raises DataError where all windows are those of a test part, moved by the shift that suits them better."""
    if shift is None:
        return
    for windows in problem.sets:
        moved = aligned.origins + shift.steps
        if np.array_equal(moved, windows.origins) and not np.array_equal(aligned.origins, windows.origins):
            first = local_iso(int(problem.data.time[aligned.origins[0]]), problem.data.timezone)
            raise DataError(
                f"The windows are those of the test part, but {abs(shift.steps) * problem.data.freq_s / 3600:g} h "
                f"{'too early' if shift.steps > 0 else 'too late'} (the first begins at {first}), and "
                f"{shift.in_words(problem.data.freq_s)}. The times are in another zone than "
                f"{problem.data.timezone}: name theirs with --timezone, or give offsets."
            )


def _thinned(windows: int, entries: int) -> Int64[np.ndarray, " window"]:
    count = max(1, min(windows, _ENTRIES // max(entries, 1)))
    return np.unique(np.linspace(0, windows - 1, count).round().astype(np.int64))


def _error_at(value: np.ndarray, origins: np.ndarray, problem: Problem) -> float:
    inside = (origins >= 0) & (origins <= len(problem.data.time) - problem.task.horizon)
    if inside.mean() < 0.5:
        return np.inf
    error = np.abs(value[inside] - problem.first_step(origins[inside]))
    return float(np.nanmean(error)) if np.isfinite(error).any() else np.inf
