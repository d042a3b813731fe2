"""Builds a SensorGraph from a card: regular UTC steps, NaN for missing readings, places matched by id."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
from jaxtyping import Float64, Int64

from st2llm.data import positions
from st2llm.data.card import GraphCard, NodeTable
from st2llm.data.card.channels import field_quantity, field_unit
from st2llm.data.load import edges, provenance
from st2llm.data.load.card_calendar import field_calendar
from st2llm.data.load.regular_steps import RegularStep
from st2llm.data.load.side.documents import DocumentPlaces
from st2llm.data.load.side.joins import FieldPositions, field_side_information
from st2llm.data.read import readings as readers
from st2llm.data.read.whole_table import read_table
from st2llm.errors import DataError, nearest
from st2llm.types import SensorGraph, place_ids
from st2llm.types.rounding import real_spread

_Pairs = Float64[np.ndarray, "node 2"] | None


@dataclass(frozen=True)
class NodeAxis:
    """The places along the node axis, in order. xy: metres from their centre. given_xy: x and y as in the file."""

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    lonlat: Float64[np.ndarray, "node 2"] | None = None
    xy: Float64[np.ndarray, "node 2"] | None = None
    given_xy: Float64[np.ndarray, "node 2"] | None = None


def build(card: GraphCard, files: dict[str, Path]) -> SensorGraph:
    """The graph that a card describes; `files` maps the names in the card to paths.

    Raises DataError where files do not match the card.
    """
    readings = readers.read_readings(card, files)
    names, places = _node_axis(card, files, readings.ids, readings.values.shape[1])
    values, null_steps = _mark_missing(card, readings.values)
    time, values, time_steps = _on_regular_steps(card, readings.time, values)
    values, scale_steps = _standardise(card, values)
    graph_edges, edge_steps = edges.build_edges(card, files, names, places.lonlat)
    channels = tuple(card.channels or ("value",))
    if len(channels) != values.shape[2]:
        raise DataError(
            f"{card.name}: `channels` names {len(channels)}, but the values have {values.shape[2]}."
        )
    side = field_side_information(
        card.side,
        files,
        time,
        card.timestamp_zone,
        FieldPositions(places.lonlat, places.given_xy, DocumentPlaces.of(places.ids, places.labels)),
    )
    details = card.channel_details
    return SensorGraph(
        name=card.name,
        unit=field_unit(card, details),
        timezone=card.timezone,
        freq_s=card.freq_s,
        values=values,
        time=time,
        places=places.ids,
        labels=places.labels,
        channels=channels,
        edges=graph_edges,
        calendar=field_calendar(card, time, card.freq_s),
        split=card.plan(),
        lonlat=places.lonlat,
        xy=places.xy,
        description=card.description,
        quantity=field_quantity(card, details),
        default_task=dict(card.default_task),
        provenance=provenance.provenance_of(
            card, files, (*readings.steps, *null_steps, *time_steps, *scale_steps, *edge_steps, *side.steps)
        ),
        notes=side.notes,
        covariates=side.readings,
        place_texts=side.place_texts,
        documents=side.documents,
        channel_details=details,
    )


def _mark_missing(
    card: GraphCard, values: Float64[np.ndarray, "time node channel"]
) -> tuple[Float64[np.ndarray, "time node channel"], list[str]]:
    null = np.zeros(values.shape, dtype=bool) if card.null is None else values == card.null
    steps = [f"{int(null.sum())} readings of {card.null:g} count as missing"] if null.any() else []
    return np.where(null, np.nan, values), steps


def _on_regular_steps(
    card: GraphCard, time: Int64[np.ndarray, " row"] | None, values: Float64[np.ndarray, "row node channel"]
) -> tuple[Int64[np.ndarray, " time"], Float64[np.ndarray, "time node channel"], list[str]]:
    """The readings at one constant UTC step, NaN where there is no row, cut to the first `steps` of the card."""
    step = RegularStep(card.name, card.freq, card.freq_s, card.timestamp_zone)
    done: list[str] = []
    if time is None:
        time = step.from_start(step.first(card.start, card.files_text()), len(values))
    else:
        time, values, done = step.regular(time, values)
    if card.steps is None:
        return time, values, done
    if card.steps > len(time):
        raise DataError(
            f"{card.name}: `steps` keeps {card.steps}, but there are only {len(time)}. Correct the card."
        )
    left = len(time) - card.steps
    return (
        time[: card.steps],
        values[: card.steps],
        [*done, f"left out {left} steps after the first {card.steps}"],
    )


def _standardise(
    card: GraphCard, values: Float64[np.ndarray, "time node channel"]
) -> tuple[Float64[np.ndarray, "time node channel"], list[str]]:
    if card.standardise is None:
        return values, []
    known = values[: card.standardise]
    if len(known) < card.standardise or not np.isfinite(known).any(axis=0).all():
        raise DataError(
            f"{card.name}: `standardise` takes the mean and standard deviation of the first {card.standardise} "
            f"steps, but there are {len(known)}, or a place has no reading in them. Correct the card."
        )
    std = real_spread(np.nanstd(known, axis=0), np.nanmax(np.abs(known), axis=0))
    scaled = (values - np.nanmean(known, axis=0)) / np.where(std > 0, std, 1.0)
    return scaled, [
        f"values were standardised by the mean and standard deviation of the first {card.standardise} steps"
    ]


def _node_axis(
    card: GraphCard, files: dict[str, Path], ids: tuple[str, ...] | None, count: int
) -> tuple[tuple[str, ...], NodeAxis]:
    """The names in the files and the places, both in the order of the values."""
    if card.nodes is None:
        names = ids or tuple(str(i) for i in range(count))
        return names, NodeAxis(_unique_ids(card.name, names), names)
    rule, path = card.nodes, files[card.nodes.file]
    coordinates = [name for name in (rule.lon, rule.lat, rule.x, rule.y) if name is not None]
    table = read_table(
        path,
        readers.graph_table_format(card),
        is_number=lambda name: name in coordinates,
        required=[rule.id, *([rule.label] if rule.label else []), *coordinates],
        remedy="Each place needs coordinates: correct the cell.",
    )
    empty = np.flatnonzero(table[rule.id].isna())
    if empty.size:
        raise DataError(
            f"{path.name}: column {rule.id!r} is empty in row {int(empty[0]) + 1}. Each place needs an id."
        )
    table = table.set_index(table[rule.id].str.strip())
    if table.index.has_duplicates:
        raise DataError(
            f"{path.name}: place {table.index[table.index.duplicated()][0]!r} has two rows. Keep one."
        )
    names = ids or tuple(str(name) for name in table.index)
    if len(names) != count:
        raise DataError(
            f"{path.name} has {len(names)} places, but {card.files_text()} has {count}. Leave out the others."
        )
    if absent := [name for name in names if name.strip() not in table.index]:
        raise DataError(
            f"{card.files_text()} has readings of {absent[0]!r}, but {path.name} has no such {rule.id!r} "
            f"({len(absent)} missing). {nearest(absent[0], table.index)} Add the row, or `ignore` the column."
        )
    table = table.loc[[name.strip() for name in names]]
    labels = names
    if rule.label:
        labels = tuple(label or name for label, name in zip(table[rule.label], names, strict=True))
    return names, NodeAxis(_unique_ids(card.name, names), labels, *_positions(rule, table, path))


def _unique_ids(where: str, names: tuple[str, ...]) -> tuple[str, ...]:
    ids = place_ids(names)
    name_of: dict[str, str] = {}
    for name, place in zip(names, ids, strict=True):
        if not place or place in name_of:
            raise DataError(
                f"{where}: places {name_of.get(place, '')!r} and {name!r} both get the id {place!r}. Rename one."
            )
        name_of[place] = name
    return ids


def _positions(rule: NodeTable, table: pd.DataFrame, path: Path) -> tuple[_Pairs, _Pairs, _Pairs]:
    """lon/lat in degrees, x/y in metres from the centre of the places, and x/y of the file; None where unknown."""
    lonlat = _pair(rule.lon, rule.lat, table, path)
    if lonlat is not None:
        positions.check_degrees(lonlat, (str(rule.lon), str(rule.lat)), path.name)
        lonlat[:, 0] -= 360 * (lonlat[:, 0] > 180)
    given_xy = _pair(rule.x, rule.y, table, path)
    if given_xy is not None:
        return lonlat, given_xy - given_xy.mean(axis=0), given_xy
    return lonlat, None if lonlat is None else local_metres(lonlat), None


def _pair(
    east: str | None, north: str | None, table: pd.DataFrame, path: Path
) -> Float64[np.ndarray, "node 2"] | None:
    if east is None or north is None:
        return None
    pair = np.column_stack(
        [pd.to_numeric(table[c], errors="coerce").to_numpy(np.float64) for c in (east, north)]
    )
    bad = np.flatnonzero(~np.isfinite(pair).all(axis=1))
    if bad.size:
        raise DataError(
            f"{path.name}: place {table.index[int(bad[0])]!r} has no finite number in {east!r} or {north!r} "
            f"({bad.size} places). Each place needs coordinates: fill them in, or leave the columns out of the "
            "card."
        )
    return pair


def local_metres(lonlat: Float64[np.ndarray, "node 2"]) -> Float64[np.ndarray, "node 2"]:
    """Metres east and north of the centre of the places (azimuthal equidistant, WGS 84)."""
    east, north = positions.centroid(lonlat)[0].tolist()
    projection = pyproj.Proj(proj="aeqd", lon_0=east, lat_0=north, ellps="WGS84")
    return np.column_stack(projection(lonlat[:, 0], lonlat[:, 1])).astype(np.float64)
