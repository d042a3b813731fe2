"""The part of the CF conventions that grids need: the role of an axis, its unit, and its times."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from st2llm.errors import DataError
from st2llm.types import DAY_S

_NAMES = {
    "time": {"time", "t", "valid_time"},
    "row": {"lat", "latitude", "y", "row", "rows", "nav_lat", "grid_latitude", "rlat"},
    "col": {"lon", "longitude", "x", "col", "cols", "nav_lon", "grid_longitude", "rlon"},
}
_STANDARD = {
    "time": "time",
    "latitude": "row",
    "longitude": "col",
    "grid_latitude": "row",
    "grid_longitude": "col",
    "projection_y_coordinate": "row",
    "projection_x_coordinate": "col",
}
_ROTATED = {"rlat", "rlon", "grid_latitude", "grid_longitude"}
_AXES = {"T": "time", "Y": "row", "X": "col"}
_METRES = {
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), 1.0),
    **dict.fromkeys(("km", "kilometre", "kilometres", "kilometer", "kilometers"), 1000.0),
}
_SECONDS = {
    **dict.fromkeys(("millisecond", "msec", "m"), 1e-3),
    **dict.fromkeys(("second", "sec", ""), 1.0),
    **dict.fromkeys(("minute", "min"), 60.0),
    **dict.fromkeys(("hour", "hr", "h"), 3600.0),
    **dict.fromkeys(("day", "d"), float(DAY_S)),
    "week": 604_800.0,
}
"""Seconds in a unit of time, by its name without a final s."""
_CALENDARS = {"standard", "gregorian", "proleptic_gregorian"}
_EARLIEST, _LATEST = -12_212_553_600, 16_725_225_600
"""The years 1583 to 2499. Before 1583 the standard calendar is not the Gregorian one."""


def axis_role(name: str, attributes: Mapping[str, Any]) -> str | None:
    """The role of a dimension: 'time', 'row' or 'col'; None where neither its name nor its attributes give it."""
    standard_name, axis, units = (str(attributes.get(key, "")) for key in ("standard_name", "axis", "units"))
    if standard_name in _STANDARD:
        return _STANDARD[standard_name]
    if axis in _AXES:
        return _AXES[axis]
    if " since " in units:
        return "time"
    if units.startswith(("degrees_n", "degree_n")):
        return "row"
    if units.startswith(("degrees_e", "degree_e")):
        return "col"
    return next((role for role, names in _NAMES.items() if name.lower() in names), None)


def coordinate_unit(name: str, attributes: Mapping[str, Any]) -> tuple[str, float]:
    """The unit of a coordinate ('degrees', 'metres' or 'cells') and the factor that converts its numbers to it.

    Degrees are those of latitude and longitude; coordinates of a rotated pole and angles of a projection are cells.
    """
    unit, standard_name = (str(attributes.get(key, "")).lower() for key in ("units", "standard_name"))
    if unit in _METRES:
        return "metres", _METRES[unit]
    if standard_name.startswith(("grid_", "projection_")) or name.lower() in _ROTATED:
        return "cells", 1.0
    geographic = unit.startswith("degree") or name.lower() in {"lat", "lon", "latitude", "longitude"}
    return ("degrees" if geographic else "cells"), 1.0


def decode_time(values: np.ndarray, attributes: Mapping[str, Any], where: str) -> Int64[np.ndarray, " time"]:
    """The seconds UTC of a time coordinate, by its units ('days since 1800-01-01') and calendar.

    Fractions of a second are rounded. Raises DataError for calendars of climate models (noleap, 360_day), whose days
    are not real days, and for unknown units.
    """
    kind = str(attributes.get("calendar", "standard")).lower()
    if kind not in _CALENDARS:
        raise DataError(
            f"{where}: the days of the calendar {kind!r} are not those of the real calendar. Convert the file to the "
            "standard calendar first, for instance with xarray's Dataset.convert_calendar('standard')."
        )
    units = str(attributes.get("units", ""))
    match = re.fullmatch(r"\s*(\w*?)s?\s+since\s+(.+?)\s*", units, re.IGNORECASE)
    if match is None:
        raise DataError(
            f"{where}: time should have units such as 'hours since 1970-01-01', but they are {units!r}."
        )
    steps = np.asarray(values, dtype=np.float64)
    if steps.ndim != 1 or not np.isfinite(steps).all():
        raise DataError(
            f"{where}: time should be one finite number for each step. Correct its missing or infinite values."
        )
    unit = match[1].lower()
    start = _epoch(match[2], kind, where)
    if unit in ("month", "year"):
        return _months(start, steps * (12 if unit == "year" else 1), where, units)
    if unit not in _SECONDS:
        raise DataError(
            f"{where}: time counts {unit!r}, but seconds, minutes, hours, days or months are expected."
        )
    seconds = start + steps * _SECONDS[unit]
    if ((seconds < _EARLIEST) | (seconds >= _LATEST)).any():
        raise DataError(
            f"{where}: the time in {units!r} is outside the years 1583 to 2499. Correct its units."
        )
    return np.rint(seconds).astype(np.int64)


def _months(start: float, steps: np.ndarray, where: str, units: str) -> Int64[np.ndarray, " time"]:
    if (steps != np.rint(steps)).any() or np.abs(steps).max(initial=0) > 12_000:
        raise DataError(
            f"{where}: {units!r} should count whole months, but it has fractions. Write days or hours."
        )
    if not _EARLIEST <= start < _LATEST:
        raise DataError(
            f"{where}: {units!r} should count from a day between 1583 and 2499. Write days or hours."
        )
    first = pd.Timestamp(int(start), unit="s")
    stamps = [first + pd.DateOffset(months=int(n)) for n in steps]
    return np.array([int(stamp.timestamp()) for stamp in stamps], dtype=np.int64)


def _epoch(reference: str, kind: str, where: str) -> float:
    """Seconds since 1970 of the reference time; before 15 October 1582 in the Julian calendar, where CF asks for it."""
    match = re.fullmatch(
        r"(-?\d{1,4})-(\d{1,2})-(\d{1,2})(?:[T ]+(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d+)?)?)?\s*(?:Z|UTC|GMT)?"
        r"([+-]\d{1,2}(?::?\d{2})?)?",
        reference,
    )
    if match is None:
        raise DataError(
            f"{where}: time counts since {reference!r}, but a timestamp such as 1970-01-01 00:00:00 is expected."
        )
    year, month, day = (int(match[i]) for i in (1, 2, 3))
    hour, minute, second = (int(match[i] or 0) for i in (4, 5, 6))
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour <= 24 and minute < 60 and second <= 60):
        raise DataError(f"{where}: time counts since {reference!r}, which is not a date. Correct its units.")
    days = _day_number(
        year, month, day, julian=kind != "proleptic_gregorian" and (year, month, day) < (1582, 10, 15)
    )
    return float(DAY_S) * (days - 2_440_588) + 3600 * hour + 60 * minute + second - _offset(match[7])


def _offset(text: str | None) -> int:
    if text is None:
        return 0
    hours, minutes = (int(part) for part in [*re.findall(r"\d{1,2}", text), "0"][:2])
    return (-1 if text[0] == "-" else 1) * (3600 * hours + 60 * minutes)


def _day_number(year: int, month: int, day: int, *, julian: bool) -> int:
    """The Julian day number of a date (Fliegel and van Flandern's rule)."""
    shift = (14 - month) // 12
    y, m = year + 4800 - shift, month + 12 * shift - 3
    leap = -32_083 if julian else y // 400 - y // 100 - 32_045
    return day + (153 * m + 2) // 5 + 365 * y + y // 4 + leap
