"""The question where an object is next, of all known places, as LLM-Mob asks it (Wang et al. 2023)."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from st2llm.data import calendar
from st2llm.data.windows.trajectory import TrajectoryWindows
from st2llm.tasks import NextPlace
from st2llm.types import DAY_S, Sample, Trajectory

CONTEXT_DAYS = 7
"""The context of a question is of so many days before it; questions begin so many days after a part does."""
LEAST_CONTEXT = 3
"""A stay with fewer stays in those days is not asked for."""


@dataclass(frozen=True, eq=False)
class NextPlaceWindows:
    """Stays that may be asked for.

    A stay on day d is a question where d is at least 7 days after the object's first day in the part, and at least 3
    stays of the part are on days d-7 to d before it. The context is the last `context_stays` of those; the history the
    last `history` stays of the parts before (where there are none: those of the part before the context).
    """

    tracks: TrajectoryWindows
    task: NextPlace

    @property
    def name(self) -> str:
        return self.tracks.name

    @property
    def sha256(self) -> str:
        return self.tracks.sha256

    def asked(self, part: int, stride: int = 1) -> Int64[np.ndarray, " window"]:
        """The rows of the stays that are asked for in a part."""
        found = []
        for track, offset in zip(self.tracks.objects, self.tracks.offsets[:-1].tolist(), strict=True):
            begin, end = self.tracks.span(offset, part) if len(track.time) else (0, 0)
            if end - begin <= LEAST_CONTEXT:
                continue
            day = _days(track)[begin:end]
            count = np.arange(end - begin) - np.searchsorted(day, day - CONTEXT_DAYS, side="left")
            there = np.array([bool(place) for place in (track.place or ())[begin:end]])
            rows = np.flatnonzero((day >= day[0] + CONTEXT_DAYS) & (count >= LEAST_CONTEXT) & there)
            found.append(offset + begin + rows[::stride])
        return np.concatenate(found).astype(np.int64) if found else np.empty(0, dtype=np.int64)

    def sample(self, row: int) -> Sample:
        track, at = self.tracks.locate(row)
        rows = self._rows(track, row, at)
        label = (track.place or ())[at]
        window = self.tracks.window(track, rows, f"{track.name}/{track.id}/stay-{at}", label)
        if not self.task.target_time:
            time = window.time.copy()
            time[-1] = time[-2]
            window = replace(window, time=time)
        hidden = self.task.hidden((len(rows), 1, len(window.channels)))
        return self.tracks.assemble(window, hidden, hidden & window.of("place"))

    def _rows(self, track: Trajectory, row: int, at: int) -> Int64[np.ndarray, " time"]:
        begin, _ = self.tracks.span(row, int(self.tracks.parts[row]))
        day = _days(track)
        week = begin + int(np.searchsorted(day[begin:at], day[at] - CONTEXT_DAYS, side="left"))
        first = max(week, at - self.task.context_stays)
        before = begin if begin else first
        return np.concatenate(
            [np.arange(max(before - self.task.history, 0), before), np.arange(first, at + 1)]
        )


def _days(track: Trajectory) -> Int64[np.ndarray, " row"]:
    """The local day of each stay, since 1970."""
    if track.timezone == "UTC":
        return track.time // DAY_S
    local = calendar.local_times(track.time, track.timezone).tz_localize(None)
    return local.to_numpy().astype("datetime64[D]").astype(np.int64)
