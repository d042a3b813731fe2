"""The data summary of the run card: name, unit, time zone, size, places, edges, and a hash of the content."""

import hashlib
from typing import Any

import numpy as np

from st2llm.errors import DataError
from st2llm.types import Container, Events, Grid, SensorGraph, Trajectory, Video

DataObject = SensorGraph | Grid | Video | Trajectory | Events
_MAX_LISTED = 2000
"""At most so many places are listed."""


def first_object(data: Container) -> DataObject:
    """The container, or the first of a list of objects or clips. Raises DataError for an empty list."""
    if not isinstance(data, list):
        return data
    if not data:
        raise DataError("The data set holds no object and no clip. Check its card.")
    return data[0]


def timezone_of(data: Container) -> str:
    """The time zone of the data; UTC for clips, whose time starts at 0."""
    first = first_object(data)
    return "UTC" if isinstance(first, Video) else first.timezone


def summarize(data: Container) -> dict[str, Any]:
    """The summary that run.json holds and the report shows."""
    one = first_object(data)
    source = one.provenance
    summary = {
        "name": one.name,
        "description": one.description,
        "unit": _unit(one),
        "quantity": _quantity(one),
        "timezone": timezone_of(data),
        "freq_s": one.freq_s if isinstance(one, SensorGraph | Grid) else None,
        "licence": source.licence,
        "citation": source.citation,
        "leakage": source.leakage,
        "source": source.source,
        "steps": list(source.steps),
        "holds": _size(data),
        "places": _places(one) if isinstance(one, SensorGraph) else [],
        "edges": _edges(one) if isinstance(one, SensorGraph) else [],
    }
    if isinstance(one, SensorGraph):
        del summary["holds"]  # its places are listed
    return summary


def data_sha256(data: Container) -> str:
    """SHA-256 of everything that samples are made from: values, times, positions, places, marks, frames, notes."""
    digest = hashlib.sha256()
    if isinstance(data, SensorGraph | Grid):
        digest.update(data.values.tobytes())
        digest.update(data.time.tobytes())
        notes = [(n.start, n.end, n.text) for n in data.notes]
        places = data.places if isinstance(data, SensorGraph) else data.layout.ids
        digest.update(repr((places, notes)).encode())
        return digest.hexdigest()
    for one in data if isinstance(data, list) else [data]:
        for part in _arrays(one):
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update(repr(_labels(one)).encode())
    return digest.hexdigest()


def _arrays(one: Video | Trajectory | Events) -> list[np.ndarray]:
    if isinstance(one, Video):
        return [one.frames, one.time_s]
    if isinstance(one, Trajectory):
        given = [one.time, one.xy, one.lonlat, one.part, *one.attributes.values()]
    else:
        given = [one.time, one.xy, one.lonlat, one.mark, one.magnitude]
    return [part for part in given if part is not None]


def _labels(one: Video | Trajectory | Events) -> tuple[Any, ...]:
    if isinstance(one, Video):
        return one.id, one.label, one.labels
    if isinstance(one, Trajectory):
        return one.id, one.place, one.label, tuple(one.attributes)
    return one.marks, one.window, one.region


def _unit(one: DataObject) -> str:
    if isinstance(one, SensorGraph | Grid):
        return one.unit
    if isinstance(one, Trajectory):
        return "m" if one.xy is not None and one.frame == "metres" else ""
    return "hours" if isinstance(one, Events) else ""


def _quantity(one: DataObject) -> str:
    return "frames" if isinstance(one, Video) else one.quantity


def _size(data: Container) -> str:
    """The size of the data as text."""
    if isinstance(data, Grid):
        rows, cols = data.values.shape[1:3]
        return f"{rows:,} x {cols:,} cells, {len(data.time):,} steps"
    if isinstance(data, Events):
        return f"{len(data.time):,} events" + (f" of {len(data.marks):,} sorts" if data.marks else "")
    if isinstance(data, list):
        fixes = sum(len(one.frames if isinstance(one, Video) else one.time) for one in data)
        clips = data and isinstance(data[0], Video)
        return f"{len(data):,} {'clips' if clips else 'objects'}, {fixes:,} {'frames' if clips else 'fixes'}"
    return f"{len(data.places):,} places, {len(data.time):,} steps"


def _places(data: SensorGraph) -> list[dict[str, Any]]:
    return [
        {
            "id": place,
            "label": label,
            "lon": None if data.lonlat is None else float(data.lonlat[i, 0]),
            "lat": None if data.lonlat is None else float(data.lonlat[i, 1]),
        }
        for i, (place, label) in enumerate(zip(data.places, data.labels, strict=True))
    ][:_MAX_LISTED]


def _edges(data: SensorGraph) -> list[list[float]]:
    edges = data.edges
    listed = zip(edges.source.tolist(), edges.target.tolist(), edges.weight.tolist(), strict=True)
    return [list(edge) for edge in listed if max(edge[:2]) < _MAX_LISTED]
