"""Joins side information: readings by time, texts of the nearest place, notes for a period.

The joins take plain arrays, so they serve data of every kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial import cKDTree

from st2llm.data import positions, timestamps
from st2llm.data.card.delimited import DelimitedText
from st2llm.data.card.side import NoteTable, PlaceTable, SideRule, WeatherTable
from st2llm.data.load.harmonise import duration_s
from st2llm.data.load.side.documents import DocumentPlaces, read_documents
from st2llm.data.read import columns
from st2llm.data.read.local_time import check_increasing, to_utc
from st2llm.data.read.table_format import TableFormat
from st2llm.errors import DataError
from st2llm.types import NO_DOCUMENTS, Covariate, DocumentSet, Note

_ISO: Mapping[str, str] = {}
"""No formats: timestamps are ISO."""


@dataclass(frozen=True)
class NearbyPlace:
    """The text of a nearby place and its distance; '' and NaN where no place is near enough."""

    text: str
    distance_m: float


@dataclass(frozen=True)
class FieldPositions:
    """Where the places of a graph or grid are. xy: metres, in the frame of the file. places: by id and name."""

    lonlat: Float64[np.ndarray, "node 2"] | None
    xy: Float64[np.ndarray, "node 2"] | None
    places: DocumentPlaces


@dataclass(frozen=True)
class FieldSideInformation:
    """Side information of a graph or grid: readings by step, texts of places, notes, documents, and what was done."""

    readings: tuple[Covariate, ...] = ()
    place_texts: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    documents: DocumentSet = NO_DOCUMENTS
    steps: tuple[str, ...] = ()


def field_side_information(
    rule: SideRule | None,
    files: dict[str, Path],
    time: Int64[np.ndarray, " time"],
    timezone: str,
    where: FieldPositions,
) -> FieldSideInformation:
    """The side information of a graph or grid. Raises DataError as joins do."""
    if rule is None:
        return FieldSideInformation()
    readings: tuple[Covariate, ...] = ()
    texts: tuple[str, ...] = ()
    steps: list[str] = []
    if rule.weather:
        values_of, step = join_weather(rule.weather, files[rule.weather.file], time, timezone)
        readings = tuple(Covariate(name, values, rule.weather.known) for name, values in values_of.items())
        steps.append(step)
    if rule.places:
        texts = tuple(
            place.text
            for place in join_nearest_places(
                rule.places, files[rule.places.file], lonlat=where.lonlat, xy=where.xy
            )
        )
        steps.append(f"texts of {rule.places.file} for {sum(map(bool, texts))} of {len(texts)} places")
    notes = read_notes(rule.notes, files[rule.notes.file], timezone) if rule.notes else ()
    if rule.notes:
        steps.append(f"{len(notes)} notes of {rule.notes.file}")
    documents, document_steps = read_documents(rule, files, timezone, where.places)
    return FieldSideInformation(readings, texts, notes, documents, (*steps, *document_steps))


def join_weather(
    rule: WeatherTable, path: Path, time: Int64[np.ndarray, " row"], timezone: str
) -> tuple[dict[str, Float64[np.ndarray, " row"]], str]:
    """By name: the last reading at or before each time (seconds UTC), NaN where it is older than `max_age`.

    Raises DataError where the times of the table repeat or cannot be read.
    """
    clock = rule.time_columns()
    types: dict[str, columns.ColumnType] = dict.fromkeys(rule.columns.values(), "number")
    table_format = _table_format(rule, rule.missing, timestamps.column_formats(clock))
    table = columns.read(path, {**timestamps.column_types(clock), **types}, table_format)
    timezone = rule.written_in or timezone
    instants = timestamps.read_times(clock, table, timezone=timezone, where=path.name)
    rows = np.flatnonzero(instants.known)
    rows = rows[np.argsort(instants.time[rows], kind="stable")]
    stamps = instants.time[rows]
    check_increasing(stamps, timezone, path.name)
    last = np.searchsorted(stamps, time, side="right") - 1
    recent = (last >= 0) & (time - stamps[np.maximum(last, 0)] <= duration_s(rule.max_age))
    values_of = {
        name: np.where(recent, table.numbers(column)[rows][np.maximum(last, 0)], np.nan)
        for name, column in rule.columns.items()
    }
    coverage = f"at most {rule.max_age} old, for {int(recent.sum())} of {len(time)}"
    return values_of, f"{', '.join(values_of)} of {path.name}: the last reading {coverage}"


def join_nearest_places(
    rule: PlaceTable,
    path: Path,
    *,
    lonlat: Float64[np.ndarray, "row 2"] | None = None,
    xy: Float64[np.ndarray, "row 2"] | None = None,
) -> tuple[NearbyPlace, ...]:
    """For each position: the text of the nearest place of a table within `within_m`.

    Raises DataError where the positions are not in the coordinates of the table.
    """
    names = (rule.lon, rule.lat) if rule.lon else (rule.x, rule.y)
    here = lonlat if rule.lon else xy
    if here is None:
        raise DataError(
            f"{path.name} has {'degrees' if rule.lon else 'metres'}, but the data have none. Name the coordinates "
            "that the data have."
        )
    types: dict[str, columns.ColumnType] = {str(name): "number" for name in names}
    table = columns.read(path, {rule.text: "category", **types}, _table_format(rule))
    coordinates = np.column_stack([table.numbers(str(name)) for name in names])
    bad = np.flatnonzero(~np.isfinite(coordinates).all(axis=1))
    if bad.size:
        raise DataError(f"{path.name}: row {int(bad[0]) + 1} has no coordinates. Each place needs them.")
    if rule.lon:
        positions.check_degrees(coordinates, (rule.lon, str(rule.lat)), path.name)
    texts = table.categories(rule.text)
    radius = rule.within_m / positions.EARTH_M if rule.lon else rule.within_m
    tree, points = coordinates, here
    if rule.lon:
        tree, points = positions.unit_vectors(coordinates), positions.unit_vectors(here)
    distance, row = cKDTree(tree).query(
        points, distance_upper_bound=_chord_length(radius) if rule.lon else radius
    )
    places = []
    for i, (d, r) in enumerate(zip(distance, row, strict=True)):
        near = np.isfinite(d) and texts.codes[r] >= 0
        metres = (
            positions.great_circle_m(here[i : i + 1], coordinates[r : r + 1])[0] if near and rule.lon else d
        )
        places.append(
            NearbyPlace(texts.names[texts.codes[r]], float(metres)) if near else NearbyPlace("", float("nan"))
        )
    return tuple(places)


def read_notes(rule: NoteTable, path: Path, timezone: str) -> tuple[Note, ...]:
    """The notes of a table, in order of their start. Raises DataError for a note that ends before it begins."""
    types: dict[str, columns.ColumnType] = {
        rule.start: "timestamp",
        rule.end: "timestamp",
        rule.text: "category",
    }
    formats = {rule.start: rule.format, rule.end: rule.format} if rule.format else {}
    table = columns.read(path, types, _table_format(rule, formats=formats))
    begin, end = (
        to_utc(table.timestamps(name), rule.written_in or timezone, "first").seconds
        for name in (rule.start, rule.end)
    )
    late = np.flatnonzero(end < begin)
    if late.size:
        raise DataError(
            f"{path.name}: the note of row {int(late[0]) + 1} ends before it begins. Correct its times."
        )
    texts = table.categories(rule.text)
    notes = [
        Note(int(b), int(e), texts.names[c])
        for b, e, c in zip(begin, end, texts.codes, strict=True)
        if c >= 0
    ]
    return tuple(sorted(notes, key=lambda note: (note.start, note.end)))


def _table_format(
    rule: DelimitedText, missing: Sequence[str] = (), formats: Mapping[str, str] = _ISO
) -> TableFormat:
    return TableFormat(
        separator=rule.separator,
        missing=tuple(missing),
        formats=formats,
        decimal=rule.decimal,
        encoding=rule.encoding,
    )


def _chord_length(angle: float) -> float:
    return float(2 * np.sin(min(angle, np.pi) / 2) + 1e-15)
