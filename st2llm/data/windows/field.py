"""Splits of graphs and grids: cuts the time axis into parts and each part into windows, which are built on access."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import overload

import numpy as np
from jaxtyping import Bool, Float64, Int64

from st2llm.data import calendar
from st2llm.data.windows.nodes import NodeField, node_field
from st2llm.errors import DataError
from st2llm.tasks import Forecast, Task
from st2llm.types import (
    DAY_S,
    Calendar,
    Channel,
    Grid,
    Sample,
    SensorGraph,
    Side,
    last_known_time,
    with_targets,
)
from st2llm.types.side import common_quantity, common_unit

_TASK_TYPES = ("forecast", "impute", "interpolate", "krige")


@dataclass(frozen=True, eq=False)
class FieldWindows(Sequence[Sample]):
    """The windows of one part of a split of a graph or grid, oldest first; each sample is built on access.

    starts: the index of each window's first step on the time axis of `data`. asked: the only places that may be asked
    for; None for all. unseen: places of which no value is visible.
    """

    data: SensorGraph | Grid
    task: Task
    starts: Int64[np.ndarray, " window"]
    field: NodeField
    asked: frozenset[str] | None = None
    unseen: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "FieldWindows": ...

    def __getitem__(self, index: int | slice) -> "Sample | FieldWindows":
        if isinstance(index, slice):
            return replace(self, starts=self.starts[index])
        if not -len(self) <= index < len(self):
            raise IndexError(
                f"There is no window {index}: {self.data.name} has {len(self)} in this part of the split."
            )
        return self._sample(int(self.starts[index]))

    def indices(self) -> Int64[np.ndarray, " window"]:
        """The index of each window's first step on the time axis of `data`."""
        return self.starts.copy()

    def select(self, positions: Iterable[int]) -> "FieldWindows":
        """The windows at these positions, in this order. Raises IndexError for a position out of range."""
        return replace(self, starts=self.starts[np.asarray(list(positions), dtype=np.int64)])

    @cached_property
    def sha256(self) -> str:
        """A hash of the data, the task and every start."""
        settings = (
            "" if isinstance(self.task, Forecast) else f" {self.task!r}"
        )  # what the name leaves out, such as seeds
        identity = (
            f"{self.data.name} {self.data.provenance.sha256} {self.task.name} {self.task.length}{settings}"
            f"{''.join(f' {c.name}:{c.role}:{c.known_in_advance}' for c in self.channels)}"
            f"{'' if self.asked is None else f' asks for {sorted(self.asked)}'}"
            f"{f' never shows {sorted(self.unseen)}' if self.unseen else ''}\n"
        )
        return hashlib.sha256(identity.encode() + self.starts.astype("<i8").tobytes()).hexdigest()

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """What each channel is in this task; empty where all are targets in one unit."""
        return task_channels(self.data, self.task)

    @cached_property
    def _is_target(self) -> Bool[np.ndarray, " channel"]:
        roles = [channel.role == "target" for channel in self.channels]
        return np.array(roles or [True] * len(self.data.channels))

    @cached_property
    def _is_asked(self) -> Bool[np.ndarray, " node"]:
        """The places that may be asked for."""
        return np.array(
            [self.asked is None or place in self.asked for place in self.field.places], dtype=bool
        )

    @cached_property
    def _is_unseen(self) -> Bool[np.ndarray, " node"]:
        return np.array([place in self.unseen for place in self.field.places], dtype=bool)

    @cached_property
    def _is_known(self) -> Bool[np.ndarray, " channel"]:
        """The covariates that are known in advance."""
        known = [channel.known_in_advance for channel in self.channels]
        return np.array(known or [False] * len(self.data.channels))

    def _sample(self, start: int) -> Sample:
        data, field = self.data, self.field
        span = slice(start, start + self.task.length)
        raw, time = field.values[span], data.time[span]
        hidden = self._hidden(int(time[0]))
        unseen = hidden | self._missing(int(time[0]), hidden.shape)
        visible = np.isfinite(raw) & ~(unseen & ~self._is_known) & ~self._is_unseen[:, None]
        wanted = self._wanted(hidden & self._is_target, raw)
        wanted_s = time[wanted.any(axis=(1, 2))]
        first, end = int(wanted_s[0]), int(wanted_s[-1]) + data.freq_s
        side = self._side(span, hidden, first, end)
        known = last_known_time(time, visible, wanted)
        return Sample(
            id=f"{data.name}/{calendar.local_iso(int(time[self.task.context]), data.timezone)}",
            kind=data.kind,
            values=np.where(visible, raw, np.nan),
            visible=visible,
            wanted=wanted,
            time=time,
            place=field.places,
            side=replace(side, documents=data.documents.visible(known, field.places)),
            truth=np.where(wanted, raw, np.nan),
            task=self.task.type,
        )

    def _hidden(self, begin: int) -> Bool[np.ndarray, "time node channel"]:
        """The entries that the task hides in the window that begins at `begin`, among places with a target.

        A covariate is hidden where the targets are; what is known in advance of it is shown nevertheless.
        """
        has_target = self.field.alive[:, self._is_target].any(axis=1)
        length, (node, channel) = self.task.length, self.field.alive.shape
        hidden = np.zeros((length, node, channel), dtype=bool)
        groups = {"": has_target & self._is_asked}  # a mask of its own, so that a window asks for something
        if (
            self.task.type != "krige"
        ):  # places that are not asked for do not show what is hidden, such as the future
            groups[" others"] = has_target & ~self._is_asked
        for key, group in groups.items():
            if (nodes := np.flatnonzero(group)).size:
                shape = (length, len(nodes), channel)
                hidden[:, nodes] = self.task.hidden(shape, f"{self.data.name} {begin}{key}")
        return hidden

    def _missing(self, begin: int, shape: tuple[int, int, int]) -> Bool[np.ndarray, "time node channel"]:
        """The entries of the history that a forecast with missing history does not show."""
        if not isinstance(self.task, Forecast):
            return np.zeros(shape, dtype=bool)
        return self.task.missing_history(shape, f"{self.data.name} {begin}")

    def _wanted(
        self, hidden: Bool[np.ndarray, "time node channel"], raw: Float64[np.ndarray, "time node channel"]
    ) -> Bool[np.ndarray, "time node channel"]:
        """The entries to predict: for forecasts all that may have a reading, otherwise those that have one.

        Where no hidden entry has a reading, all are predicted and none is scored.
        """
        possible: Bool[np.ndarray, "time node channel"] = hidden & self.field.alive & self._is_asked[:, None]
        if isinstance(self.task, Forecast):
            return possible
        present: Bool[np.ndarray, "time node channel"] = possible & np.isfinite(raw)
        return present if present.any() else possible

    def _side(self, span: slice, hidden: Bool[np.ndarray, "time node channel"], first: int, end: int) -> Side:
        data, days, field = self.data, self.data.calendar, self.field
        # Features that are not known in advance are hidden at the steps whose entries are all hidden.
        all_hidden = (hidden | ~field.alive).all(axis=(1, 2))
        return Side(
            dataset=data.name,
            unit=common_unit(self.channels) if self.channels else data.unit,
            timezone=data.timezone,
            freq_s=data.freq_s,
            calendar=Calendar(days.step_of_day[span], days.day_of_week[span], days.holiday[span]),
            labels=field.labels,
            neighbours=field.neighbours,
            description=data.description,
            quantity=common_quantity(self.channels) if self.channels else data.quantity,
            notes=tuple(note.text for note in data.notes if note.start < end and note.end > first),
            channels=data.channels,
            layout=field.layout,
            lonlat=field.lonlat,
            xy=field.xy,
            covariates=tuple(
                replace(
                    feature,
                    values=np.where(
                        all_hidden & (not feature.known_in_advance), np.nan, feature.values[span]
                    ),
                )
                for feature in data.covariates
            ),
            place_texts=data.place_texts,
            channel_details=self.channels,
        )


