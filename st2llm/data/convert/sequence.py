"""Trajectories and events from tables in memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from st2llm.data.convert.frames import COLUMN_NAMES, plain_table, recognised, with_time_column, zone_of
from st2llm.data.convert.memory_files import build_from_memory
from st2llm.data.load import event, trajectory
from st2llm.display import ContainerList
from st2llm.errors import ConfigError
from st2llm.types import Events, Trajectory

Card = Mapping[str, Any] | None
_COORDINATES = ("lon", "lat", "x", "y")


def trajectories_from_pandas(
    table: object,
    *,
    object: str | None = None,
    time: str | None = None,
    place: str | None = None,
    card: Card = None,
) -> ContainerList[Trajectory]:
    """See `Trajectory.from_pandas`."""
    columns = {"object": object, "time": time, "place": place}
    frame, settings = _settings(table, columns, ["object", "time", "place", "label"], card)
    contents = {"table.parquet": frame}
    return build_from_memory(trajectory.build, settings | {"kind": "trajectory"}, contents, card)


def events_from_pandas(
    table: object,
    *,
    object: str | None = None,
    time: str | None = None,
    mark: str | None = None,
    magnitude: str | None = None,
    card: Card = None,
) -> Events:
    """See `Events.from_pandas`."""
    columns = {"object": object, "time": time, "mark": mark, "magnitude": magnitude}
    frame, settings = _settings(table, columns, list(columns), card)
    return build_from_memory(event.build, settings | {"kind": "event"}, {"table.parquet": frame}, card)


def _settings(
    table: object, columns: Mapping[str, str | None], keys: Sequence[str], card: Card
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table and the keys of the card that name its columns: those given, else those recognised by their names."""
    given = dict(card or {})
    frame = with_time_column(plain_table(table))
    sought = [key for key in keys if columns.get(key) is None and key not in given]
    if not {*_COORDINATES, "crs"} & set(given):
        sought += _COORDINATES
    named = {key: column for key, column in columns.items() if column is not None}
    if twice := set(named) & set(given):
        raise ConfigError(f"{min(twice)!r} is given as a parameter and in `card`. Give it once.")
    settings: dict[str, Any] = {"table": "table.parquet", **recognised(frame, sought), **named}
    time = given.get("time", settings.get("time"))
    if time is None:
        raise ConfigError(
            f"table has no DatetimeIndex, and no column called {', '.join(COLUMN_NAMES['time'])}. Name the one that "
            f"holds the time: time='COLUMN'."
        )
    zone = zone_of(frame[time]) if isinstance(time, str) and time in frame.columns else {}
    return frame, settings | zone
