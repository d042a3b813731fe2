"""The containers of the five kinds of data: sensor graphs, grids, videos, trajectories and events."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from st2llm.errors import DataError
from st2llm.types.checked import checked
from st2llm.types.durations import DAY_S, MONTH_S
from st2llm.types.side import Calendar, Note, Reading
from st2llm.types.space import Edges, Layout


@checked
@dataclass(frozen=True)
class SplitPlan:
    """Shares of the time axis, in order. `align='day'` moves each boundary back to local midnight.

    by: 'time' cuts the time axis; for sequences also 'object' (whole objects, drawn by a hash of their ids), 'label'
    (`held_out` labels are the test, the others are cut by time) and 'given' (the source says the part of each fix).
    held_out: ids or labels that are the test part; the shares then speak of the others.
    """

    train: float
    validation: float
    test: float
    align: str = "step"
    by: str = "time"
    held_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6 or min(self.train, self.validation, self.test) < 0 or not self.train:
            raise DataError(
                f"A split's train, validation and test shares must be >= 0, train > 0, and add up to 1, "
                f"but they are {self.train}, {self.validation}, {self.test}. Correct `split` in the data card."
            )


@checked
@dataclass(frozen=True)
class Provenance:
    """Where data came from and what was done to it."""

    source: str = ""
    sha256: str = ""
    licence: str = ""
    citation: str = ""
    leakage: str = ""
    """What is known about the data being in the pre-training text of language models."""
    steps: tuple[str, ...] = ()
    """Each harmonisation step, in words, in order."""


@checked
@dataclass(frozen=True)
class SensorGraph:
    """Regular readings at fixed places that are joined by edges.

    values: NaN where a reading is missing. time: int64 seconds UTC, one constant step `freq_s` apart.
    lonlat: degrees. xy: metres east and north of the centre of the places.

    Raises DataError where time does not advance by freq_s or a place has no reading at all.
    """

    name: str
    unit: str
    timezone: str
    freq_s: int
    values: Float64[np.ndarray, "time node channel"]
    time: Int64[np.ndarray, " time"]
    places: tuple[str, ...]
    labels: tuple[str, ...]
    channels: tuple[str, ...]
    edges: Edges
    calendar: Calendar
    split: SplitPlan
    lonlat: Float64[np.ndarray, "node 2"] | None = None
    xy: Float64[np.ndarray, "node 2"] | None = None
    description: str = ""
    quantity: str = "values"
    """What is counted or measured, in words for a prompt: 'pedestrians an hour'."""
    notes: tuple[Note, ...] = ()
    default_task: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance = Provenance()
    beside: tuple[Reading, ...] = ()
    """Side information by time."""
    about: tuple[str, ...] = ()
    """Side information by place: words about each, '' for none; empty where there are none at all."""

    def __post_init__(self) -> None:
        _check_steps(self.name, self.time, self.freq_s)
        _check_side(self.name, self.beside, len(self.time), self.about, len(self.places))
        empty = np.flatnonzero(~np.isfinite(self.values).any(axis=(0, 2)))
        if empty.size:
            raise DataError(
                f"{self.name}: place {self.places[int(empty[0])]!r} has no reading at all ({empty.size} such "
                f"of {len(self.places)}). Leave it out of `nodes` or mend the values file."
            )

    @property
    def kind(self) -> str:
        return "graph"


@checked
@dataclass(frozen=True)
class Grid:
    """Regular readings on a raster.

    values: NaN where a reading is missing (land, cloud). time: int64 seconds UTC, one step `freq_s` apart; where
    freq_s is MONTH_S the steps are calendar months. rows, cols: see Layout, `unit_space` is its unit.

    Raises DataError where time does not advance step by step, or the axes do not fit the values.
    """

    name: str
    unit: str
    timezone: str
    freq_s: int
    values: Float64[np.ndarray, "time row col channel"]
    time: Int64[np.ndarray, " time"]
    layout: Layout
    channels: tuple[str, ...]
    calendar: Calendar
    split: SplitPlan
    description: str = ""
    quantity: str = "values"
    notes: tuple[Note, ...] = ()
    default_task: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance = Provenance()
    beside: tuple[Reading, ...] = ()
    """Side information by time."""
    about: tuple[str, ...] = ()
    """Side information by cell, row by row: words about each, '' for none; empty where there are none at all."""

    def __post_init__(self) -> None:
        _check_steps(self.name, self.time, self.freq_s)
        cells = len(self.layout.rows) * len(self.layout.cols)
        _check_side(self.name, self.beside, len(self.time), self.about, cells)
        given = self.values.shape[1:3]
        if given != (len(self.layout.rows), len(self.layout.cols)):
            raise DataError(
                f"{self.name}: the values have {given[0]} rows and {given[1]} columns, but coordinates are given for "
                f"{len(self.layout.rows)} and {len(self.layout.cols)}. Correct `dims` in the data card."
            )

    @property
    def kind(self) -> str:
        return "grid"


@checked
@dataclass(frozen=True)
class Video:
    """One clip. frames: RGB, oldest first. time_s: seconds from the first frame of each (rates may vary).

    label: the class of the whole clip, or None. labels: all classes of the data set. caption: words about the clip.
    regions: rows and columns of the coarse partition whose brightness and motion are the values of samples. asked:
    which of these two channels is asked for. part: 0 train, 1 validation, 2 test where the source says so of whole
    clips (classification); None where shares decide.
    Raises DataError for a clip without frames, or whose time does not advance.
    """

    name: str
    id: str
    frames: UInt8[np.ndarray, "time row col 3"]
    time_s: Float64[np.ndarray, " time"]
    fps: float
    label: str | None = None
    labels: tuple[str, ...] = ()
    caption: str = ""
    regions: tuple[int, int] = (3, 3)
    asked: tuple[str, ...] = ("brightness",)
    part: int | None = None
    split: SplitPlan = SplitPlan(0.7, 0.1, 0.2)
    description: str = ""
    default_task: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance = Provenance()

    def __post_init__(self) -> None:
        if not len(self.frames):
            raise DataError(
                f"{self.name}: the clip {self.id!r} has no frame. Leave it out, or get the file again."
            )
        if (np.diff(self.time_s) <= 0).any():
            i = int(np.flatnonzero(np.diff(self.time_s) <= 0)[0])
            raise DataError(
                f"{self.name}: in the clip {self.id!r} frame {i + 1} at {self.time_s[i + 1]:.3f} s does not come after "
                f"frame {i} at {self.time_s[i]:.3f} s. Write the file again with increasing stamps."
            )

    @property
    def kind(self) -> str:
        return "video"


@checked
@dataclass(frozen=True)
class Trajectory:
    """The fixes (or stays) of one moving object, oldest first.

    name: of the data set. id: of the object. time: int64 seconds UTC, strictly increasing. xy: in `frame`, which is
    'metres' (east and north of a local origin) or 'scaled' where the source gives no metres; None where only places
    are known. lonlat: degrees. place: the id of the place of each fix. attributes: one number a fix (duration_min,
    wind_kn, ...), NaN where missing. part: 0 train, 1 validation, 2 test for each fix, where the source says so.
    known: names of the attributes that are known in advance. place_labels: words of place ids. holidays: names by
    local day (days since 1970). unit_s: seconds of one unit of `time`: 1, or 0.001 where fixes are less than a second
    apart (then `time` counts milliseconds, and so does the time of samples, whose Side.freq_s is 0). step: units of
    `time` between fixes that windows must keep; 0: any step will do; None: the commonest step, where half have it.

    Raises DataError where time stands still or runs backwards, or a fix has neither coordinates nor a place.
    """

    name: str
    id: str
    timezone: str
    time: Int64[np.ndarray, " time"]
    xy: Float64[np.ndarray, "time 2"] | None = None
    lonlat: Float64[np.ndarray, "time 2"] | None = None
    place: tuple[str, ...] | None = None
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    frame: str = "metres"
    label: str | None = None
    part: Int64[np.ndarray, " time"] | None = None
    split: SplitPlan = SplitPlan(0.7, 0.1, 0.2)
    description: str = ""
    quantity: str = "positions"
    default_task: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance = Provenance()
    known: tuple[str, ...] = ()
    place_labels: dict[str, str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    holidays: dict[int, str] = field(default_factory=dict)
    unit_s: float = 1.0
    step: int | None = None

    def __post_init__(self) -> None:
        late = np.flatnonzero(np.diff(self.time) <= 0)
        if late.size:
            i = int(late[0])
            raise DataError(
                f"{self.name}: the time of object {self.id!r} must strictly increase, but t[{i}]={self.time[i]} is "
                f"followed by t[{i + 1}]={self.time[i + 1]}. Sort its fixes by time and drop duplicates."
            )
        if self.xy is None and self.place is None:
            raise DataError(
                f"{self.name}: object {self.id!r} has neither coordinates nor places. Name `x` and `y`, `lon` and "
                f"`lat`, or `place` in the data card."
            )
        for name, values in (("place", self.place), *self.attributes.items()):
            if values is not None and len(values) != len(self.time):
                raise DataError(
                    f"{self.name}: object {self.id!r} has {len(self.time)} fixes and {len(values)} of {name!r}."
                )

    @property
    def kind(self) -> str:
        return "trajectory"


@checked
@dataclass(frozen=True)
class Events:
    """What happened, when and where: a point pattern in time and space, oldest first.

    time: int64 seconds UTC, never decreasing (several may share a stamp, as in daily records). xy: metres east and
    north of the centre. mark: code of each event's sort, which counts through `marks`. magnitude: NaN where missing.
    window: the span observed, seconds UTC. region: west, south, east, north in metres of `xy`: the area observed.
    attributes: one number an event (age, temperature, ...), NaN where missing; known: those known in advance.
    holidays: names by local day (days since 1970).

    Raises DataError where time runs backwards, an event lies outside the window, or a mark has no name.
    """

    name: str
    timezone: str
    time: Int64[np.ndarray, " event"]
    window: tuple[int, int]
    xy: Float64[np.ndarray, "event 2"] | None = None
    lonlat: Float64[np.ndarray, "event 2"] | None = None
    mark: Int64[np.ndarray, " event"] | None = None
    marks: tuple[str, ...] = ()
    magnitude: Float64[np.ndarray, " event"] | None = None
    region: tuple[float, float, float, float] | None = None
    split: SplitPlan = SplitPlan(0.7, 0.1, 0.2)
    description: str = ""
    quantity: str = "events"
    default_task: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance = Provenance()
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    holidays: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        late = np.flatnonzero(np.diff(self.time) < 0)
        if late.size:
            i = int(late[0])
            raise DataError(
                f"{self.name}: events must be in order of time, but t[{i}]={self.time[i]} is followed by "
                f"t[{i + 1}]={self.time[i + 1]}. Sort them."
            )
        if len(self.time) and not self.window[0] <= self.time[0] <= self.time[-1] <= self.window[1]:
            raise DataError(
                f"{self.name}: events run from {self.time[0]} to {self.time[-1]}, outside the window {self.window}. "
                f"Correct `window` in the data card."
            )
        if (
            self.mark is not None
            and len(self.mark)
            and not 0 <= self.mark.min() <= self.mark.max() < len(self.marks)
        ):
            raise DataError(
                f"{self.name}: marks run from {self.mark.min()} to {self.mark.max()}, but {len(self.marks)} are named."
            )

    @property
    def kind(self) -> str:
        return "event"


def _check_steps(name: str, time: np.ndarray, freq_s: int) -> None:
    """Raises DataError where time does not advance by freq_s; by 28 to 31 days where the step is a month."""
    step = np.diff(time)
    wrong = np.flatnonzero((step < 28 * DAY_S) | (step > 31 * DAY_S) if freq_s == MONTH_S else step != freq_s)
    if wrong.size:
        i = int(wrong[0])
        raise DataError(
            f"{name}: time must advance by {freq_s} s, but t[{i}]={time[i]} is followed by "
            f"t[{i + 1}]={time[i + 1]}. Sort the stamps, drop duplicates and reindex to the step."
        )


def _check_side(
    name: str, beside: tuple[Reading, ...], steps: int, about: tuple[str, ...], places: int
) -> None:
    """Raises DataError where side information does not cover each step, or each place."""
    for reading in beside:
        if len(reading.values) != steps:
            raise DataError(
                f"{name} has {steps} steps, but {len(reading.values)} of {reading.name!r} are given beside them."
            )
    if about and len(about) != places:
        raise DataError(f"{name} has {places} places, but words about {len(about)} are given.")


Container = SensorGraph | Grid | list[Video] | list[Trajectory] | Events
"""What `load_data` returns: a list where a data set has many clips or objects."""
