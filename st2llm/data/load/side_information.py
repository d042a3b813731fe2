"""Side information joined by time or place: readings that hold, words of the nearest place, sentences for a span.

The joins take plain arrays, so that data of any kind can use them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial import cKDTree

from st2llm.data import positions, timestamps
from st2llm.data.card.side import NoteTable, PlaceTable, SideRule, WeatherTable
from st2llm.data.load.harmonise import duration_s
from st2llm.data.local_time import check_increasing, to_utc
from st2llm.data.read import columns
from st2llm.errors import DataError
from st2llm.types import Note, Reading


@dataclass(frozen=True)
class NearbyPlace:
    """The words of a place near by, and how far it is; '' and nan where none is near enough."""

    text: str
    distance_m: float


@dataclass(frozen=True)
class FieldSideInformation:
    """What is joined to a field: readings by step, words by place, sentences by span, and what was done, in words."""

    beside: tuple[Reading, ...] = ()
    about: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    told: tuple[str, ...] = ()


def field_side_information(
    rule: SideRule | None,
    files: dict[str, Path],
    time: Int64[np.ndarray, " time"],
    timezone: str,
    *,
    lonlat: Float64[np.ndarray, "node 2"] | None,
    xy: Float64[np.ndarray, "node 2"] | None,
) -> FieldSideInformation:
    """Side information of a graph or a grid. Raises DataError as the joins do."""
    if rule is None:
        return FieldSideInformation()
    beside: tuple[Reading, ...] = ()
    about: tuple[str, ...] = ()
    told: list[str] = []
    if rule.weather:
        read, said = join_weather(rule.weather, files[rule.weather.file], time, timezone)
        beside = tuple(Reading(name, values, rule.weather.known) for name, values in read.items())
        told.append(said)
    if rule.places:
        about = tuple(
            spot.text
            for spot in join_nearest_places(rule.places, files[rule.places.file], lonlat=lonlat, xy=xy)
        )
        told.append(f"words of {rule.places.file} about {sum(map(bool, about))} of {len(about)} places")
    sentences = read_notes(rule.notes, files[rule.notes.file], timezone) if rule.notes else ()
    if rule.notes:
        told.append(f"{len(sentences)} notes of {rule.notes.file}")
    return FieldSideInformation(beside, about, sentences, tuple(told))


def join_weather(
    rule: WeatherTable, path: Path, time: Int64[np.ndarray, " row"], timezone: str
) -> tuple[dict[str, Float64[np.ndarray, " row"]], str]:
    """By name: the last reading at or before each instant (seconds UTC), NaN where it is older than `max_age`.

    Raises DataError where the table's stamps repeat or cannot be read.
    """
    clock = rule.time_columns()
    types: dict[str, columns.ColumnType] = dict.fromkeys(rule.columns.values(), "number")
    table_format = columns.TableFormat(missing=tuple(rule.missing))
    table = columns.read(path, {**timestamps.column_types(clock), **types}, table_format)
    instants = timestamps.read_times(clock, table, timezone=timezone, where=path.name)
    rows = np.flatnonzero(instants.known)
    rows = rows[np.argsort(instants.time[rows], kind="stable")]
    stamps = instants.time[rows]
    check_increasing(stamps, timezone, path.name)
    last = np.searchsorted(stamps, time, side="right") - 1
    fresh = (last >= 0) & (time - stamps[np.maximum(last, 0)] <= duration_s(rule.max_age))
    found = {
        name: np.where(fresh, table.numbers(column)[rows][np.maximum(last, 0)], np.nan)
        for name, column in rule.columns.items()
    }
    reach = f"at most {rule.max_age} old, for {int(fresh.sum())} of {len(time)}"
    return found, f"{', '.join(found)} of {path.name}: the last reading {reach}"


def join_nearest_places(
    rule: PlaceTable,
    path: Path,
    *,
    lonlat: Float64[np.ndarray, "row 2"] | None = None,
    xy: Float64[np.ndarray, "row 2"] | None = None,
) -> tuple[NearbyPlace, ...]:
    """For each position: the words of the nearest place of a table within `within_m`.

    Raises DataError where the positions are not told in the coordinates of the table.
    """
    names = (rule.lon, rule.lat) if rule.lon else (rule.x, rule.y)
    here = lonlat if rule.lon else xy
    if here is None:
        raise DataError(
            f"{path.name} has {'degrees' if rule.lon else 'metres'}, but the data have none. Give the others."
        )
    sorts: dict[str, columns.ColumnType] = {str(name): "number" for name in names}
    table = columns.read(path, {rule.text: "category", **sorts})
    there = np.column_stack([table.numbers(str(name)) for name in names])
    bad = np.flatnonzero(~np.isfinite(there).all(axis=1))
    if bad.size:
        raise DataError(f"{path.name}: row {int(bad[0]) + 1} has no coordinates. Each place needs them.")
    words = table.categories(rule.text)
    reach = rule.within_m / positions.EARTH_M if rule.lon else rule.within_m
    tree, asked = (_unit_vectors(there), _unit_vectors(here)) if rule.lon else (there, here)
    apart, row = cKDTree(tree).query(asked, distance_upper_bound=_chord_length(reach) if rule.lon else reach)
    found = []
    for i, (d, r) in enumerate(zip(apart, row, strict=True)):
        near = np.isfinite(d) and words.codes[r] >= 0
        metres = positions.great_circle_m(here[i : i + 1], there[r : r + 1])[0] if near and rule.lon else d
        found.append(
            NearbyPlace(words.names[words.codes[r]], float(metres)) if near else NearbyPlace("", float("nan"))
        )
    return tuple(found)


def read_notes(rule: NoteTable, path: Path, timezone: str) -> tuple[Note, ...]:
    """The sentences of a table, by their start. Raises DataError for one that ends before it begins."""
    table = columns.read(path, {rule.start: "timestamp", rule.end: "timestamp", rule.text: "category"})
    begin, end = (
        to_utc(table.timestamps(name), timezone, "first").seconds for name in (rule.start, rule.end)
    )
    late = np.flatnonzero(end < begin)
    if late.size:
        raise DataError(
            f"{path.name}: the note of row {int(late[0]) + 1} ends before it begins. Mend its stamps."
        )
    words = table.categories(rule.text)
    told = [
        Note(int(b), int(e), words.names[c])
        for b, e, c in zip(begin, end, words.codes, strict=True)
        if c >= 0
    ]
    return tuple(sorted(told, key=lambda note: (note.start, note.end)))


def _unit_vectors(lonlat: Float64[np.ndarray, "row 2"]) -> Float64[np.ndarray, "row 3"]:
    lon, lat = np.deg2rad(lonlat).T
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def _chord_length(angle: float) -> float:
    return float(2 * np.sin(min(angle, np.pi) / 2) + 1e-15)
