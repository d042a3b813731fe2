"""Builds Events from a card: sorted by time, projected to metres, with the time and region that were observed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.data import calendar, positions, timestamps
from st2llm.data.card.event import EventCard
from st2llm.data.load import provenance
from st2llm.data.load.card_calendar import card_holidays
from st2llm.data.load.side import joins
from st2llm.data.load.side.documents import DocumentPlaces, read_documents
from st2llm.data.load.side.event_texts import read_event_texts
from st2llm.data.read import sequence_tables
from st2llm.data.read.columns import Columns, ColumnType
from st2llm.data.read.local_time import parse_instant
from st2llm.errors import DataError, nearest
from st2llm.types import Events, Note

Box = tuple[float, float, float, float]


def _column_types(card: EventCard) -> dict[str, ColumnType]:
    numbers: dict[str, ColumnType] = dict.fromkeys(card.attributes.values(), "number")
    if card.magnitude is not None:
        numbers[card.magnitude] = "number"
    named = card.text.columns if card.text else {}
    texts = sequence_tables.category_columns(card, {"mark": card.mark, "object": card.object, **named})
    return {**texts, **positions.coordinate_columns(card), **timestamps.column_types(card.time), **numbers}


@dataclass(frozen=True)
class EventSideInformation:
    """Side information of events. known: the names of attributes that are known in advance."""

    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    steps: tuple[str, ...] = ()


def build(card: EventCard, files: dict[str, Path]) -> Events:
    """The events that a card describes; `files` maps the names in the card to paths.

    Raises DataError where files do not match the card, or an event lies outside the window or region.
    """
    table = sequence_tables.read(card, files, _column_types(card)).columns
    times = timestamps.read_times(card.time, table, timezone=card.timestamp_zone, where=card.name)
    seconds = times.seconds
    lonlat, file_xy, kept, position_steps = sequence_tables.read_positions(card, table, times.known)
    if not kept.any():
        raise DataError(
            f"{card.name}: no row has both a time in {card.timestamp_zone} and coordinates. Check the columns."
        )
    rows = np.flatnonzero(kept)
    order, group_steps = _order(card, table, rows, seconds)
    rows, time = rows[order], seconds[rows][order]
    lonlat, file_xy = (None if pair is None else pair[order] for pair in (lonlat, file_xy))
    xy, region = _locate(card, lonlat, file_xy)
    mark, marks = _marks(card, table, rows)
    owner, objects = _objects(card, table, rows)
    joined = _join_side_information(card, files, table, rows, time)
    documents, document_steps = read_documents(
        card.side, files, card.timestamp_zone, DocumentPlaces.of(objects)
    )
    event_texts, text_steps = read_event_texts(card.text, files, table, rows)
    window = _window(card, time)
    steps = (*times.steps, *position_steps, *group_steps, *joined.steps, *text_steps, *document_steps)
    return Events(
        name=card.name,
        timezone=card.timezone,
        time=time,
        window=window,
        xy=xy,
        lonlat=lonlat,
        mark=mark,
        marks=marks,
        magnitude=table.numbers(card.magnitude)[rows] if card.magnitude else None,
        region=region,
        split=card.plan(),
        description=card.description,
        quantity=card.quantity if "quantity" in card.model_fields_set else "events",
        default_task=dict(card.default_task),
        provenance=provenance.provenance_of(card, files, steps),
        attributes=joined.attributes,
        known=joined.known,
        notes=joined.notes,
        holidays=card_holidays(card, *window),
        object=owner,
        objects=objects,
        documents=documents,
        texts=event_texts,
    )


def _order(
    card: EventCard, table: Columns, rows: Int64[np.ndarray, " row"], seconds: Int64[np.ndarray, " all"]
) -> tuple[Int64[np.ndarray, " event"], tuple[str, ...]]:
    """The order of rows by time, without those whose mark is in no group, and what was done."""
    order = np.argsort(seconds[rows], kind="stable")
    if card.mark is None or card.marks is None:
        return order, ()
    column = table.categories(card.mark)
    cells = [cell for group in card.marks.values() for cell in group]
    if absent := [cell for cell in cells if cell not in column.names]:
        raise DataError(
            f"{card.name}: `marks` holds {absent[0]!r}, but column {card.mark!r} does not. "
            f"{nearest(absent[0], column.names)}"
        )
    grouped = np.array([*(name in cells for name in column.names), False])[column.codes[rows[order]]]
    if not grouped.any():
        raise DataError(f"{card.name}: no row has a mark of `marks`. Correct its groups.")
    left = int((~grouped).sum())
    return order[grouped], (
        f"left out {left} rows whose {card.mark} is empty or in no group",
    ) if left else ()


def _locate(
    card: EventCard, lonlat: Float64[np.ndarray, "row 2"] | None, file_xy: Float64[np.ndarray, "row 2"] | None
) -> tuple[Float64[np.ndarray, "row 2"] | None, Box | None]:
    """Metres from the centre of the region (or of all events), and the region in the same metres."""
    if lonlat is not None and file_xy is None:
        _check_region(card, lonlat, degrees=True)
        box = _degree_box(card, lonlat)
        middle = (
            np.array([[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]])
            if card.region
            else positions.centroid(lonlat)
        )
        xy = positions.metres_from(middle, lonlat)
        # Parallels are curved in the projection, so the box also holds the middle of each side.
        lon, lat = (np.array([box[a], (box[a] + box[a + 2]) / 2, box[a + 2]]) for a in (0, 1))
        outline = positions.metres_from(
            middle, np.array([[a, b] for a in lon for b in lat], dtype=np.float64)
        )
        return xy, _box(np.concatenate([outline, xy.min(axis=0)[None], xy.max(axis=0)[None]]))
    if file_xy is None:
        return None, None
    if card.region is not None and lonlat is None:
        _check_region(card, file_xy / card.scale_m, degrees=False)
        return file_xy, _box(np.array(card.region, dtype=np.float64).reshape(2, 2) * card.scale_m)
    return file_xy, _box(file_xy)


def _degree_box(card: EventCard, lonlat: Float64[np.ndarray, "row 2"]) -> Sequence[float]:
    """West, south, east and north of the region, or of the events; an east across the date line is beyond 180."""
    if card.region is None:
        corners = np.column_stack([positions.unwrap_longitudes(lonlat[:, 0]), lonlat[:, 1]])
        return [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]
    west, south, east, north = card.region
    return [west, south, east if east > west else east + 360, north]


def _check_region(card: EventCard, pair: Float64[np.ndarray, "row 2"], *, degrees: bool) -> None:
    if card.region is None:
        return
    outside = positions.outside_box(pair[:, 0], pair[:, 1], card.region, degrees=degrees)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise DataError(
            f"{card.name}: an event is at ({pair[row, 0]:g}, {pair[row, 1]:g}), outside the card's `region` "
            f"{card.region} ({int(outside.sum())} events). Widen the region, or leave the events out."
        )


def _box(xy: Float64[np.ndarray, "row 2"]) -> Box:
    low, high = xy.min(axis=0), xy.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _marks(
    card: EventCard, table: Columns, rows: Int64[np.ndarray, " row"]
) -> tuple[Int64[np.ndarray, " row"] | None, tuple[str, ...]]:
    """The code of each event's mark, and the marks, sorted. Raises DataError for an event without a mark."""
    if card.mark is None:
        return None, ()
    column = table.categories(card.mark).at(rows)
    if (column.codes < 0).any():
        raise DataError(
            f"{card.name}: column {card.mark!r} is empty for {int((column.codes < 0).sum())} events. Each event "
            "needs a mark: fill it in, or leave `mark` out of the card."
        )
    if card.marks is not None:
        groups = tuple(card.marks)
        of_cell = {cell: groups.index(name) for name, cells in card.marks.items() for cell in cells}
        group = np.array([of_cell.get(name, -1) for name in column.names], dtype=np.int64)
        return group[column.codes], groups
    names = tuple(sorted({column.names[code] for code in np.unique(column.codes)}))
    rank = np.array([names.index(name) if name in names else -1 for name in column.names], dtype=np.int64)
    return rank[column.codes], names


