"""Drafts cards from tables: columns of time, position, object and type, by their names and first rows."""

import csv
import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from st2llm.commands.draft.content import CardDraft, start_draft
from st2llm.data import safe_open
from st2llm.data.read.timestamp_format import format_hint, formats_of
from st2llm.errors import DataError

_ROWS = 2000
"""Rows that guesses are made from."""
_NAMES = {
    "time": ("time", "timestamp", "datetime", "date_time", "date", "stamp", "utc", "occurred", "started_at"),
    "lon": ("lon", "lng", "long", "longitude"),
    "lat": ("lat", "latitude"),
    "x": ("x", "easting", "east"),
    "y": ("y", "northing", "north"),
    "object": ("user", "user_id", "uid", "object", "object_id", "trajectory", "track", "track_id", "trip", "vehicle",
               "vehicle_id", "device", "device_id", "animal", "ship", "mmsi", "person", "person_id", "participant",
               "subject", "agent", "rider", "driver", "taxi", "bus", "bike"),
    "place": ("sensor", "sensor_id", "station", "station_id", "node", "node_id", "site", "place", "location",
              "detector"),
    "mark": ("type", "category", "mark", "class", "offense", "kind", "event_type"),
    "magnitude": ("magnitude", "mag", "severity", "size"),
    "id": ("id", "sensor_id", "station_id", "node_id", "site", "station", "name", "code"),
}  # fmt: skip
_OFFSET = re.compile(r"(?:Z|[+-]\d\d:?\d\d)$")
_UNIT = re.compile(r"[(\[]([^)\]]*[^\W\d][^)\]]*|%)[)\]]\s*$")
"""What stands in brackets at the end of the name of a column, unless it is a number: `speed (km/h)`."""


@dataclass(frozen=True)
class _Table:
    """The first rows of a file, and its separator."""

    path: Path
    rows: pd.DataFrame
    separator: str = ","

    def column(self, role: str) -> str | None:
        """The column of a role, by its name: the first name of the list that the table has."""
        by_name = {str(column).strip().lower(): str(column) for column in self.rows.columns}
        return next((by_name[name] for name in _NAMES[role] if name in by_name), None)

    def numeric(self) -> list[str]:
        return [str(name) for name in self.rows.select_dtypes("number").columns]


def draft_tables(files: Sequence[Path]) -> CardDraft:
    """Drafts a card of a graph, of trajectories or of events. Raises DataError where no column holds times."""
    tables = [_read(path) for path in files]
    timed = [(table, time) for table in tables if (time := _time_column(table)) is not None]
    if not timed:
        first = tables[0]
        raise DataError(
            f"{first.path}: no column holds times; the columns are {', '.join(map(str, first.rows.columns))}. Write "
            f"them as ISO timestamps, such as 2024-01-31T12:00:00, or write the card by hand."
        )
    table, time = timed[0]
    others = [each for each in tables if each is not table]
    position = _position(table)
    if position is None:
        return _graph(table, time, others)
    if (place := table.column("place")) is not None and table.rows.groupby(place)[
        position[0]
    ].nunique().max() == 1:
        return _graph(table, time, others)
    if (moving := _object_column(table, time, position)) is not None:
        return _trajectory(table, time, moving)
    return _event(table, time)


def _read(path: Path) -> _Table:
    """The first rows of a csv or Parquet file. Raises DataError where it cannot be read."""
    if path.suffix.lower() == ".parquet":
        return _Table(path, safe_open.parquet(path).head(_ROWS))
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as stream:
            head = [line for _, line in zip(range(_ROWS), stream, strict=False)]
        separator = csv.Sniffer().sniff("".join(head[:20]), delimiters=",;\t|").delimiter if head else ","
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not readable as text: {error}. Save it as UTF-8.") from error
    except csv.Error:
        separator = ","
    rows = list(csv.reader(head, delimiter=separator))
    if len(rows) < 2:
        raise DataError(f"{path} should have a header and rows, but has {len(rows)} lines.")
    width = len(rows[0])
    content = pd.DataFrame([row for row in rows[1:] if len(row) == width], columns=rows[0])
    return _Table(path, content.apply(_as_numbers), separator)


def _as_numbers(column: "pd.Series[str]") -> "pd.Series[str] | pd.Series[float]":
    """The column as numbers where all its filled cells are numbers."""
    numbers = pd.to_numeric(column, errors="coerce")
    filled = column.str.strip().replace({"NA": "", "NaN": "", "nan": "", "null": ""}) != ""
    return numbers if numbers[filled].notna().all() and filled.any() else column


