"""The nouns that modules hand each other: containers, samples, prompts and predictions, checked at birth."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from beartype import BeartypeConf, beartype
from jaxtyping import Bool, Float64, Int64, UInt8, jaxtyped

from st2llm.errors import DataError, nearest

T = TypeVar("T")
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(cls: type[T]) -> type[T]:
    """Checks field types and array shapes whenever an instance is made (about 13 µs)."""
    decorate: Callable[[type[T]], type[T]] = jaxtyped(typechecker=_check)
    return decorate(cls)


MONTH_S = 2_629_746
"""The step of monthly data in seconds: the mean Gregorian month. Its stamps are calendar months apart."""


def slug(name: str) -> str:
    """The id of a place: its name in lower case, words joined by hyphens (`30 Queen Street` -> `30-queen-street`)."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@checked
@dataclass(frozen=True)
class Calendar:
    """Local calendar of each time step, in the data set's own time zone."""

    step_of_day: Int64[np.ndarray, " time"]
    day_of_week: Int64[np.ndarray, " time"]
    holiday: tuple[str, ...]
    """The name of the public holiday at each step, or ''."""


@checked
@dataclass(frozen=True)
class Edges:
    """Directed weighted edges between nodes, by index."""

    source: Int64[np.ndarray, " edge"]
    target: Int64[np.ndarray, " edge"]
    weight: Float64[np.ndarray, " edge"]

    def of(self, node: int) -> list[tuple[int, float]]:
        """Neighbours that send to `node`, heaviest first, without itself."""
        rows = np.flatnonzero((self.target == node) & (self.source != node))
        pairs = [(int(self.source[i]), float(self.weight[i])) for i in rows]
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


NO_EDGES = Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float64))


@checked
@dataclass(frozen=True)
class Note:
    """A sentence that is known in advance for the time from `start` (int seconds UTC) until `end`."""

    start: int
    end: int
    text: str