def _objects(
    card: EventCard, table: Columns, rows: Int64[np.ndarray, " row"]
) -> tuple[Int64[np.ndarray, " row"] | None, tuple[str, ...]]:
    """The code of each event's object, and the objects in order of appearance. Raises DataError for a row without."""
    if card.object is None:
        return None, ()
    column = table.categories(card.object)
    empty = rows[column.codes[rows] < 0]
    if empty.size:
        raise DataError(
            f"{card.name}: column {card.object!r} is empty in row {int(empty.min()) + 1} ({empty.size} events). Each "
            "event needs its object: fill it in, or leave `object` out of the card."
        )
    present, owner = np.unique(column.codes[rows], return_inverse=True)
    return owner.astype(np.int64), tuple(column.names[code] for code in present)


def _join_side_information(
    card: EventCard,
    files: dict[str, Path],
    table: Columns,
    rows: Int64[np.ndarray, " row"],
    time: Int64[np.ndarray, " row"],
) -> EventSideInformation:
    attributes = {name: table.numbers(column)[rows] for name, column in card.attributes.items()}
    rule = card.side
    if rule is None:
        return EventSideInformation(attributes, tuple(card.known))
    if rule.places is not None:
        raise DataError(
            f"{card.name}: `side.places` joins texts to fixes and nodes, not to events. Leave it out."
        )
    steps: tuple[str, ...] = ()
    known = tuple(card.known)
    if rule.weather:
        readings, step = joins.join_weather(rule.weather, files[rule.weather.file], time, card.timestamp_zone)
        attributes, steps = {**attributes, **readings}, (step,)
        known += tuple(name for name in readings if rule.weather.known and name not in known)
    notes = joins.read_notes(rule.notes, files[rule.notes.file], card.timestamp_zone) if rule.notes else ()
    return EventSideInformation(attributes, known, notes, steps)


def _window(card: EventCard, time: Int64[np.ndarray, " row"]) -> tuple[int, int]:
    first, last = int(time[0]), int(time[-1])
    if card.window is None:
        return first, last
    begin, end = (parse_instant(text, card.timestamp_zone, f"{card.name}: `window`") for text in card.window)
    if first < begin or last > end:
        outside = first if first < begin else last
        raise DataError(
            f"{card.name}: an event of {calendar.local_iso(outside, card.timezone)} is outside the card's `window` "
            f"{card.window}. Correct the window, or leave the event out."
        )
    return begin, end
