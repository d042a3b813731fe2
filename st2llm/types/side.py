"""What samples are described by besides values: channels, calendar, notes, documents, covariates, context of stays."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from st2llm.errors import DataError, nearest
from st2llm.types.checked import checked

ChannelRole = Literal["target", "covariate"]


@checked
@dataclass(frozen=True)
class Channel:
    """What one channel of a graph or grid measures.

    unit: '' where it is unknown. quantity: a phrase for prompts, '' for the name. role: a target is predicted and
    scored; a covariate is an input. known_in_advance: of a covariate, whether its values are visible at hidden steps.
    """

    name: str
    unit: str = ""
    quantity: str = ""
    role: ChannelRole = "target"
    known_in_advance: bool = False

    @property
    def words(self) -> str:
        """What is measured, in words: the quantity, else the name."""
        return self.quantity or self.name.replace("_", " ")

    @property
    def label(self) -> str:
        """What is measured and its unit: `air temperature (degrees Celsius)`."""
        return f"{self.words} ({self.unit})" if self.unit else self.words


def units_differ(channels: Sequence[Channel]) -> bool:
    """Whether the values of these channels cannot be pooled: their units differ, or are unknown of several channels."""
    units = {channel.unit for channel in channels}
    return len(channels) > 1 and (len(units) > 1 or "" in units)


def common_unit(channels: Sequence[Channel]) -> str:
    """The unit of all targets; '' where they differ."""
    units = {channel.unit for channel in channels if channel.role == "target"}
    return units.pop() if len(units) == 1 else ""


def common_quantity(channels: Sequence[Channel]) -> str:
    """What the targets measure: `air temperature and relative humidity`."""
    words = [channel.words for channel in channels if channel.role == "target"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


class DescribesChannels:
    """What containers and side information say of channels."""

    channels: tuple[str, ...]
    channel_details: tuple[Channel, ...]
    unit: str

    @property
    def described_channels(self) -> tuple[Channel, ...]:
        """What each channel is: `channel_details`, else targets that are all in `unit`."""
        return self.channel_details or tuple(Channel(name, self.unit) for name in self.channels)


def check_channels(where: str, names: Sequence[str], details: Sequence[Channel]) -> None:
    """Raises DataError where details are of other channels than `names`, or where none of them is a target."""
    described = [channel.name for channel in details]
    if details and described != list(names):
        raise DataError(
            f"{where} has the channels {', '.join(names)}, but its details are of {', '.join(described)}. Describe "
            f"each channel once, in order."
        )
    if details and all(channel.role == "covariate" for channel in details):
        raise DataError(
            f"{where}: all channels ({', '.join(names)}) are covariates, so nothing is left to predict. Make one of "
            f"them a target."
        )
    known = [c.name for c in details if c.known_in_advance and c.role == "target"]
    if known:
        raise DataError(
            f"{where}: the channel {known[0]!r} is a target, but known in advance. Make it a covariate."
        )


def with_targets(channels: Sequence[Channel], targets: Sequence[str], *, where: str) -> tuple[Channel, ...]:
    """The channels, of which those named are the targets and all others covariates; as they are where none is named.

    where: what names the targets, for errors. Raises DataError for an unknown name and for one that is named twice.
    """
    names = [channel.name for channel in channels]
    for i, target in enumerate(targets):
        if target not in names:
            raise DataError(
                f"{where} names the target {target!r}, but the channels are {', '.join(names)}. "
                f"{nearest(target, names)}"
            )
        if target in targets[:i]:
            raise DataError(f"{where} names the target {target!r} twice. Name each channel once.")
    if not targets:
        return tuple(channels)
    return tuple(
        replace(channel, role="target", known_in_advance=False)
        if channel.name in targets
        else replace(channel, role="covariate")
        for channel in channels
    )


@checked
@dataclass(frozen=True)
class Calendar:
    """The local calendar of each time step, in the data set's time zone. day_of_week: 0 is Monday."""

    step_of_day: Int64[np.ndarray, " time"]
    day_of_week: Int64[np.ndarray, " time"]
    holiday: tuple[str, ...]
    """The name of the public holiday at each step, or ''."""


@checked
@dataclass(frozen=True)
class Note:
    """A sentence about the time from `start` until `end` (seconds since 1970 UTC), which is known in advance."""

    start: int
    end: int
    text: str


@checked
@dataclass(frozen=True)
class Document:
    """A text that could be read from `published` on, such as a report or a remark.

    start, end: the period that it is about; where only the publication is known, both are `published`. The times are
    seconds since 1970 UTC; those of a clip are seconds since its first frame. place: the id of the place, object or
    clip that it is about, '' for all. source: the name of the table that it is from.
    """

    text: str
    start: int
    end: int
    published: int
    place: str = ""
    source: str = ""


@checked
@dataclass(frozen=True)
class DocumentLimits:
    """Which of the documents of a table a sample shows.

    window_s: documents published longer ago are left out; None for any age. count: the number of documents about each
    place, and about no particular place, the newest first; None for all.
    """

    window_s: int | None = None
    count: int | None = None