def _time_column(table: _Table) -> str | None:
    """The column of times: by its name, else the first whose texts are timestamps."""
    named = table.column("time")
    texts = [str(name) for name in table.rows.columns if not pd.api.types.is_numeric_dtype(table.rows[name])]
    for name in [named, *texts] if named in texts else texts:
        if name is not None and (_is_iso(table.rows[name]) or formats_of(table.rows[name].dropna())):
            return name
    return None


def _is_iso(column: "pd.Series[str]") -> bool:
    return bool(_times(column, "ISO8601").notna().mean() > 0.9)


def _times(column: "pd.Series[str]", form: str) -> "pd.Series[pd.Timestamp]":
    return pd.to_datetime(column, errors="coerce", utc=True, format=form)


def _add_time(draft: CardDraft, table: _Table, time: str) -> str:
    """Adds the key `time`. Returns the format of the timestamps.

    Raises DataError where they are not ISO and day and month cannot be told apart.
    """
    column = table.rows[time]
    if _is_iso(column):
        draft.add("time", time, "the column whose texts are timestamps")
        return "ISO8601"
    forms = formats_of(column.dropna())
    if len(forms) != 1:
        raise DataError(
            f"{table.path}: {time!r} holds times that are not ISO.{format_hint(column.dropna(), time)} Write them as "
            f"ISO timestamps, such as 2024-01-31T12:00:00, or write the card by hand with that key."
        )
    draft.add(
        "time", {"column": time, "format": forms[0]}, "the only order of day and month that all rows fit"
    )
    return forms[0]


def _position(table: _Table) -> tuple[str, str] | None:
    for east, north in (("lon", "lat"), ("x", "y")):
        if (a := table.column(east)) is not None and (b := table.column(north)) is not None:
            return a, b
    return None


def _object_column(table: _Table, time: str, position: tuple[str, str]) -> str | None:
    """The column of moving objects, by its name, else a column of texts whose rows stand together for each text."""
    named = table.column("object") or table.column("id")
    if named is not None and _moves(table, named, position):
        return named
    others = [
        str(name) for name in table.rows.columns if str(name) not in (time, *position, *table.numeric())
    ]
    return next(
        (name for name in others if _stands_together(table, name) and _moves(table, name, position)), None
    )


def _moves(table: _Table, name: str, position: tuple[str, str]) -> bool:
    """Whether most values of a column have several rows, at different positions."""
    groups = table.rows.groupby(name)
    positions = groups[list(position)].nunique().max(axis=1)
    return bool(groups.size().median() > 2 and positions.median() > 1)


def _stands_together(table: _Table, name: str) -> bool:
    """Whether the rows of each of several values follow one another. Types of events alternate in order of time."""
    column = table.rows[name]
    stretches = int((column != column.shift()).sum())
    return stretches == column.nunique(dropna=False) > 1


def _graph(table: _Table, time: str, others: Sequence[_Table]) -> CardDraft:
    """Readings of fixed places: wide (a column for each) or long (a row for each reading)."""
    place = table.column("place")
    if place is not None and not table.rows[time].duplicated().any():
        place = None  # a place of a wide table that has such a name, as `station` beside `park`
    numbers = [name for name in table.numeric() if name not in (*(_position(table) or ()), place)]
    if not numbers:
        raise DataError(
            f"{table.path}: no column holds numbers beside the time {time!r}, so there is no reading."
        )
    why = f"a row for each reading of a {place}" if place else "a column of numbers for each place"
    draft = start_draft("graph", [table.path], why)
    draft.add("values", table.path.name)
    if place is not None:
        draft.add("layout", "long", "times repeat, once for each place")
    form = _add_time(draft, table, time)
    if place is not None:
        draft.add("place", place, "by its name")
        _channels(draft, numbers)
    elif ignored := [str(c) for c in table.rows.columns if str(c) not in (time, *numbers)]:
        draft.add("ignore", ignored, "columns without numbers")
    _separator(draft, table)
    timestamps = _times(table.rows[time], form).drop_duplicates()
    freq = _step(timestamps)
    draft.add("freq", freq, "the most frequent step between timestamps")
    _zone(draft, table, time)
    _nodes(draft, table, others, numbers, place)
    if place is None or len(numbers) == 1:
        _unit(draft, numbers)
    draft.add("split", {"train": 0.7, "validation": 0.1, "test": 0.2}, "shares of the time")
    draft.add_forecast(freq)
    return draft


