"""Samples of next-event prediction: when, where and of which mark the next event of a point pattern is."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64

from st2llm.data import calendar
from st2llm.data.windows import partition
from st2llm.data.windows.notes import notes_during
from st2llm.errors import DataError, nearest
from st2llm.tasks import NextEvent
from st2llm.types import HOUR_S, Document, Events, Sample, Side, last_known_time

MINUTE_S = 60


@dataclass(frozen=True, eq=False)
class EventWindows:
    """The events of a data set and a task. Rows are events."""

    data: Events
    task: NextEvent

    @classmethod
    def from_events(cls, data: Events, task: NextEvent) -> "EventWindows":
        """The windows of a task over these events. Raises DataError where the events lack a channel."""
        known = event_channels(data)
        for name in task.asked:
            if name not in known:
                raise DataError(f"{data.name} has no channel {name!r} to predict. {nearest(name, known)}")
        return cls(data, task)

    @property
    def name(self) -> str:
        return self.data.name

    @property
    def sha256(self) -> str:
        return self.data.provenance.sha256

    @cached_property
    def order(self) -> Int64[np.ndarray, " event"]:
        """The rows of the events, those of one object together."""
        return self.data.by_object

    @cached_property
    def position(self) -> Int64[np.ndarray, " event"]:
        """Where each row stands in `order`."""
        return np.argsort(self.order, kind="stable").astype(np.int64)

    def target_rows(
        self, parts: Int8[np.ndarray, " event"], part: int, stride: int, *, context: bool = False
    ) -> Int64[np.ndarray, " window"]:
        """The rows of the events that are predicted in a part: those with enough events of their object before them.

        context: events of earlier parts count. `stride` counts the events of each object by themselves.
        """
        owner = np.zeros(len(parts), np.int64) if self.data.object is None else self.data.object[self.order]
        ordered = parts[self.order]
        before = _rank_in_run(owner if context else owner * len(partition.PARTS) + ordered)
        allowed = self._is_asked(part)[self.order]
        chosen = np.flatnonzero((ordered == part) & (before >= self.task.history) & allowed)
        chosen = chosen[_rank_in_run(owner[chosen]) % stride == 0]
        return np.sort(self.order[chosen])

    def _is_asked(self, part: int) -> Bool[np.ndarray, " event"]:
        """Whether each event may be predicted in a part: by its mark, where the split plan holds marks out."""
        rule, mark = self.data.split.hold_out, self.data.mark
        if rule is None or mark is None:
            return np.ones(len(self.data.time), dtype=bool)
        held = rule.of(self.data.marks, self.data.name)
        is_held = np.array([name in held for name in self.data.marks], dtype=bool)[mark]
        return np.asarray(is_held if partition.PARTS[part] == "test" else ~is_held, dtype=bool)

    def sample(self, row: int) -> Sample:
        data, task = self.data, self.task
        at = int(self.position[row])
        span = self.order[at - task.history : at + 1]
        names, values = self._values(span)
        asked = np.array([name in task.asked for name in names])
        known = np.array([name in data.known for name in names]) & ~asked
        hidden = task.hidden((values.shape[0], 1, len(names))) & ~known
        wanted = hidden & asked
        visible = np.isfinite(values) & ~hidden
        time = data.time[span].copy()
        time[-1] = time[-2]
        owner = self._object_id(row)
        documents = self._documents(span, time, last_known_time(time, visible, wanted), owner)
        return Sample(
            id=f"{data.name}/event-{row}",
            kind=data.kind,
            values=np.where(visible, values, np.nan),
            visible=visible,
            wanted=wanted,
            time=time,
            place=(owner,),
            side=replace(self._side(span, names, time, hidden), documents=documents),
            truth=np.where(wanted, values, np.nan),
            label=self._label(row),
            task=task.type,
        )

    def _documents(
        self,
        span: Int64[np.ndarray, " time"],
        time: Int64[np.ndarray, " time"],
        known: int | None,
        owner: str,
    ) -> tuple[Document, ...]:
        """The texts of the events and the documents of the data set that are known, the newest first."""
        documents = self.data.documents.visible(known, (owner,))
        if self.data.texts is None:
            return documents
        texts = self.data.texts.visible(span, time, known, owner)
        return tuple(sorted((*texts, *documents), key=lambda document: -document.published))

    def _values(
        self, span: Int64[np.ndarray, " time"]
    ) -> tuple[tuple[str, ...], Float64[np.ndarray, "time 1 channel"]]:
        data = self.data
        gap = np.diff(data.time[span], prepend=0) / HOUR_S
        gap[0] = np.nan
        channels: dict[str, np.ndarray] = {"gap_h": gap}
        if data.xy is not None:
            channels |= {"x": data.xy[span, 0], "y": data.xy[span, 1]}
        if data.mark is not None:
            channels["mark"] = data.mark[span].astype(np.float64)
        if data.magnitude is not None:
            channels["magnitude"] = data.magnitude[span]
        channels |= {name: column[span] for name, column in data.attributes.items()}
        return tuple(channels), np.stack(list(channels.values()), axis=1)[:, None, :].astype(np.float64)

    def _object_id(self, row: int) -> str:
        """The object of an event; the data set where all events are one sequence."""
        data = self.data
        return data.name if data.object is None else data.objects[int(data.object[row])]

    def _label(self, row: int) -> str | None:
        """The mark to predict, where nothing else is predicted."""
        if self.task.asked != ("mark",) or self.data.mark is None:
            return None
        return self.data.marks[int(self.data.mark[row])]

    def _side(
        self,
        span: Int64[np.ndarray, " time"],
        names: tuple[str, ...],
        time: Int64[np.ndarray, " time"],
        hidden: Bool[np.ndarray, "time 1 channel"],
    ) -> Side:
        data = self.data
        visible = np.ones(len(time), dtype=bool)
        visible[-1] = False
        lonlat = None if data.lonlat is None else np.where(visible[:, None], data.lonlat[span], np.nan)
        return Side(
            dataset=data.name,
            unit="metres",
            timezone=data.timezone,
            freq_s=MINUTE_S,
            calendar=calendar.calendar_with_holidays(time, data.timezone, MINUTE_S, data.holidays),
            labels=(self._object_id(int(span[-1])),),
            neighbours=((),),
            description=data.description,
            quantity=data.quantity,
            notes=notes_during(data.notes, int(time[-1]), int(time[-1])),
            channels=names,
            options=data.marks,
            option_labels=tuple(mark.lower() for mark in data.marks),
            step_lonlat=lonlat,
        )


def _rank_in_run(key: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
    """How many rows of its run of equal keys come before each row."""
    row = np.arange(len(key), dtype=np.int64)
    begins = np.append(True, key[1:] != key[:-1])[: len(key)]
    return row - np.maximum.accumulate(np.where(begins, row, 0))


def event_channels(data: Events) -> tuple[str, ...]:
    """The channels that these events have, in order."""
    names = ["gap_h"]
    names += ["x", "y"] if data.xy is not None else []
    names += ["mark"] if data.mark is not None else []
    names += ["magnitude"] if data.magnitude is not None else []
    return (*names, *data.attributes)