ThreeParts = tuple[FieldWindows, FieldWindows, FieldWindows]


def split_field(
    data: SensorGraph | Grid, task: Task, *, stride: int = 1, context: bool = False
) -> ThreeParts:
    """Cuts the time axis by the data's split plan, then each part into windows `stride` steps apart.

    Windows do not cross a boundary; with `context`, the history alone (never a wanted step) may come from the part
    before. Boundaries are int(cumulative share x steps), moved back to local midnight where the plan has `align: day`.
    With `align: day` and a stride of whole days, predictions start at local midnights. Windows keep their length in
    steps, so on the two days a year when clocks change, the predicted day overlaps the next one by an hour or leaves
    an hour out. A part without a share is empty. A place or channel without a reading in the training part is not asked
    for in any part.

    Raises DataError where a part is too short for one window, training has no reading, or graphs and grids do not have
    the task.
    """
    if task.type not in _TASK_TYPES:
        raise DataError(
            f"{data.name} is a {data.kind}, which has no {task.type} task. Choose forecast, impute, interpolate or "
            "krige."
        )
    edges, steps = boundaries(data), len(data.time)
    field = node_field(data, training_steps=edges[1])
    targets = [i for i, channel in enumerate(task_channels(data, task)) if channel.role == "target"]
    has_target = field.alive[:, targets or slice(None)].any(axis=1)
    if task.type == "krige" and has_target.sum() < 2:
        raise DataError(
            f"{data.name} has one place with readings, but krige hides one and shows others. Use data with more places."
        )
    if task.length > steps:
        raise DataError(
            f"{data.name} has {steps} steps, but {task.name} needs {task.length} for one window. Choose a "
            "shorter history or horizon, or use more data."
        )
    parts, (asked, unseen) = [], _held_out_places(data, field)
    for name, begin, end in zip(("train", "validation", "test"), edges[:-1], edges[1:], strict=True):
        room = max(begin - task.context, 0) if context else begin
        starts = _starts(data, task, (room, end), stride)
        if not len(starts) and (end > begin or getattr(data.split, name) > 0):
            raise DataError(
                f"{data.name}: the {name} part has {end - begin} of {steps} steps, too few for one window of "
                f"{task.length} ({task.name}, stride {stride}). Give it a larger share or choose a shorter "
                "window."
            )
        parts.append(FieldWindows(data, task, starts, field, asked[name], unseen))
    if not has_target.any():
        raise DataError(
            f"{data.name} has no reading in the {edges[1]} steps of its training part, so no place can be predicted. "
            f"Give `split.train` a larger share, or leave the empty steps out."
        )
    train, validation, test = parts
    return train, validation, test


