"""What samples cover: whose values they hold, from when to when; and where two such coverages overlap."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from st2llm.data.calendar import local_iso
from st2llm.data.positions import unwrap_longitudes
from st2llm.errors import DataError
from st2llm.types import DAY_S, HOUR_S, MONTH_S, Container, Provenance, Sample

Interval = tuple[float, float]
"""Seconds UTC, the end excluded; for clips, seconds since the first frame."""
Area = tuple[float, float, float, float]
"""West, south, east and north, in degrees."""
_INSTANT_S = 0.001
_DECIMALS = 3
"""Positions that agree in so many decimals of a degree (about 100 m) are the same."""
_NO_PROVENANCE = Provenance()


@dataclass(frozen=True)
class Coverage:
    """Whose values some samples hold, and when.

    data: name of the data set. part: of its split, '' where it is unknown. sha256: of its files and card. files: hashes
    of the files that hold values. spans: from the first to the last step of each place, object or clip. positions:
    longitude and latitude of places, as text. area: of the cells of a grid in degrees.
    """

    data: str
    kind: str
    part: str = ""
    sha256: str = ""
    files: tuple[str, ...] = ()
    spans: Mapping[str, Interval] = field(default_factory=dict)
    positions: Mapping[str, str] = field(default_factory=dict)
    area: Area | None = None

    @property
    def start(self) -> float:
        return min(start for start, _ in self.spans.values())

    @property
    def end(self) -> float:
        return max(end for _, end in self.spans.values())

    def is_same_data(self, other: "Coverage") -> bool:
        """Whether both are of one data set: of the same name or hash, or read from a common file."""
        same_hash = bool(self.sha256) and self.sha256 == other.sha256
        return self.data == other.data or same_hash or bool(set(self.files) & set(other.files))

    def summary(self) -> dict[str, Any]:
        """What a record holds: the number and hash of the places, objects or clips in place of their ids."""
        return {
            "data": self.data,
            "data_sha256": self.sha256,
            "part": self.part,
            "start": self.start,
            "end": self.end,
            "places": len(self.spans),
            "places_sha256": hashlib.sha256("\n".join(sorted(self.spans)).encode()).hexdigest(),
        }

    def to_json(self) -> dict[str, Any]:
        intervals = sorted(set(self.spans.values()))
        return {
            "data": self.data,
            "kind": self.kind,
            "part": self.part,
            "sha256": self.sha256,
            "files": list(self.files),
            "places": list(self.spans),
            "spans": intervals if len(intervals) == 1 else list(self.spans.values()),
            "positions": dict(self.positions),
            "area": self.area,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Coverage":
        """The coverage that `to_json` wrote. Raises DataError for anything else."""
        try:
            places, spans = (
                list(map(str, content["places"])),
                [(float(a), float(b)) for a, b in content["spans"]],
            )
            return cls(
                data=str(content["data"]),
                kind=str(content["kind"]),
                part=str(content["part"]),
                sha256=str(content["sha256"]),
                files=tuple(map(str, content["files"])),
                spans=dict(zip(places, spans * (len(places) if len(spans) == 1 else 1), strict=True)),
                positions={str(place): str(at) for place, at in content["positions"].items()},
                area=None if content["area"] is None else _area(*map(float, content["area"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"A record of what a model was fitted on should hold data, places and spans, but it is "
                f"{str(content)[:120]} ({error!r}). Train the model again."
            ) from error


@dataclass(frozen=True)
class Overlap:
    """Where two coverages hold the same values. places: of the second one; start, end: of the common time."""

    places: tuple[str, ...]
    start: float
    end: float


def container_provenance(data: Container) -> Provenance:
    """The provenance of a data set; of a list, that of its first object with the files of all."""
    if not isinstance(data, list):
        return data.provenance
    if not data:
        return _NO_PROVENANCE
    files = dict.fromkeys(file for item in data for file in item.provenance.files)
    return replace(data[0].provenance, files=tuple(files))


def coverage_of(
    samples: Iterable[Sample],
    provenance: Provenance = _NO_PROVENANCE,
    *,
    part: str = "",
    wanted: bool = False,
) -> Coverage | None:
    """The coverage of samples; None where there is none.

    provenance: of the data that they were cut from. wanted: covers the steps to predict alone, as for a test part.
    """
    groups: dict[tuple[str, ...], Interval] = {}
    first: Sample | None = None
    for sample in samples:
        first = sample if first is None else first
        places, (start, end) = _places(sample), _span(sample, wanted=wanted)
        before = groups.get(places, (start, end))
        groups[places] = (min(before[0], start), max(before[1], end))
    if first is None:
        return None
    spans: dict[str, Interval] = {}
    for places, (start, end) in groups.items():
        for place in places:
            before = spans.get(place, (start, end))
            spans[place] = (min(before[0], start), max(before[1], end))
    return Coverage(
        data=first.side.dataset,
        kind=first.kind,
        part=part,
        sha256=provenance.sha256,
        files=provenance.files,
        spans=spans,
        positions=_positions(first) if first.kind == "graph" else {},
        area=_cells_area(first) if first.kind == "grid" else None,
    )


def overlap(fitted: Coverage, test: Coverage) -> Overlap | None:
    """Where `test` asks for values of `fitted`; None where it asks for none.

    The same place, object or clip counts, in a common time. Objects, clips and events are the same in the same data
    set alone. Places of graphs are the same where their ids are, unless both have positions, which then decide. Cells
    of other data are the same where the areas of both grids meet.
    """
    common = {}
    for own, other in _same_places(fitted, test):
        (a, b), (c, d) = fitted.spans[own], test.spans[other]
        if max(a, c) < min(b, d):
            common[other] = (max(a, c), min(b, d))
    if not common:
        return None
    return Overlap(tuple(common), min(a for a, _ in common.values()), max(b for _, b in common.values()))


def time_text(second: float, kind: str) -> str:
    """A time of a coverage for messages."""
    return f"second {second:g}" if kind == "video" else local_iso(int(second), "UTC")


def _same_places(fitted: Coverage, test: Coverage) -> list[tuple[str, str]]:
    """Pairs of a place in both that are the same one."""
    if fitted.kind != test.kind:
        return []
    common, same_data = (
        [(place, place) for place in test.spans if place in fitted.spans],
        fitted.is_same_data(test),
    )
    if test.kind == "event":
        whole = {fitted.data} == set(fitted.spans) or {test.data} == set(test.spans)
        if same_data and whole:
            return [(own, place) for own in fitted.spans for place in test.spans]
        return common if same_data else []
    if same_data and common:
        return common
    if test.kind == "graph":
        by_position = {at: place for place, at in fitted.positions.items()}
        moved = [(by_position[at], place) for place, at in test.positions.items() if at in by_position]
        return moved if fitted.positions and test.positions else common
    if test.kind == "grid" and fitted.area and test.area and _areas_meet(fitted.area, test.area):
        return [(next(iter(fitted.spans)), place) for place in test.spans]
    return []


def _places(sample: Sample) -> tuple[str, ...]:
    """The places of a field, the object of a trajectory or of events (else their data set), or the clip."""
    if sample.kind != "video":
        return sample.place
    return (sample.id.removeprefix(f"{sample.side.dataset}/").rpartition("/")[0],)


def _span(sample: Sample, *, wanted: bool) -> Interval:
    steps = sample.wanted_steps if wanted and sample.wanted.any() else np.arange(len(sample.time))
    time, side = _seconds(sample), sample.side
    last = _INSTANT_S
    if sample.kind in ("graph", "grid"):  # a reading is of the whole step; the shortest month has 28 days
        last = 28 * DAY_S if side.freq_s == MONTH_S else side.freq_s
    return float(time[steps[0]]), float(time[steps[-1]]) + last


def _seconds(sample: Sample) -> Float64[np.ndarray, " time"]:
    """The time of each step in seconds; of a next event the true one, where the sample holds it."""
    time = sample.time * (1.0 if sample.side.freq_s else 0.001)  # steps under a second count milliseconds
    if sample.kind == "event" and sample.truth is not None and "gap_h" in sample.side.channels:
        gap = float(sample.truth[-1, 0, sample.side.channels.index("gap_h")])
        if np.isfinite(gap):
            time[-1] = time[-2] + HOUR_S * gap
    return np.asarray(time, dtype=np.float64)


def _positions(sample: Sample) -> dict[str, str]:
    lonlat = sample.side.lonlat
    if lonlat is None:
        return {}
    rounded = np.round(lonlat, _DECIMALS) + 0.0  # no -0
    return {
        place: f"{lon:.{_DECIMALS}f},{lat:.{_DECIMALS}f}"
        for place, (lon, lat) in zip(sample.place, rounded, strict=True)
        if np.isfinite(lon + lat)
    }


def _cells_area(sample: Sample) -> Area | None:
    lonlat = sample.side.lonlat
    if lonlat is None:
        return None
    east_of = unwrap_longitudes(lonlat[:, 0])
    south, north = float(lonlat[:, 1].min()), float(lonlat[:, 1].max())
    return _area(float(east_of.min()), south, float(east_of.max()), north)


def _area(west: float, south: float, east: float, north: float) -> Area:
    return west, south, east, north


def _areas_meet(a: Area, b: Area) -> bool:
    """Whether two areas meet; longitudes are compared on the circle, an east across the date line is beyond 180."""
    across = (b[0] - a[0]) % 360 <= a[2] - a[0] or (a[0] - b[0]) % 360 <= b[2] - b[0]
    return across and a[1] <= b[3] and b[1] <= a[3]