_NO_LIMITS = DocumentLimits()


@checked
@dataclass(frozen=True)
class DocumentSet:
    """All documents of a data set, in order of publication. limits: by the name of the table (`Document.source`).

    Raises DataError where the documents are in another order.
    """

    items: tuple[Document, ...] = ()
    limits: Mapping[str, DocumentLimits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for i, (earlier, later) in enumerate(pairwise(self.items)):
            if later.published < earlier.published:
                raise DataError(
                    f"Documents must be in order of publication, but document {i + 1} was published at "
                    f"{later.published}, before document {i} at {earlier.published}. Sort them by `published`."
                )

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def _rows_of(self) -> Mapping[str, list[int]]:
        """The positions of the documents about each place, ascending."""
        rows: dict[str, list[int]] = {}
        for row, document in enumerate(self.items):
            rows.setdefault(document.place, []).append(row)
        return rows

    def visible(self, at: int | None, places: Collection[str] = ()) -> tuple[Document, ...]:
        """The documents that a sample shows, the newest first.

        at: the last known time of the sample (see `last_known_time`): documents published later are left out. places:
        documents about others are left out.
        """
        if not self.items or at is None:
            return ()
        shown: list[Document] = []
        count: Counter[tuple[str, str]] = Counter()
        published = bisect_right(self.items, at, key=lambda document: document.published)
        about = [self._rows_of.get(place, []) for place in {"", *places}]
        rows = sorted((row for of in about for row in of[: bisect_left(of, published)]), reverse=True)
        for document in (self.items[row] for row in rows):
            limit, key = self.limits.get(document.source, _NO_LIMITS), (document.source, document.place)
            old = limit.window_s is not None and document.published < at - limit.window_s
            full = limit.count is not None and count[key] >= limit.count
            if not old and not full:
                shown.append(document)
                count[key] += 1
        return tuple(shown)


NO_DOCUMENTS = DocumentSet()


@checked
@dataclass(frozen=True)
class EventTexts:
    """A text of each event, '' for none, such as a remark.

    source: what prompts call them. known: whether the text of the event to predict is known while the rest of it is to
    be predicted. past: the number of events before it whose texts a sample shows.
    """

    items: tuple[str, ...]
    source: str
    known: bool = False
    past: int = 4

    def visible(
        self, rows: Int64[np.ndarray, " time"], time: Int64[np.ndarray, " time"], at: int | None, place: str
    ) -> tuple[Document, ...]:
        """The texts of a sample as documents, the newest first; that of the event to predict, if known, before others.

        rows: of the events before and, last, of the one to predict. time: of these, as the sample shows it. at: the
        last known time of the sample.
        """
        if at is None:
            return ()
        shown = []
        if self.known and self.items[rows[-1]]:
            shown.append(
                Document(self.items[rows[-1]], at, at, at, place, f"{self.source} of the next event")
            )
        before = list(zip(rows[:-1].tolist(), time[:-1].tolist(), strict=True))[::-1][: self.past]
        shown += [
            Document(self.items[row], t, t, t, place, self.source)
            for row, t in before
            if self.items[row] and t <= at
        ]
        return tuple(shown)


@checked
@dataclass(frozen=True)
class Covariate:
    """A series that is the same for all places, such as weather or a price; NaN where a value is missing.

    known_in_advance: whether values of wanted steps are visible, as those of a weather forecast are.
    """

    name: str
    values: Float64[np.ndarray, " time"]
    known_in_advance: bool = False


@dataclass(frozen=True)
class StayContext:
    """Which stays are the context of the next place: the last `stays` of them, of the last `days` local days.

    The defaults are those of LLM-Mob (Wang et al. 2023).
    """

    days: int = 7
    stays: int = 5


def last_known_time(
    time: Int64[np.ndarray, " time"],
    visible: Bool[np.ndarray, "time node channel"],
    wanted: Bool[np.ndarray, "time node channel"],
) -> int | None:
    """The time of the last step that shows an entry of a channel that is asked for; None where there is none.

    Values that are known in advance, such as the weather of a wanted step, do not count. Where no channel is asked for,
    as in classification, it is the last step that shows anything.
    """
    asked = wanted.any(axis=(0, 1))
    shown = visible[:, :, asked] if asked.any() else visible
    steps = np.flatnonzero(shown.any(axis=(1, 2)))
    return int(time[steps[-1]]) if steps.size else None


def check_side_information(
    name: str, covariates: tuple[Covariate, ...], steps: int, place_texts: tuple[str, ...], places: int
) -> None:
    """Raises DataError where side information does not cover each step, or each place."""
    for covariate in covariates:
        if len(covariate.values) != steps:
            raise DataError(
                f"{name} has {steps} steps, but the covariate {covariate.name!r} has {len(covariate.values)}. Give a "
                f"value for each step, NaN where it is missing."
            )
    if place_texts and len(place_texts) != places:
        raise DataError(
            f"{name} has {places} places, but {len(place_texts)} texts about places. Give one for each, '' for none."
        )