@checked
@dataclass(frozen=True)
class Reading:
    """A number beside the data at each step, the same for all places: weather, a price. NaN where there is none.

    known: whether it is known in advance, as a forecast of the weather is.
    """

    name: str
    values: Float64[np.ndarray, " time"]
    known: bool = False


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
class Layout:
    """How the nodes of a grid lie: row by row, so that node = row * len(cols) + col.

    rows, cols: where each row and column is, in `unit`: 'degrees' (north, east), 'metres' or 'cells'. Rows may run
    either way (north to south as well).
    """

    rows: Float64[np.ndarray, " row"]
    cols: Float64[np.ndarray, " col"]
    unit: str = "cells"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the cells in the order of the nodes: r0c0, r0c1, ..."""
        return tuple(f"r{i}c{j}" for i in range(len(self.rows)) for j in range(len(self.cols)))


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
    wrong = np.flatnonzero(
        (step < 28 * 86_400) | (step > 31 * 86_400) if freq_s == MONTH_S else step != freq_s
    )
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


@checked
@dataclass(frozen=True)
class Side:
    """What is known beside the values, the same for every path.

    calendar: of each step; for sequences step_of_day counts steps of freq_s as well (60 s unless said otherwise).
    beside: readings of each step that are the same for all places, NaN where they may not be seen. about: words about
    each node, or empty.
    channels: names of the values' last axis. options: ids that a code in the values counts through (places, marks,
    classes), with option_labels as their words. frames: the visible frames of a video alone. lonlat, xy: of the nodes.
    track: longitude and latitude of each step of a sequence in degrees, NaN where it may not be seen.
    """

    dataset: str
    unit: str
    timezone: str
    freq_s: int
    calendar: Calendar
    labels: tuple[str, ...]
    neighbours: tuple[tuple[tuple[int, float], ...], ...]
    description: str = ""
    quantity: str = "values"
    notes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    layout: Layout | None = None
    lonlat: Float64[np.ndarray, "node 2"] | None = None
    xy: Float64[np.ndarray, "node 2"] | None = None
    options: tuple[str, ...] = ()
    option_labels: tuple[str, ...] = ()
    frames: UInt8[np.ndarray, "seen row col 3"] | None = None
    fps: float | None = None
    track: Float64[np.ndarray, "step 2"] | None = None
    beside: tuple[Reading, ...] = ()
    about: tuple[str, ...] = ()


@checked
@dataclass(frozen=True)
class Sample:
    """One problem: values with positions, what may be seen, what is asked, and (where known) the answer.

    values: NaN wherever `visible` is False, so that no path can see more. wanted: the entries asked for.
    truth: NaN outside `wanted` and where the truth is missing; None where it is not known at all.
    time: int64 seconds UTC, never decreasing; where the time of a wanted step is asked for as well, it repeats the
    last one that is known. place: ids along the node axis (of one object or clip: its id alone).

    The channels (Side.channels) of the kinds: graph and grid: the readings; video: features of regions; trajectory:
    x, y, then place code and attributes; event: gap_h (hours since the event before), x, y, mark code, magnitude.
    label: the word that is asked for (a place id, a class, an answer), one of Side.options where there are any; it goes
    with the truth. question: what is asked, in words, where the task does not say it.
    """

    id: str
    kind: str
    values: Float64[np.ndarray, "time node channel"]
    visible: Bool[np.ndarray, "time node channel"]
    wanted: Bool[np.ndarray, "time node channel"]
    time: Int64[np.ndarray, " time"]
    place: tuple[str, ...]
    side: Side
    truth: Float64[np.ndarray, "time node channel"] | None
    label: str | None = None
    question: str = ""
    task: str = "forecast"
    """The name of the task in templates and suites: forecast, impute, next-place, ..."""

    @property
    def origin(self) -> int:
        """Index of the first wanted step."""
        return int(np.flatnonzero(self.wanted.any(axis=(1, 2)))[0])

    @property
    def asked(self) -> tuple[int, ...]:
        """Indices of the places that are asked for."""
        return tuple(int(i) for i in np.flatnonzero(self.wanted.any(axis=(0, 2))))

    def at(self, place: str) -> "Sample":
        """The same sample asked for one place alone; all that is visible stays visible.

        Raises DataError for a place that is not there.
        """
        name = place if place in self.place else slug(place)
        if name not in self.place:
            raise DataError(f"{self.id} has no place {place!r}. {nearest(name, self.place)}")
        only = np.zeros_like(self.wanted)
        only[:, self.place.index(name)] = True
        wanted = self.wanted & only
        truth = None if self.truth is None else np.where(wanted, self.truth, np.nan)
        return replace(self, wanted=wanted, truth=truth)

    def without_truth(self) -> "Sample":
        """The same question without its answer: what a predictor is given."""
        return replace(self, truth=None, label=None)


@checked
@dataclass(frozen=True)
class Prediction:
    """An answer in raw units. `value` has the sample's shape, NaN outside `wanted`; None where unreadable.

    ranking: options, the most likely first, where a label is asked for (then value may be None).
    log_density: by channel, the natural logarithm of the predicted density at given values, where there is one.
    """

    value: Float64[np.ndarray, "time node channel"] | None
    samples: Float64[np.ndarray, "draw time node channel"] | None = None
    quantiles: dict[float, np.ndarray] | None = None
    raw: str = ""
    unread_reason: str | None = None
    ranking: tuple[str, ...] | None = None
    log_density: dict[str, Callable[[np.ndarray], np.ndarray]] | None = None

    def __post_init__(self) -> None:
        if (self.value is None and not self.ranking) != (self.unread_reason is not None):
            raise DataError(
                f"A Prediction holds either a value (or a ranking) or the reason why it could not be read, but value "
                f"is {'None' if self.value is None else 'given'} and unread_reason is {self.unread_reason!r}."
            )

    @property
    def label(self) -> str | None:
        """The most likely option, where a label was asked for."""
        return self.ranking[0] if self.ranking else None


@checked
@dataclass(frozen=True)
class Numbers:
    """`count` numbers with `separator` between them, each of 1 to `digits` digits before the point.

    fixed: always `digits` digits, zeros in front. decimals: digits after the point, always so many; 0 for none.
    signed: a number may begin with '-'. low, high: the least and the greatest number; None for no bound. gap: stands
    between two digits of a number, which then has no decimals.
    """

    count: int
    digits: int
    separator: str = ","
    fixed: bool = False
    decimals: int = 0
    signed: bool = False
    low: float | None = None
    high: float | None = None
    gap: str = ""


@checked
@dataclass(frozen=True)
class Scientific:
    """`count` numbers such as `1.23e2`: one digit, `decimals` behind the point, a power of ten from `low` to `high`."""

    count: int
    decimals: int
    separator: str = ","
    low: int = -9
    high: int = 9
    signed: bool = False


@checked
@dataclass(frozen=True)
class Words:
    """`count` of these words, the same as often as it will, `separator` between them."""

    options: tuple[str, ...]
    count: int
    separator: str = ","


@checked
@dataclass(frozen=True)
class Choice:
    """One of these words, exactly as they stand."""

    options: tuple[str, ...]


@checked
@dataclass(frozen=True)
class Ranking:
    """`count` different candidates, the best first, `separator` between them."""

    candidates: tuple[str, ...]
    count: int
    separator: str = ", "


@checked
@dataclass(frozen=True)
class Pair:
    """Two coordinates as `(x, y)`, each written as one of `Numbers` of count 1."""

    x: Numbers
    y: Numbers


@checked
@dataclass(frozen=True)
class Clock:
    """A time that exists: form 'time' is HH:MM, 'date' is YYYY-MM-DD, 'datetime' is both with a blank between."""

    form: str = "time"


@checked
@dataclass(frozen=True)
class Json:
    """A JSON value that a JSON schema (its text) allows."""

    schema: str


@checked
@dataclass(frozen=True)
class FreeText:
    """At most `tokens` tokens of free text; with `answer`, then a line of `cue` and an answer in that grammar.

    Without `answer` the text ends at its first line break. With it the model may write the cue itself; where it
    has not when the tokens are used up, the cue is written for it, so that the answer is readable in any case.
    """

    tokens: int = 64
    cue: str = "Answer:"
    answer: Numbers | Scientific | Words | Choice | Ranking | Pair | Clock | Json | None = None


Grammar = Numbers | Scientific | Words | Choice | Ranking | Pair | Clock | Json | FreeText
"""How an answer may look."""


@checked
@dataclass(frozen=True)
class Decoding:
    """How answers are drawn from a language model.

    draws: answers to each prompt. temperature: 0 takes the most probable token at each step. top_p: nucleus
    sampling (Holtzman et al. 2020) among the allowed tokens. seed: with the prompt's words and the number of the
    draw it fixes an answer, whatever else is asked at the same time.

    Raises DataError for settings without meaning, such as several draws at temperature 0.
    """

    draws: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise DataError(
                f"Decoding needs draws >= 1, temperature >= 0 and 0 < top_p <= 1, but has {self.draws}, "
                f"{self.temperature} and {self.top_p}."
            )
        if self.draws > 1 and self.temperature == 0:
            raise DataError(
                f"{self.draws} draws at temperature 0 would be {self.draws} times the same answer. Set a "
                f"temperature above 0, or ask for one draw."
            )


GREEDY = Decoding()
"""One answer, the most probable token at each step."""


@checked
@dataclass(frozen=True)
class Slot:
    """A place in a prompt that `length` soft tokens fill."""

    name: str
    length: int

    @property
    def tag(self) -> str:
        """How it stands in a chat message: the private character is held by no data, so none is taken for a slot."""
        return f"\ue000soft name={self.name} tokens={self.length}>"


@checked
@dataclass(frozen=True)
class TemplateId:
    """Names a template exactly: the hash is that of its source file."""

    id: str
    version: int
    sha256: str


@checked
@dataclass(frozen=True)
class Prompt:
    """What a language model is given. `parts` are words and slots in order; `text` is the words alone.

    messages: of a chat; a slot stands in them as its `tag`. truth: what a perfect answer would say, in the grammar's
    own words ('' where not known).
    dropped: what was left out to keep the budget, in the order it went.
    """

    messages: tuple[dict[str, str], ...]
    parts: tuple[str | Slot, ...]
    truth: str
    template: TemplateId
    grammar: Grammar | None = None
    dropped: tuple[str, ...] = ()
    tokens: int | None = None

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(repr((self.messages, self.parts)).encode()).hexdigest()

    def __str__(self) -> str:
        return self.text


@checked
@dataclass(frozen=True)
class Answer:
    """What a language model said, and what it cost.

    tokens_in: tokens of the prompt; tokens_shared: those of them that were read once for several answers and are
    counted by another. logprob: in nats, summed over the tokens chosen, each among those that the grammar allowed.
    seconds: this answer's share of its batch's time. finish: 'whole'; 'length' where the words ended because their
    number was used up; 'refused' where an endpoint gave none. cached: it was not asked now, but taken from a file.
    """

    text: str
    tokens_in: int
    tokens_out: int
    seconds: float
    logprob: float | None = None
    prompt_sha256: str = ""
    draw: int = 0
    tokens_shared: int = 0
    finish: str = "whole"
    cached: bool = False


@runtime_checkable
class Tokenizer(Protocol):
    """Words to token ids and back; both `tokenizers` and `transformers` tokenizers are wrapped to fit."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@runtime_checkable
class Completer(Protocol):
    """Any language model that answers: a list of prompts in, a list of answers out.

    The draws of the first prompt come first, then those of the second: `len(prompts) * decoding.draws` answers.
    """

    def complete(self, prompts: Sequence[Prompt], decoding: Decoding = ...) -> list[Answer]: ...


@runtime_checkable
class Scorer(Protocol):
    """A language model that says how likely an answer is, in nats, among all that the prompt's grammar allows.

    answers: the prompts' own truths where not given. nan where the grammar does not allow one.
    """

    def log_likelihood(
        self, prompts: Sequence[Prompt], answers: Sequence[str] | None = ...
    ) -> Float64[np.ndarray, " prompt"]: ...


@runtime_checkable
class Serializer(Protocol):
    """Writes a sample as a prompt and reads the answer.

    `read` never raises on a model's words: what cannot be read is a Prediction whose value is None.
    """

    def render(self, sample: Sample, *, soft: int | None = None) -> Prompt: ...

    def read(self, text: str, sample: Sample) -> Prediction: ...