def _held_out_places(
    data: SensorGraph | Grid, field: NodeField
) -> tuple[dict[str, frozenset[str] | None], frozenset[str]]:
    """The places that each part may ask for, None for all, and those of which no part shows a value."""
    rule = data.split.hold_out
    if rule is None:
        return dict.fromkeys(("train", "validation", "test")), frozenset()
    present = [field.places[node] for node in np.flatnonzero(field.alive.any(axis=1)).tolist()]
    held = rule.of(present, data.name)
    if not rule.unseen:
        others = None if rule.known else frozenset(present) - held
        return {"train": others, "validation": others, "test": held}, frozenset()
    chosen_on = rule.of_validation(present, data.name)
    unseen = held | chosen_on
    return {"train": frozenset(present) - unseen, "validation": chosen_on, "test": held}, unseen


def task_channels(data: SensorGraph | Grid, task: Task) -> tuple[Channel, ...]:
    """What each channel is in a task: the card's roles, unless the task names its targets.

    Empty where all channels are targets in one unit. Raises DataError for a target that is no channel.
    """
    targets = getattr(task, "target", ())
    if not targets:
        return data.channel_details
    return with_targets(data.described_channels, targets, where=f"{data.name}: task.{task.type}.target")


def boundaries(data: SensorGraph | Grid) -> tuple[int, int, int, int]:
    """Where train, validation and test begin, and where test ends, in steps."""
    plan, steps = data.split, len(data.time)
    midnights = _midnights(data.calendar) if plan.align == "day" else np.arange(steps + 1)
    cuts = [0]
    # Shares are rounded first, because 0.7 + 0.1 is slightly less than 0.8, which would lose a step.
    for share in (plan.train, plan.train + plan.validation):
        cut = steps if share > 1 - 1e-9 else int(round(share, 9) * steps + 1e-6)
        before = midnights[midnights <= cut]
        cuts.append(cut if cut == steps else int(before[-1]) if len(before) else 0)
    return cuts[0], cuts[1], cuts[2], steps


def _midnights(days: Calendar) -> Int64[np.ndarray, " day"]:
    """The first step of each local day (00:00, or the first step after it where clocks skip midnight)."""
    turned = np.flatnonzero(np.diff(days.day_of_week) != 0) + 1
    whole = [0] if len(days.step_of_day) and days.step_of_day[0] == 0 else []
    return np.concatenate([np.array(whole, dtype=np.int64), turned])


def _starts(
    data: SensorGraph | Grid, task: Task, room: tuple[int, int], stride: int
) -> Int64[np.ndarray, " window"]:
    first, last = room[0], room[1] - task.length
    day = DAY_S // data.freq_s
    if data.split.align != "day" or DAY_S % data.freq_s or stride % day:
        return np.arange(first, last + 1, stride, dtype=np.int64)
    starts = _midnights(data.calendar) - task.context
    return starts[(starts >= first) & (starts <= last)][:: stride // day]
