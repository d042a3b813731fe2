"""Samples, which models predict, and their predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from st2llm.display import Displayed, Overview, draw, names_text, span_text
from st2llm.errors import DataError, nearest
from st2llm.types.checked import checked
from st2llm.types.side import (
    Calendar,
    Channel,
    Covariate,
    DescribesChannels,
    Document,
    StayContext,
    last_known_time,
)
from st2llm.types.space import Layout, slug

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@checked
@dataclass(frozen=True)
class Side(DescribesChannels):
    """The side information of a sample: the same for every predictor.

    unit: of the values. freq_s: seconds of a step; 0 where steps are not regular, or shorter than a second.
    calendar: of each step; for sequences step_of_day counts steps of freq_s as well (60 s by default).
    labels: names of the nodes. neighbours: of each node, (node, weight) pairs, heaviest first.
    covariates: series that are the same for all nodes, NaN where they are not visible. place_texts: a text about each
    node, or empty. notes: sentences about the time of the sample. documents: texts that were published at or before
    the last known time (`Sample.last_known_time`), the newest first.
    channels: names of the values' last axis. channel_details: what each of them is, in the same order; empty where all
    are targets in `unit`. options: the ids of which a code in the values is an index (places, marks,
    classes); option_labels: their names. lonlat: degrees; xy: metres; both of the nodes.
    frames: only the visible frames of a video. step_lonlat: longitude and latitude in degrees of each step of a
    sequence, NaN where it is not visible. stay_context: of next places, which stays before the next are its context.
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
    step_lonlat: Float64[np.ndarray, "step 2"] | None = None
    covariates: tuple[Covariate, ...] = ()
    place_texts: tuple[str, ...] = ()
    stay_context: StayContext = field(default_factory=StayContext)
    documents: tuple[Document, ...] = ()
    channel_details: tuple[Channel, ...] = ()


