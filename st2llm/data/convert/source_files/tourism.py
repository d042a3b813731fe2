"""Overnight trips in Australia: rows by quarter, region and purpose as a table of regions with a column a purpose."""

import csv
import io
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from st2llm.data import safe_open
from st2llm.errors import DataError
from st2llm.types import MONTH_S

PURPOSES = ("Business", "Holiday", "Visiting", "Other")
_QUARTER = re.compile(r"(\d{4}) Q([1-4])")
_FIRST = datetime(1998, 1, 15, tzinfo=UTC)
"""Quarters are regular steps of three mean months from here, each in the first month of its quarter."""


def convert(sources: Mapping[str, Path]) -> Mapping[str, str]:
    """`trips.csv`: a row a quarter and region with a column a purpose; `log_trips.csv`: the same, log10(1 + trips);
    `regions.csv`: the regions with their states.

    Raises DataError for another file.
    """
    (path,) = sources.values()
    trips: dict[tuple[int, str], dict[str, str]] = {}
    states: dict[str, str] = {}
    with safe_open.unpacked_stream(path) as stream, io.TextIOWrapper(stream, "utf-8") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=1):
            quarter = _QUARTER.fullmatch(row.get("Quarter") or "")
            if quarter is None or not {"Region", "State", "Purpose", "Trips"} <= set(row):
                raise DataError(
                    f"{path.name}: row {number} should hold a Quarter such as '1998 Q1', a Region, a State, a Purpose "
                    f"and Trips. Get the file again."
                )
            step = 4 * (int(quarter[1]) - _FIRST.year) + int(quarter[2]) - 1
            trips.setdefault((step, row["Region"]), {})[row["Purpose"]] = row["Trips"]
            states[row["Region"]] = row["State"]
    names = [["region", "name"], *([region, f"{region}, {state}"] for region, state in states.items())]
    return {
        "trips.csv": _csv(_table(trips, str)),
        "log_trips.csv": _csv(_table(trips, _logarithm)),
        "regions.csv": _csv(names),
    }


def _table(
    trips: Mapping[tuple[int, str], Mapping[str, str]], written: Callable[[str], str]
) -> list[list[str]]:
    """A row a quarter and region; a purpose without a number stays empty."""
    rows = [["quarter", "region", *PURPOSES]]
    rows += [
        [_timestamp(step), region, *(written(of[name]) if of.get(name) else "" for name in PURPOSES)]
        for (step, region), of in sorted(trips.items())
    ]
    return rows


def _logarithm(trips: str) -> str:
    """log10(1 + trips), trips in thousands; a number that is none stays as it is, for the loader to refuse."""
    try:
        return f"{math.log10(1 + float(trips)):.6f}"
    except ValueError:
        return trips


def _timestamp(step: int) -> str:
    return (_FIRST + timedelta(seconds=3 * MONTH_S * step)).isoformat()


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
