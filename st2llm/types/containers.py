"""The containers of the five kinds of data: sensor graphs, grids, videos, trajectories and events."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from st2llm.conversions import (
    EventsConversions,
    GraphConversions,
    GridConversions,
    TrajectoryConversions,
    VideoConversions,
)
from st2llm.display import ContainerDisplay
from st2llm.errors import DataError
from st2llm.types.checked import checked
from st2llm.types.durations import check_steps
from st2llm.types.seed import HoldOut
from st2llm.types.side import (
    NO_DOCUMENTS,
    Calendar,
    Channel,
    Covariate,
    DescribesChannels,
    DocumentSet,
    EventTexts,
    Note,
    check_channels,
    check_side_information,
)
from st2llm.types.space import Edges, Layout


@checked
@dataclass(frozen=True)
class SplitPlan:
    """Shares of the data for training, validation and test. align='day' moves each boundary back to local midnight.

    by: 'time' cuts the time axis; for sequences also 'object' (whole objects, ordered by a hash of their ids), 'label'
    (`held_out` labels are the test part, the others are cut by time) and 'given' (the source assigns each fix); for the
    classification of clips also 'class' (the shares of the clips of each class, ordered by a hash of their ids).
    held_out: ids or labels of the test part; the shares then apply to the others. hold_out: places or marks that only
    the test asks for, over and above the split by time.

    Raises DataError where the shares are negative or do not add up to 1.
    """

    train: float
    validation: float
    test: float
    align: str = "step"
    by: str = "time"
    held_out: tuple[str, ...] = ()
    hold_out: HoldOut | None = None

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
    """The source of a data set, and how it was processed."""

    source: str = ""
    sha256: str = ""
    licence: str = ""
    citation: str = ""
    leakage: str = ""
    """Whether the data may be part of the pre-training text of language models."""
    steps: tuple[str, ...] = ()
    """The processing steps, in order, each as a sentence."""
    files: tuple[str, ...] = ()
    """SHA-256 of each file that holds values, of whatever card names it."""


@checked
@dataclass(frozen=True, repr=False)
class SensorGraph(GraphConversions, DescribesChannels, ContainerDisplay):
    """Regular readings at fixed places, with edges between them.

    values: NaN where a reading is missing. time: seconds since 1970 UTC, `freq_s` apart.
    lonlat: degrees. xy: metres east and north of the centre of the places. labels: names of the places.

    Raises DataError where time does not advance by freq_s, a place has no reading, or side information does not fit.
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
    """What is counted or measured, as a phrase for prompts: 'pedestrians an hour'."""
    notes: tuple[Note, ...] = ()
    default_task: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance = Provenance()
    covariates: tuple[Covariate, ...] = ()
    """Series that are the same for all places."""
    place_texts: tuple[str, ...] = ()
    """A text about each place, '' for none; empty where no place has one."""
    documents: DocumentSet = NO_DOCUMENTS
    channel_details: tuple[Channel, ...] = ()
    """What each channel measures, in the order of `channels`; empty where all are targets in `unit`."""

    def __post_init__(self) -> None:
        check_steps(self.name, self.time, self.freq_s)
        check_channels(self.name, self.channels, self.channel_details)
        check_side_information(self.name, self.covariates, len(self.time), self.place_texts, len(self.places))
        empty = np.flatnonzero(~np.isfinite(self.values).any(axis=(0, 2)))
        if empty.size:
            raise DataError(
                f"{self.name}: place {self.places[int(empty[0])]!r} has no reading at all ({empty.size} such "
                f"of {len(self.places)}). Leave it out of `nodes` or correct the values file."
            )

    @property
    def kind(self) -> str:
        return "graph"


