"""Lengths of time in seconds, and the regular steps of an axis of time."""

import numpy as np

from st2llm.errors import DataError

HOUR_S = 3_600
DAY_S = 86_400
MONTH_S = 2_629_746
"""The step of monthly data: the mean Gregorian month. Time stamps of monthly data are calendar months apart."""


def check_steps(name: str, time: np.ndarray, freq_s: int) -> None:
    """Raises DataError where time does not advance by freq_s; by 28 to 31 days where the step is a month."""
    step = np.diff(time)
    wrong = np.flatnonzero((step < 28 * DAY_S) | (step > 31 * DAY_S) if freq_s == MONTH_S else step != freq_s)
    if wrong.size:
        i = int(wrong[0])
        raise DataError(
            f"{name}: time must advance by {freq_s} s, but t[{i}]={time[i]} is followed by "
            f"t[{i + 1}]={time[i + 1]}. Sort the stamps, drop duplicates and reindex to the step."
        )
