"""GeoJSON (RFC 7946): points with properties, and lines whose positions have times."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from st2llm.data.safe_open.gpx import Cell
from st2llm.errors import DataError

MAX_JSON_BYTES = 512 << 20
"""GeoJSON is read into memory as a whole, up to this size."""
_TIMES = ("coordTimes", "times", "coordinateProperties")
"""Properties that hold the time of each position of a line; the last one holds a `times` of its own."""
_DEGREES = ("CRS84", "4326", "WGS84")
_DEPTH = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2}


def geojson_columns(stream: IO[bytes], where: str) -> dict[str, list[Cell]]:
    """The positions of all features by column, in order.

    Columns: lon, lat and ele of the position, id of the feature, its properties by name; of lines also track (the id of
    the feature, else its number from 1) and time (of the position). A feature without a geometry has no coordinates.

    Raises DataError for other content, geometries that are neither points nor lines, another coordinate system, and
    lines whose times are not as many as their positions.
    """
    rows = [
        row
        for number, feature in enumerate(_features(_parsed(stream, where), where), start=1)
        for row in _rows(feature, number, f"{where}: feature {number}")
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _parsed(stream: IO[bytes], where: str) -> Any:
    text = stream.read(MAX_JSON_BYTES + 1)
    if len(text) > MAX_JSON_BYTES:
        raise DataError(f"{where} has over {MAX_JSON_BYTES:,} bytes. Write it as csv or Parquet.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {str(error)[:120]}. Export it as GeoJSON again.") from error


def _features(content: Any, where: str) -> Sequence[Any]:
    kind = content.get("type") if isinstance(content, Mapping) else type(content).__name__
    features = (
        [content] if kind == "Feature" else content.get("features") if kind == "FeatureCollection" else None
    )
    if not isinstance(features, list):
        raise DataError(f"{where} should be a GeoJSON FeatureCollection, but it is {str(kind)[:40]!r}.")
    frame = json.dumps(content.get("crs") or "CRS84")
    if not any(name in frame for name in _DEGREES):
        raise DataError(
            f"{where} has the coordinate system {frame[:80]}, but GeoJSON is in degrees (WGS 84). Convert it, for "
            "instance with ogr2ogr -t_srs EPSG:4326."
        )
    return features


def _rows(feature: Any, number: int, where: str) -> Iterator[dict[str, Cell]]:
    if not isinstance(feature, Mapping) or not isinstance(feature.get("properties") or {}, Mapping):
        raise DataError(f"{where} should be an object with a geometry and properties.")
    properties = dict(feature.get("properties") or {})
    geometry, id = feature.get("geometry"), feature.get("id")
    times = _times(properties)
    common = ({} if id is None else {"id": _cell(id)}) | {name: _cell(v) for name, v in properties.items()}
    if geometry is None:
        yield common | {"lon": None, "lat": None}
        return
    kind = geometry.get("type") if isinstance(geometry, Mapping) else None
    if kind not in _DEPTH:
        raise DataError(f"{where} is a {str(kind)[:40]}, but points and lines are expected. Leave it out.")
    positions = _flat(geometry.get("coordinates"), _DEPTH[str(kind)], where)
    if kind.endswith("LineString"):
        instants = _flat(times, _DEPTH[kind], where) if times is not None else [None] * len(positions)
        if len(instants) != len(positions):
            raise DataError(
                f"{where} has {len(positions)} positions, but {len(instants)} times. Give one for each."
            )
        track = {"track": str(number if id is None else id)}
        for position, instant in zip(positions, instants, strict=True):
            timed = {} if instant is None else {"time": _cell(instant)}
            yield common | track | timed | _coordinates(position, where)
        return
    for position in positions:
        yield common | _coordinates(position, where)


def _times(properties: dict[str, Any]) -> Any:
    """The times of a line's positions, taken out of its properties; None where there are none."""
    for name in _TIMES:
        value = properties.get(name)
        value = value.get("times") if isinstance(value, Mapping) else value
        if isinstance(value, list):
            del properties[name]
            return value
    return None


def _flat(nested: Any, depth: int, where: str) -> list[Any]:
    """The positions (or times) of a geometry; depth: how many lists hold them."""
    if depth == 0:
        return [nested]
    if not isinstance(nested, list):
        raise DataError(f"{where} should hold a list of positions, but it holds {str(nested)[:40]!r}.")
    return nested if depth == 1 else [item for part in nested for item in _flat(part, depth - 1, where)]


def _coordinates(position: Any, where: str) -> dict[str, Cell]:
    whole = isinstance(position, list) and len(position) >= 2
    if not whole or any(isinstance(x, bool) or not isinstance(x, int | float) for x in position[:3]):
        raise DataError(
            f"{where} should have positions [lon, lat], but one is {str(position)[:60]}. Correct it."
        )
    try:
        return {name: float(x) for name, x in zip(("lon", "lat", "ele"), position, strict=False)}
    except OverflowError as error:
        raise DataError(f"{where} has a coordinate that is too large. Correct it.") from error


def _cell(value: Any) -> Cell:
    return value if isinstance(value, str | float | int | bool) or value is None else json.dumps(value)
