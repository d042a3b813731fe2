"""Sensor graphs from tables and arrays in memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from st2llm.data.convert.frames import plain_table, recognised, with_time_column, zone_of
from st2llm.data.convert.memory_files import Content, build_from_memory
from st2llm.data.load import graph
from st2llm.errors import ConfigError, DataError
from st2llm.types import DAY_S, SensorGraph

Card = Mapping[str, Any] | None
_ID_COLUMNS = ("id", "place", "node", "sensor", "sensor_id", "station", "station_id")
_EDGE_ENDS = (("source", "target"), ("from", "to"), ("u", "v"))
_LONGEST_MONTH_S, _SHORTEST_MONTH_S = 31 * DAY_S, 28 * DAY_S


def graph_from_pandas(
    table: object,
    *,
    positions: object = None,
    edges: object = None,
    freq: str | None = None,
    card: Card = None,
) -> SensorGraph:
    """See `SensorGraph.from_pandas`."""
    given = dict(card or {})
    frame = plain_table(table)
    settings, frame = _layout(frame, given)
    settings["freq"] = freq or str(given.pop("freq", "")) or step_of(_times(frame, settings | given))
    settings |= zone_of(_times(frame, settings | given))
    contents: dict[str, Content] = {"table.parquet": frame}
    return _build(settings | {"values": "table.parquet"}, contents, (positions, edges), given)


def graph_from_numpy(
    values: np.ndarray,
    *,
    start: str,
    freq: str,
    positions: object = None,
    edges: object = None,
    card: Card = None,
) -> SensorGraph:
    """See `SensorGraph.from_numpy`."""
    settings = {"values": "values.npy", "start": str(start), "freq": freq}
    return _build(settings, {"values.npy": np.asarray(values)}, (positions, edges), card)


def _build(
    settings: dict[str, Any], contents: dict[str, Content], places: tuple[object, object], card: Card
) -> SensorGraph:
    """The graph of some readings. places: the positions and the edges, None for none."""
    positions, edges = places
    if positions is not None:
        contents["positions.csv"], settings["nodes"] = _node_table(positions)
    if edges is not None:
        settings["edges"] = _edge_rule(edges, contents)
    return build_from_memory(graph.build, settings | {"kind": "graph"}, contents, card)


def _layout(frame: pd.DataFrame, given: Mapping[str, Any]) -> tuple[dict[str, Any], pd.DataFrame]:
    """The keys of the card for a wide table, or for a long one, which has a column of places; and the table."""
    columns = recognised(frame, ["time", "place"])
    settings: dict[str, Any] = {}
    long = given.get("layout", "long" if "place" in {*given, *columns} else "wide") == "long"
    if long or not isinstance(frame.index, pd.DatetimeIndex):
        frame = with_time_column(frame)
        settings["time"] = given.get("time") or str(
            recognised(frame, ["time"]).get("time") or _only_time(frame)
        )
    if long:
        place = str(given.get("place") or columns.get("place"))
        others = [c for c in frame.columns if c not in (settings["time"], place, *given.get("ignore", ()))]
        settings |= {"layout": "long", "place": place, "channels": others}
    return settings, frame


def _only_time(frame: pd.DataFrame) -> str:
    """The only column of times. Raises DataError where there is none, or several."""
    times = [name for name in frame.columns if frame[name].dtype.kind == "M"]
    if len(times) == 1:
        return str(times[0])
    raise DataError(
        f"table needs a DatetimeIndex or one column of times, but it has {len(times)} such columns. Name the column: "
        f"card={{'time': 'COLUMN'}}, or call table.set_index('COLUMN')."
    )


def _times(frame: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DatetimeIndex:
    """The times of the rows where pandas reads them from one column or the index; else none."""
    rule = settings.get("time")
    if rule is None and isinstance(frame.index, pd.DatetimeIndex):
        return frame.index
    if not isinstance(rule, str) or rule not in frame.columns:
        return pd.DatetimeIndex([])
    column = frame[rule]
    if column.dtype.kind != "M":
        column = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601").dt.tz_localize(None)
    return pd.DatetimeIndex(column)


def step_of(times: pd.DatetimeIndex) -> str:
    """The most frequent step between times, as `freq` of a card. Raises ConfigError where there is none."""
    naive = times if times.tz is None else times.tz_convert("UTC").tz_localize(None)
    seconds = np.unique(naive.dropna().to_numpy().astype("datetime64[s]").astype(np.int64))
    steps = np.diff(seconds)
    if not len(steps):
        raise ConfigError("freq cannot be told from the times of the table. Give it, for instance freq='1h'.")
    if (steps >= _SHORTEST_MONTH_S).all() and (steps <= _LONGEST_MONTH_S).all():
        return "month"
    values, counts = np.unique(steps, return_counts=True)
    return f"{values[counts.argmax()]}s"


def _node_table(positions: object) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table of places and the key `nodes` that describes it."""
    if isinstance(positions, Mapping):
        rows = {str(place): tuple(pair) for place, pair in positions.items()}
        positions = pd.DataFrame.from_dict(rows, orient="index", columns=["lon", "lat"]).rename_axis("id")
    elif isinstance(positions, Sequence) and not isinstance(positions, str):
        positions = pd.DataFrame({"id": list(positions)})
    elif isinstance(positions, pd.DataFrame) and not set(_ID_COLUMNS) & {
        *positions.columns,
        positions.index.name,
    }:
        positions = positions.rename_axis("id")
    frame = plain_table(positions, "positions")
    ids = next((name for name in _ID_COLUMNS if name in frame.columns), None)
    if ids is None:
        raise DataError(
            f"positions has no column of ids, one of {', '.join(_ID_COLUMNS)}. Rename the one that holds the names of "
            f"the places as in the table, or make it the index."
        )
    kept = {"id": ids, **recognised(frame, ["lon", "lat", "x", "y", "label"])}
    return frame[list(dict.fromkeys(kept.values()))], {"file": "positions.csv", **kept}


def _edge_rule(edges: object, contents: dict[str, Content]) -> dict[str, Any]:
    """The key `edges` of the card; adds the edges to the contents."""
    if isinstance(edges, Mapping):
        return dict(edges)
    if isinstance(edges, np.ndarray):
        contents["edges.npy"] = edges
        return {"adjacency": "edges.npy"}
    frame = edges if isinstance(edges, pd.DataFrame) else plain_table(edges, "edges")
    if list(map(str, frame.index)) == list(map(str, frame.columns)):
        frame = _listed(frame)
    frame = plain_table(frame, "edges")
    ends = next((pair for pair in _EDGE_ENDS if set(pair) <= set(frame.columns)), _EDGE_ENDS[0])
    value = next((name for name in ("weight", "distance") if name in frame.columns), None)
    contents["edges.csv"] = frame[[c for c in (*ends, value) if c is not None and c in frame.columns]]
    columns = {"source": ends[0], "target": ends[1], **({value: value} if value else {})}
    return {"list": "edges.csv", "columns": columns}


def _listed(matrix: pd.DataFrame) -> pd.DataFrame:
    """The non-zero weights of a matrix whose rows and columns are named, as a list of edges."""
    weights = matrix.to_numpy(dtype=np.float64, na_value=np.nan)
    source, target = np.nonzero(weights)
    names = np.array([str(name) for name in matrix.columns], dtype=object)
    return pd.DataFrame({"source": names[source], "target": names[target], "weight": weights[source, target]})
