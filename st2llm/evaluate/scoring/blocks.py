"""Blocks: which samples depend on each other, and are one unit of the interval."""

from collections.abc import Mapping

import pandas as pd

_NOT_CUT: Mapping[str, str] = {}


def block_of_samples(
    frame: pd.DataFrame, block: str, timezone: str, cut_from: Mapping[str, str] = _NOT_CUT
) -> dict[str, str]:
    """The block of each sample by name; samples of a block depend on each other.

    frame: predictions with the columns sample, place and time (seconds UTC). block: day or week (the local day, or its
    Monday, of the middle predicted step), object (the moving object), place (the one place that the sample asks for),
    clip (the clip that the sample is cut from) or sample (itself). cut_from: the whole object of each trip, since trips
    of one object depend on each other.
    """
    names = frame["sample"].astype(str)
    if block == "sample":
        return {name: name for name in names.unique()}
    if block == "clip":
        return {name: name.split("/", 1)[-1].rsplit("/", 1)[0] for name in names.unique()}
    if block in ("object", "place"):
        objects = frame["place"].astype(str).groupby(names).first()
        return {str(sample): cut_from.get(id, id) for sample, id in objects.items()}
    middle = pd.Series(middle_times(frame))
    local = pd.to_datetime(middle, unit="s", utc=True).dt.tz_convert(timezone)
    if block == "week":
        local = local.dt.tz_localize(None)  # the date of a Monday, across changes of the clock
        local = local - pd.to_timedelta(local.dt.day_of_week, unit="D")
    return {str(sample): str(day) for sample, day in local.dt.strftime("%Y-%m-%d").items()}


def middle_times(frame: pd.DataFrame) -> dict[str, int]:
    """The middle of the predicted times of each sample, in seconds UTC."""
    middle = frame.groupby(frame["sample"].astype(str))["time"].median()
    return {str(sample): int(time) for sample, time in middle.items()}