@checked
@dataclass(frozen=True, repr=False)
class Sample(Displayed):
    """One problem: values at positions in space and time, which of them are visible, and which are to be predicted.

    values: NaN where `visible` is False, so that no predictor sees more than another. wanted: the entries to predict.
    truth: NaN outside `wanted` and where the true value is missing; None where it is unknown altogether.
    time: seconds since 1970 UTC, never decreasing; where the time of a wanted step is to be predicted, it repeats the
    last known time. place: ids along the node axis (for one object or clip, its id alone).

    Channels (Side.channels) by kind: graph and grid: the readings; video: features of regions; trajectory: x, y, then
    place code and attributes; event: gap_h (hours since the previous event), x, y, mark code, magnitude.
    label: the class, place id or answer to predict, one of Side.options where there are any; it is part of the truth.
    question: the question in words, where the task alone does not define it.
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

    @cached_property
    def wanted_steps(self) -> Int64[np.ndarray, " step"]:
        """Indices along the time axis that have a wanted entry, ascending."""
        return np.flatnonzero(self.wanted.any(axis=(1, 2))).astype(np.int64)

    @cached_property
    def first_wanted_step(self) -> int:
        """Index of the first step with a wanted entry; the number of steps where nothing is wanted."""
        steps = self.wanted_steps
        return int(steps[0]) if steps.size else len(self.time)

    @cached_property
    def visible_steps(self) -> Int64[np.ndarray, " step"]:
        """Indices along the time axis that have a visible entry of a channel not known in advance, ascending."""
        visible = (
            np.delete(self.visible, self.channels_ahead, axis=2) if self.channels_ahead else self.visible
        )
        return np.flatnonzero(visible.any(axis=(1, 2))).astype(np.int64)

    @cached_property
    def last_visible_step(self) -> int:
        """The last of `visible_steps`; -1 where nothing is visible."""
        steps = self.visible_steps
        return int(steps[-1]) if steps.size else -1

    @property
    def last_known_time(self) -> int | None:
        """The time of the last step that shows an entry of a channel that is asked for; None where there is none."""
        return last_known_time(self.time, self.visible, self.wanted)

    @cached_property
    def target_channels(self) -> tuple[int, ...]:
        """Indices along the channel axis that are predicted, in this sample or in another of the same task."""
        details = self.side.channel_details
        return tuple(i for i in range(self.values.shape[2]) if not details or details[i].role == "target")

    @property
    def covariate_channels(self) -> tuple[int, ...]:
        """Indices along the channel axis that are inputs alone."""
        targets = self.target_channels
        return tuple(i for i in range(self.values.shape[2]) if i not in targets)

    @property
    def channels_ahead(self) -> tuple[int, ...]:
        """Indices along the channel axis of the covariates that are known in advance."""
        details = self.side.channel_details
        return tuple(i for i in self.covariate_channels if details[i].known_in_advance)

    @cached_property
    def context_steps(self) -> Int64[np.ndarray, " step"]:
        """Indices of the steps that have a visible entry and no wanted one, ascending."""
        context = self.visible.any(axis=(1, 2)) & ~self.wanted.any(axis=(1, 2))
        return np.flatnonzero(context).astype(np.int64)

    @cached_property
    def complete_steps(self) -> Int64[np.ndarray, " step"]:
        """Indices of the steps whose entries are all visible, ascending."""
        return np.flatnonzero(self.visible.all(axis=(1, 2))).astype(np.int64)

    @cached_property
    def wanted_nodes(self) -> tuple[int, ...]:
        """Indices along the node axis (into `place`) that have a wanted entry, ascending."""
        return tuple(int(node) for node in np.flatnonzero(self.wanted.any(axis=(0, 2))))

    @cached_property
    def wanted_channels(self) -> tuple[int, ...]:
        """Indices along the channel axis that have a wanted entry, ascending."""
        return tuple(int(channel) for channel in np.flatnonzero(self.wanted.any(axis=(0, 1))))

    @cached_property
    def wanted_series(self) -> tuple[tuple[int, int], ...]:
        """The (node, channel) pairs that have a wanted entry, in order of node, then channel."""
        return tuple((int(node), int(channel)) for node, channel in np.argwhere(self.wanted.any(axis=0)))

    def at(self, place: str) -> "Sample":
        """The same sample with only one place wanted; visible entries stay visible. place: an id or a name.

        Documents about other places are left out.

        Raises DataError for a place that the sample does not have.
        """
        name = place if place in self.place else slug(place)
        if name not in self.place:
            raise DataError(f"{self.id} has no place {place!r}. {nearest(name, self.place)}")
        only = np.zeros_like(self.wanted)
        only[:, self.place.index(name)] = True
        wanted = self.wanted & only
        truth = None if self.truth is None else np.where(wanted, self.truth, np.nan)
        return replace(self, wanted=wanted, truth=truth, side=self._side_at(name))

    def _side_at(self, place: str) -> Side:
        """The side information without documents about other places."""
        documents = tuple(each for each in self.side.documents if each.place in ("", place))
        if len(documents) == len(self.side.documents):
            return self.side
        return replace(self.side, documents=documents)

    def without_truth(self) -> "Sample":
        """The same sample without truth and label, as predictors receive it."""
        return replace(self, truth=None, label=None)

    def overview(self) -> Overview:
        """What is asked of which places and when, and how many values are visible."""
        places = names_text(tuple(self.place[node] for node in self.wanted_nodes) or self.place)
        rows = [("id", self.id), ("kind", self.kind), ("task", self.task), ("places", places)]
        if self.kind != "video" and self.side.freq_s:  # other times are counted in milliseconds
            rows.append(("time", span_text(int(self.time[0]), int(self.time[-1]), self.side.timezone)))
        rows += [("steps", f"{len(self.time):,}"), ("visible", f"{int(self.visible.sum()):,} values")]
        if self.wanted.any():
            rows.append(("wanted", f"{int(self.wanted.sum()):,} values"))
        return Overview(rows + ([("label", self.label)] if self.label is not None else []), self.question)

    def plot(self) -> "Figure":
        """A page of plots of what is visible, and of what is to be predicted where the truth is known."""
        return draw("data.describe.sample_plot.sample_figure", self)


@checked
@dataclass(frozen=True, repr=False)
class Prediction(Displayed):
    """A prediction in raw units. value: NaN outside `wanted`; None where the answer is unreadable.

    samples: draws from the predicted distribution. quantiles: by level, each of the shape of value. raw: the text of a
    language model. unread_reason: why that text could not be read.
    ranking: options, the most likely first, where a label is to be predicted (value may then be None).
    probabilities: of the options of the ranking, in its order, where the predictor has them.
    log_density: by channel, a function from values to the natural logarithm of the predicted density.

    Raises DataError where there is neither a value or ranking nor a reason, or both.
    """

    value: Float64[np.ndarray, "time node channel"] | None
    samples: Float64[np.ndarray, "draw time node channel"] | None = None
    quantiles: dict[float, np.ndarray] | None = None
    raw: str = ""
    unread_reason: str | None = None
    ranking: tuple[str, ...] | None = None
    probabilities: tuple[float, ...] | None = None
    log_density: dict[str, Callable[[np.ndarray], np.ndarray]] | None = None

    def __post_init__(self) -> None:
        if (self.value is None and not self.ranking) != (self.unread_reason is not None):
            raise DataError(
                f"A Prediction holds either a value (or a ranking) or the reason why it could not be read, but value "
                f"is {'None' if self.value is None else 'given'} and unread_reason is {self.unread_reason!r}."
            )

    @property
    def label(self) -> str | None:
        """The most likely option; None without a ranking."""
        return self.ranking[0] if self.ranking else None

    def with_quantiles(self, levels: Sequence[float]) -> "Prediction":
        """The prediction with the quantiles of its draws at these levels, where it has draws alone."""
        if self.quantiles is not None or self.samples is None:
            return self
        of_draws = quantiles_over_draws(self.samples, levels)
        return replace(self, quantiles=dict(zip(levels, of_draws, strict=True)))

    def overview(self) -> Overview:
        """What is predicted, or why nothing could be read."""
        if self.unread_reason is not None:
            return Overview([("unread_reason", str(self.unread_reason))], self.raw)
        rows = []
        if self.ranking:
            rows.append(("ranking", names_text(self.ranking)))
        if self.value is not None:
            finite = self.value[np.isfinite(self.value)]
            rows.append(("values", f"{finite.size:,}"))
            if finite.size:
                rows.append(("range", f"{finite.min():.4g} to {finite.max():.4g}"))
        if self.samples is not None:
            rows.append(("draws", str(len(self.samples))))
        if self.quantiles:
            rows.append(("quantiles", ", ".join(f"{level:g}" for level in sorted(self.quantiles))))
        return Overview(rows, self.raw)

    def plot(self, sample: Sample) -> "Figure":
        """A page of plots of the prediction and of what is visible and true in its sample."""
        return draw("data.describe.sample_plot.sample_figure", sample, self)


def quantiles_over_draws(
    draws: Float64[np.ndarray, "draw time node channel"], levels: Sequence[float]
) -> Float64[np.ndarray, "_ time node channel"]:
    """Quantiles at these levels over the draws that are not NaN; NaN where all are."""
    quantiles = np.full((len(levels), *draws.shape[1:]), np.nan)
    known = np.isfinite(draws).any(axis=0)
    quantiles[:, known] = np.nanquantile(draws[:, known], levels, axis=0)
    return quantiles
