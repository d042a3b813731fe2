"""Samples, what a model is asked, and predictions, what it answers."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from st2llm.errors import DataError, nearest
from st2llm.types.checked import checked
from st2llm.types.side import Calendar, Reading
from st2llm.types.space import Layout, slug


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
    def wanted_steps(self) -> Int64[np.ndarray, " step"]:
        """Indices along the time axis that have a wanted entry, ascending."""
        return np.flatnonzero(self.wanted.any(axis=(1, 2))).astype(np.int64)

    @property
    def first_wanted_step(self) -> int:
        """Index of the first step with a wanted entry; the number of steps where nothing is wanted."""
        steps = self.wanted_steps
        return int(steps[0]) if steps.size else len(self.time)

    @property
    def visible_steps(self) -> Int64[np.ndarray, " step"]:
        """Indices along the time axis that have a visible entry, ascending."""
        return np.flatnonzero(self.visible.any(axis=(1, 2))).astype(np.int64)

    @property
    def last_visible_step(self) -> int:
        """Index of the last step with a visible entry; -1 where nothing is visible."""
        steps = self.visible_steps
        return int(steps[-1]) if steps.size else -1

    @property
    def context_steps(self) -> Int64[np.ndarray, " step"]:
        """Indices of the steps that have a visible entry and no wanted one, ascending."""
        context = self.visible.any(axis=(1, 2)) & ~self.wanted.any(axis=(1, 2))
        return np.flatnonzero(context).astype(np.int64)

    @property
    def complete_steps(self) -> Int64[np.ndarray, " step"]:
        """Indices of the steps whose entries are all visible, ascending."""
        return np.flatnonzero(self.visible.all(axis=(1, 2))).astype(np.int64)

    @property
    def wanted_nodes(self) -> tuple[int, ...]:
        """Indices along the node axis (into `place`) that have a wanted entry, ascending."""
        return tuple(int(node) for node in np.flatnonzero(self.wanted.any(axis=(0, 2))))

    @property
    def wanted_channels(self) -> tuple[int, ...]:
        """Indices along the channel axis that have a wanted entry, ascending."""
        return tuple(int(channel) for channel in np.flatnonzero(self.wanted.any(axis=(0, 1))))

    @property
    def wanted_series(self) -> tuple[tuple[int, int], ...]:
        """The (node, channel) pairs that have a wanted entry, in order of node, then channel."""
        return tuple((int(node), int(channel)) for node, channel in np.argwhere(self.wanted.any(axis=0)))

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