def _nodes(
    draft: CardDraft, table: _Table, others: Sequence[_Table], columns: Sequence[str], place: str | None
) -> None:
    """The table of places among the other files: one whose ids are those of the readings, with positions."""
    ids = set(columns) if place is None else set(table.rows[place].astype(str))
    for other in others:
        position = _position(other)
        matching = next((str(c) for c in other.rows.columns if ids <= set(other.rows[c].astype(str))), None)
        if position is not None and matching is not None:
            lon = other.column("lon") is not None
            keys = ("lon", "lat") if lon else ("x", "y")
            nodes = {"file": other.path.name, "id": matching, **dict(zip(keys, position, strict=True))}
            draft.add("nodes", nodes, "the file whose ids are those of the readings")
            draft.add(
                "edges", {"distance": {"sigma_km": 1.0, "threshold": 0.1}}, "places within about 1.5 km"
            )
            return


def _trajectory(table: _Table, time: str, moving: str) -> CardDraft:
    draft = start_draft("trajectory", [table.path], f"rows of one {moving} at several positions")
    draft.add("table", table.path.name)
    draft.add("object", moving, "its values have several rows each")
    _where_and_when(draft, table, time)
    draft.add(
        "split",
        {"train": 0.7, "validation": 0.1, "test": 0.2},
        "shares of the time; `by: object` holds objects out",
    )
    return draft


def _event(table: _Table, time: str) -> CardDraft:
    draft = start_draft("event", [table.path], "rows with a time and a position, of no moving object")
    draft.add("table", table.path.name)
    _where_and_when(draft, table, time)
    for role in ("mark", "magnitude"):
        if (name := table.column(role)) is not None:
            draft.add(role, name, "by its name")
    draft.add("split", {"train": 0.7, "validation": 0.1, "test": 0.2}, "shares of the time")
    draft.add("default_task", {"next-event": {"history": 20}}, "")
    return draft


def _where_and_when(draft: CardDraft, table: _Table, time: str) -> None:
    _add_time(draft, table, time)
    east, north = _position(table) or ("", "")
    degrees = table.column("lon") is not None
    for key, name in zip(("lon", "lat") if degrees else ("x", "y"), (east, north), strict=True):
        draft.add(key, name, "by its name" + ("" if degrees else ", in metres (else give crs or scale_m)"))
    _separator(draft, table)
    _zone(draft, table, time)


def _separator(draft: CardDraft, table: _Table) -> None:
    if table.separator != ",":
        draft.add("separator", table.separator)


def _zone(draft: CardDraft, table: _Table, time: str) -> None:
    """The time zone: the files state an offset at most, never a place."""
    first = table.rows[time].dropna().iloc[0]
    stated = bool(_OFFSET.search(str(first)))
    reason = "the stamps have offsets; the calendar may be local" if stated else "the stamps name no zone"
    draft.add("timezone", "UTC", f"{reason}, such as Europe/Paris")


def _channels(draft: CardDraft, columns: Sequence[str]) -> None:
    """The columns of a long table that are channels: several with a unit each, from the name where it has one."""
    if len(columns) == 1:
        draft.add("channels", columns, "the only other column of numbers")
        return
    units = {name: match[1] if (match := _UNIT.search(name)) else "" for name in columns}
    draft.add(
        "channels",
        {name: {"unit": unit} for name, unit in units.items()},
        "all other columns of numbers, each in a unit of its own; write those that are missing",
    )


def _unit(draft: CardDraft, columns: Sequence[str]) -> None:
    found = {match[1] if (match := _UNIT.search(name)) else "" for name in columns}
    unit = found.pop() if len(found) == 1 else ""
    draft.add("unit", unit, "from the names of the columns" if unit else "not in the file: write it here")
    draft.add("quantity", "values", "what is measured, for prompts, such as mean speed in km/h")


def _step(timestamps: "pd.Series[pd.Timestamp]") -> str:
    """The most frequent step, as `5min`, `1h`, `1D` or in seconds; `month` for months."""
    steps = timestamps.sort_values().diff().dropna()
    if steps.empty:
        return "1h"
    step = steps.mode().iloc[0]
    seconds = int(step.total_seconds())
    if 28 * 86400 <= seconds <= 31 * 86400:
        return "month"
    for unit, size in (("D", 86400), ("h", 3600), ("min", 60)):
        if seconds % size == 0 and seconds:
            return f"{seconds // size}{unit}"
    return f"{max(1, seconds)}s"
