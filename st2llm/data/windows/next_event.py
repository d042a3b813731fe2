"""The question when (and where, and what) the next event of a point pattern is, after the events before it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64

from st2llm.data import calendar
from st2llm.data.windows.notes import notes_during
from st2llm.errors import DataError, nearest
from st2llm.tasks import NextEvent
from st2llm.types import HOUR_S, Events, Sample, Side

MINUTE_S = 60


@dataclass(frozen=True, eq=False)
class EventWindows:
    """Events and a task; rows are events."""

    data: Events
    task: NextEvent

    @classmethod
    def of(cls, data: Events, task: NextEvent) -> "EventWindows":
        """Raises DataError where the task asks for what the events do not have."""
        known = event_channels(data)
        for name in task.asked:
            if name not in known:
                raise DataError(f"{data.name} has no channel {name!r} to ask for. {nearest(name, known)}")
        return cls(data, task)

    @property
    def name(self) -> str:
        return self.data.name

    @property
    def sha256(self) -> str:
        return self.data.provenance.sha256

    def asked(
        self, parts: Int8[np.ndarray, " event"], part: int, stride: int, *, context: bool = False
    ) -> Int64[np.ndarray, " window"]:
        """The rows of the events that are asked for in a part: those that enough events come before."""
        begin, end = (int(np.searchsorted(parts, part, side=way)) for way in ("left", "right"))
        first = max(self.task.history, begin) if context else begin + self.task.history
        return np.arange(first, end, stride, dtype=np.int64)

    def sample(self, row: int) -> Sample:
        data, task = self.data, self.task
        span = slice(row - task.history, row + 1)
        names, values = self._values(span)
        known = np.array([name in data.known for name in names])
        hidden = task.hidden((values.shape[0], 1, len(names))) & ~known
        wanted = hidden & np.array([name in task.asked for name in names])
        visible = np.isfinite(values) & ~hidden
        time = data.time[span].copy()
        time[-1] = time[-2]
        return Sample(
            id=f"{data.name}/event-{row}",
            kind=data.kind,
            values=np.where(visible, values, np.nan),
            visible=visible,
            wanted=wanted,
            time=time,
            place=(data.name,),
            side=self._side(span, names, time, hidden),
            truth=np.where(wanted, values, np.nan),
            label=self._label(row),
            task=task.word,
        )

    def _values(self, span: slice) -> tuple[tuple[str, ...], Float64[np.ndarray, "time 1 channel"]]:
        data = self.data
        gap = np.diff(data.time[span], prepend=0) / HOUR_S
        gap[0] = np.nan
        found: dict[str, np.ndarray] = {"gap_h": gap}
        if data.xy is not None:
            found |= {"x": data.xy[span, 0], "y": data.xy[span, 1]}
        if data.mark is not None:
            found["mark"] = data.mark[span].astype(np.float64)
        if data.magnitude is not None:
            found["magnitude"] = data.magnitude[span]
        found |= {name: column[span] for name, column in data.attributes.items()}
        return tuple(found), np.stack(list(found.values()), axis=1)[:, None, :].astype(np.float64)

    def _label(self, row: int) -> str | None:
        """The word that is asked for, where the sort of the event is all that is."""
        if self.task.asked != ("mark",) or self.data.mark is None:
            return None
        return self.data.marks[int(self.data.mark[row])]

    def _side(
        self,
        span: slice,
        names: tuple[str, ...],
        time: Int64[np.ndarray, " time"],
        hidden: Bool[np.ndarray, "time 1 channel"],
    ) -> Side:
        data = self.data
        seen = np.ones(len(time), dtype=bool)
        seen[-1] = False
        lonlat = None if data.lonlat is None else np.where(seen[:, None], data.lonlat[span], np.nan)
        return Side(
            dataset=data.name,
            unit="metres",
            timezone=data.timezone,
            freq_s=MINUTE_S,
            calendar=calendar.calendar_with_holidays(time, data.timezone, MINUTE_S, data.holidays),
            labels=(data.name,),
            neighbours=((),),
            description=data.description,
            quantity=data.quantity,
            notes=notes_during(data.notes, int(time[-1]), int(time[-1])),
            channels=names,
            options=data.marks,
            option_labels=tuple(mark.lower() for mark in data.marks),
            track=lonlat,
        )


def event_channels(data: Events) -> tuple[str, ...]:
    """The channels of events, in order, those that exist."""
    found = ["gap_h"]
    found += ["x", "y"] if data.xy is not None else []
    found += ["mark"] if data.mark is not None else []
    found += ["magnitude"] if data.magnitude is not None else []
    return (*found, *data.attributes)
