"""The data summary of the run card: name, unit, time zone, size, places, edges, and a hash of the content."""

import hashlib
from typing import Any

import numpy as np

from st2llm.types import Container, DataObject, Events, Grid, SensorGraph, Trajectory, Video, first_object

_MAX_LISTED = 2000
"""At most so many places are listed."""


def timezone_of(data: Container) -> str:
    """The time zone of the data; UTC for clips, whose time starts at 0."""
    first = first_object(data)
    return "UTC" if isinstance(first, Video) else first.timezone


def summarize(data: Container) -> dict[str, Any]:
    """The summary that run.json holds and the report shows."""
    first = first_object(data)
    source = first.provenance
    summary: dict[str, Any] = {
        "name": first.name,
        "description": first.description,
        "unit": _unit(first),
        "quantity": _quantity(first),
        "timezone": timezone_of(data),
        "freq_s": first.freq_s if isinstance(first, SensorGraph | Grid) else None,
        "licence": source.licence,
        "citation": source.citation,
        "leakage": source.leakage,
        "source": source.source,
        "steps": list(source.steps),
        "holds": _size(data),
        "places": _places(first) if isinstance(first, SensorGraph) else [],
        "edges": _edges(first) if isinstance(first, SensorGraph) else [],
    }
    if isinstance(first, SensorGraph):
        del summary["holds"]  # its places are listed
    if parts := _parts(data):
        summary["cut_from"] = parts
    return summary


def _parts(data: Container) -> dict[str, str]:
    """The whole object of each trajectory that is a part of one, by id."""
    items = data if isinstance(data, list) else []
    return {item.id: item.cut_from for item in items if isinstance(item, Trajectory) and item.cut_from}


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
    for item in data if isinstance(data, list) else [data]:
        for part in _arrays(item):
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update(repr(_labels(item)).encode())
    return digest.hexdigest()


def side_sha256(data: Container) -> str:
    """SHA-256 of what `data_sha256` leaves out: edges, positions of places, channels, side information, attributes."""
    digest = hashlib.sha256()
    for item in data if isinstance(data, list) else [data]:
        arrays, texts = _side_parts(item)
        for part in arrays:
            content = b"" if part is None else np.ascontiguousarray(part).tobytes()
            digest.update(f"{len(content)} ".encode() + content)
        digest.update(repr(texts).encode())
    return digest.hexdigest()


def _side_parts(item: DataObject) -> tuple[list[np.ndarray | None], tuple[Any, ...]]:
    """The arrays and the texts that samples get besides their values."""
    if isinstance(item, Video):
        return [], (item.fps,)
    if not isinstance(item, SensorGraph | Grid):
        return list(item.attributes.values()), tuple(item.attributes)
    series = [covariate.values for covariate in item.covariates]
    names = [(covariate.name, covariate.known_in_advance) for covariate in item.covariates]
    texts: tuple[Any, ...] = (item.channels, item.unit, item.calendar.holiday, item.place_texts, names)
    texts += (item.channel_details,) if item.channel_details else ()
    if isinstance(item, Grid):
        return [item.layout.rows, item.layout.cols, *series], (*texts, item.layout.unit)
    edges = [item.edges.source, item.edges.target, item.edges.weight]
    return [*edges, item.lonlat, item.xy, *series], (*texts, item.labels)


def _arrays(item: Video | Trajectory | Events) -> list[np.ndarray]:
    if isinstance(item, Video):
        return [item.frames, item.time_s]
    if isinstance(item, Trajectory):
        arrays = [item.time, item.xy, item.lonlat, item.part, *item.attributes.values()]
    else:
        arrays = [item.time, item.xy, item.lonlat, item.mark, item.magnitude, item.object]
    return [part for part in arrays if part is not None]


def _labels(item: Video | Trajectory | Events) -> tuple[Any, ...]:
    if isinstance(item, Video):
        return item.id, item.label, item.labels
    if isinstance(item, Trajectory):
        return item.id, item.place, item.label, tuple(item.attributes)
    named = (item.marks, item.window, item.region)
    return named if item.object is None else (*named, item.objects)


def _unit(item: DataObject) -> str:
    if isinstance(item, SensorGraph | Grid):
        return item.unit
    if isinstance(item, Trajectory):
        return "m" if item.xy is not None and item.frame == "metres" else ""
    return "hours" if isinstance(item, Events) else ""


def _quantity(item: DataObject) -> str:
    return "frames" if isinstance(item, Video) else item.quantity


def _size(data: Container) -> str:
    """The size of the data as text."""
    if isinstance(data, Grid):
        rows, cols = data.values.shape[1:3]
        return f"{rows:,} x {cols:,} cells, {len(data.time):,} steps"
    if isinstance(data, Events):
        of = [f"{len(data.marks):,} sorts"] if data.marks else []
        of += [f"{len(data.objects):,} objects"] if data.objects else []
        return f"{len(data.time):,} events" + (f" of {' and '.join(of)}" if of else "")
    if isinstance(data, list):
        fixes = sum(len(item.frames if isinstance(item, Video) else item.time) for item in data)
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
