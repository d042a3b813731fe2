"""Faults in sensor readings: injected into the test part, or documented in a file."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from st2llm.data.calendar import local_iso
from st2llm.data.read.local_time import from_index, to_utc
from st2llm.data.read.whole_table import read_table
from st2llm.data.windows.field import boundaries
from st2llm.errors import DataError, nearest
from st2llm.types import SensorGraph

KINDS = ("spike", "stuck", "drift", "noise", "zero")
"""One outlier; a constant reading; a slow drift; a noisy period; zeros."""
_MAX_LENGTH = {"spike": 1, "stuck": 12, "drift": 24, "noise": 12, "zero": 12}


@dataclass(frozen=True)
class Fault:
    """A fault in steps [start, stop) of one node. kind: one of KINDS, or as documented. channel: None for all."""

    kind: str
    node: int
    start: int
    stop: int
    channel: int | None = None


def inject_faults(data: SensorGraph, count: int, *, seed: int = 0) -> tuple[SensorGraph, tuple[Fault, ...]]:
    """The data with `count` faults in the test part, of all kinds in turn, at least two steps apart at a place.

    They are in the first channel that the data card makes a target.

    The magnitude of a fault is relative to the standard deviation of the place's readings before the test part. Raises
    DataError where so many faults do not fit.
    """
    rng = np.random.default_rng(seed)
    begin = int(boundaries(data)[2])
    channel = [described.role for described in data.described_channels].index("target")
    values, steps = data.values.copy(), len(data.time)
    taken = np.zeros(values.shape[:2], dtype=bool)
    spread = np.nanstd(values[:begin, :, channel], axis=0)
    faults: list[Fault] = []
    for _ in range(100 * count):
        if len(faults) == count:
            break
        kind = KINDS[len(faults) % len(KINDS)]
        length = 1 if kind == "spike" else int(rng.integers(4, _MAX_LENGTH[kind] + 1))
        node = int(rng.integers(values.shape[1]))
        start = int(rng.integers(begin, max(begin + 1, steps - length)))
        span = slice(max(begin, start - 2), start + length + 2)
        before = values[start : start + length, node, channel]
        if (
            taken[span, node].any()
            or len(before) < length
            or not np.isfinite(before).all()
            or not spread[node]
        ):
            continue
        after = _faulty_readings(kind, before, spread[node], rng)
        if np.abs(after - before).max() < 0.25 * spread[node]:
            continue  # too small to be detected
        values[start : start + length, node, channel] = after
        taken[span, node] = True
        several = values.shape[2] > 1
        faults.append(Fault(kind, node, start, start + length, channel if several else None))
    if len(faults) < count:
        raise DataError(
            f"{data.name}: {count} faults do not fit into the {steps - begin} steps of its test part, but only "
            f"{len(faults)}. Ask for fewer."
        )
    return replace(data, name=f"{data.name}-faults", values=values), tuple(faults)


def _faulty_readings(
    kind: str, before: Float64[np.ndarray, " step"], spread: float, rng: np.random.Generator
) -> Float64[np.ndarray, " step"]:
    length, sign = len(before), float(rng.choice([-1.0, 1.0]))
    if kind == "spike":
        return np.asarray(before + sign * rng.uniform(2.0, 4.0) * spread)
    if kind == "stuck":
        return np.full(length, before[0])
    if kind == "drift":
        return np.asarray(before + sign * np.linspace(0.2, 2.0, length) * spread)
    if kind == "noise":
        return np.asarray(before + rng.normal(0.0, 1.5 * spread, length))
    return np.zeros(length)


def read_faults(path: Path, data: SensorGraph, *, timezone: str) -> tuple[Fault, ...]:
    """Documented faults: a csv file with the columns place, start, end and, if known, kind.

    start, end: timestamps of the first and the last faulty reading. timezone: of timestamps without an offset. Raises
    DataError, naming the row, for a place or time that the data lack, a local time that clocks skip or show twice, and
    an end before its start, and where no fault lies in the test part.
    """
    table = _table(path)
    stamps = {name: _seconds(table, name, path, timezone) for name in ("start", "end")}
    faults = []
    for row, place in enumerate(table["place"]):
        if place not in data.places:
            raise DataError(f"{path}, row {row + 2}: no place {place!r}. {nearest(place, data.places)}")
        start, stop = np.searchsorted(data.time, [stamps["start"][row], stamps["end"][row] + 1])
        if start >= stop:
            raise DataError(
                f"{path}, row {row + 2}: no reading of {data.name} lies between {table['start'][row]} and "
                f"{table['end'][row]}. Give the stamps of the first and the last faulty reading."
            )
        kind = (table["kind"][row] if "kind" in table else None) or "documented"
        faults.append(Fault(kind, data.places.index(place), int(start), int(stop)))
    begin = int(boundaries(data)[2])
    if not any(fault.stop > begin for fault in faults):
        raise DataError(
            f"{path}: none of {len(faults)} faults lies in the test part of {data.name}, which begins at "
            f"{local_iso(int(data.time[begin]), data.timezone)}. Choose a split whose test part contains faults."
        )
    return tuple(faults)


def _seconds(table: pd.DataFrame, name: str, path: Path, timezone: str) -> Int64[np.ndarray, " row"]:
    """A column of timestamps as seconds UTC."""
    try:
        times = pd.DatetimeIndex(pd.to_datetime(table[name]))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: column {name!r} holds values that are not times ({error}).") from error
    instants = to_utc(from_index(times), timezone, "infer")
    if (unknown := np.flatnonzero(~instants.known)).size:
        row = int(unknown[0])
        raise DataError(
            f"{path}, row {row + 2}: {name} {table[name][row]} is skipped or occurs twice where the clocks of "
            f"{timezone} change. Write it with its offset, for instance {table[name][row]}+00:00 for UTC."
        )
    return instants.seconds


def _table(path: Path) -> pd.DataFrame:
    try:
        table = read_table(path, ignored=("Unnamed: 0",))
    except (DataError, OSError) as error:
        raise DataError(
            f"The file of documented faults, {path}, should be a csv file, but it cannot be read: {error}"
        ) from error
    if missing := sorted({"place", "start", "end"} - set(table.columns)):
        raise DataError(f"{path} needs the columns place, start and end, but has no {', '.join(missing)}.")
    return table