@checked
@dataclass(frozen=True, repr=False)
class Grid(GridConversions, DescribesChannels, ContainerDisplay):
    """Regular readings on a raster.

    values: NaN where a reading is missing (land, cloud). time: seconds since 1970 UTC, `freq_s` apart; where freq_s is
    MONTH_S the steps are calendar months. layout: the positions of rows and columns.

    Raises DataError where time does not advance step by step, or axes or side information do not fit the values.
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
    covariates: tuple[Covariate, ...] = ()
    """Series that are the same for all cells."""
    place_texts: tuple[str, ...] = ()
    """A text about each cell, row by row, '' for none; empty where no cell has one."""
    documents: DocumentSet = NO_DOCUMENTS
    channel_details: tuple[Channel, ...] = ()
    """What each channel measures, in the order of `channels`; empty where all are targets in `unit`."""

    def __post_init__(self) -> None:
        check_steps(self.name, self.time, self.freq_s)
        check_channels(self.name, self.channels, self.channel_details)
        cells = len(self.layout.rows) * len(self.layout.cols)
        check_side_information(self.name, self.covariates, len(self.time), self.place_texts, cells)
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
@dataclass(frozen=True, repr=False)
class Video(VideoConversions, ContainerDisplay):
    """One clip. frames: RGB, oldest first. time_s: seconds of each frame since the first (the rate may vary).

    label: the class of the clip, or None. labels: all classes of the data set. caption: a text about the clip.
    regions: rows and columns of the coarse partition whose brightness and motion are the values of samples. asked: the
    channels of these two that are to be predicted. pixels: where above 0, the values of a region are the brightness of
    so many rows and columns of pixels, all to be predicted. part: 0 train, 1 validation, 2 test, where the source
    assigns whole clips (classification); None where the split plan decides.

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
    pixels: int = 0
    part: int | None = None
    split: SplitPlan = SplitPlan(0.7, 0.1, 0.2)
    description: str = ""
    default_task: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance = Provenance()
    documents: DocumentSet = NO_DOCUMENTS

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
@dataclass(frozen=True, repr=False)
class Trajectory(TrajectoryConversions, ContainerDisplay):
    """The fixes (or stays) of one moving object, oldest first.

    name: of the data set. id: of the object. time: seconds since 1970 UTC, strictly increasing. xy: in `frame`, which
    is 'metres' (east and north of a local origin), or 'scaled' where the source gives no metres; None where only places
    are known. lonlat: degrees. place: the id of the place of each fix. attributes: a number for each fix (duration_min,
    wind_kn, ...), NaN where missing. part: 0 train, 1 validation, 2 test for each fix, where the source assigns them.
    known: names of the attributes that are known in advance. place_labels: names of places by id. holidays: names by
    local day (days since 1970). unit_s: seconds of one unit of `time`: 1, or 0.001 where fixes are less than a second
    apart (then `time` counts milliseconds, as does the time of samples, whose Side.freq_s is 0). step: the number of
    units of `time` between fixes of a window; 0: any; None: the most frequent step, if half of the fixes have it.
    cut_from: the id of the whole object that this one is a part of (a trip); None where it is whole.

    Raises DataError where time does not increase, or a fix has neither coordinates nor a place.
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
    cut_from: str | None = None
    documents: DocumentSet = NO_DOCUMENTS

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

    @property
    def whole_id(self) -> str:
        """The id of the whole object, which its parts share."""
        return self.id if self.cut_from is None else self.cut_from


@checked
@dataclass(frozen=True, repr=False)
class Events(EventsConversions, ContainerDisplay):
    """A point pattern: events in time and space, oldest first.

    time: seconds since 1970 UTC, never decreasing (several may share a time stamp, as in daily records). xy: metres
    east and north of the centre. mark: the category of each event, an index into `marks`. magnitude: NaN where missing.
    window: the observed time span, seconds UTC. region: west, south, east, north in metres of `xy`: the observed area.
    attributes: a number for each event (age, temperature, ...), NaN where missing; known: those known in advance.
    holidays: names by local day (days since 1970). object: the object (a user, a device) of each event, an index into
    `objects`; each object is a sequence of its own. None where all events are one sequence.

    Raises DataError where time decreases, an event lies outside the window, or a mark or object has no name.
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
    object: Int64[np.ndarray, " event"] | None = None
    objects: tuple[str, ...] = ()
    documents: DocumentSet = NO_DOCUMENTS
    texts: EventTexts | None = None

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
        for codes, names, kind in ((self.mark, self.marks, "marks"), (self.object, self.objects, "objects")):
            if codes is not None and len(codes) and not 0 <= codes.min() <= codes.max() < len(names):
                raise DataError(
                    f"{self.name}: {kind} run from {codes.min()} to {codes.max()}, but {len(names)} are named."
                )

    @property
    def kind(self) -> str:
        return "event"

    @property
    def by_object(self) -> Int64[np.ndarray, " event"]:
        """The rows of the events, those of one object together and in order of time."""
        if self.object is None:
            return np.arange(len(self.time), dtype=np.int64)
        return np.argsort(self.object, kind="stable").astype(np.int64)

    @property
    def gaps_s(self) -> Int64[np.ndarray, " gap"]:
        """Seconds from each event to the next one of its object."""
        rows = self.by_object
        gaps = np.diff(self.time[rows])
        return gaps if self.object is None else np.asarray(gaps[np.diff(self.object[rows]) == 0])


Container = SensorGraph | Grid | list[Video] | list[Trajectory] | Events
"""The result of `load_data`: a list where a data set has many clips or objects."""
DataObject = SensorGraph | Grid | Video | Trajectory | Events


def first_object(data: Container) -> DataObject:
    """The container, or the first of a list of objects or clips. Raises DataError for an empty list."""
    if not isinstance(data, list):
        return data
    if not data:
        raise DataError("The data set holds no object and no clip. Check its card.")
    return data[0]
