"""Samples of next-place prediction: which known place an object visits next, after LLM-Mob (Wang et al. 2023)."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from st2llm.data import calendar
from st2llm.data.windows.trajectory import TrajectoryWindows
from st2llm.tasks import NextPlace
from st2llm.types import DAY_S, Sample, Trajectory

CONTEXT_DAYS = 7
"""The context of a stay reaches this many days back; predictions start this many days after a part starts."""
LEAST_CONTEXT = 3
"""A stay with fewer stays in those days is not predicted."""


@dataclass(frozen=True, eq=False)
class NextPlaceWindows:
    """The stays that are predicted.

    A stay on day d is predicted if d is at least 7 days after the object's first day in the part, and at least 3 stays
    of the part precede it on days d-7 to d. The context is the last `context_stays` of these. The history is the last
    `history` stays of earlier parts; where there are none, those of the same part before the context.
    """

    windows: TrajectoryWindows
    task: NextPlace

    @property
    def name(self) -> str:
        return self.windows.name

    @property
    def sha256(self) -> str:
        return self.windows.sha256

    def target_rows(self, part: int, stride: int = 1) -> Int64[np.ndarray, " window"]:
        """The rows of the stays that are predicted in a part."""
        parts = []
        for trajectory, offset in zip(self.windows.objects, self.windows.offsets[:-1].tolist(), strict=True):
            begin, end = self.windows.rows_of_part(offset, part) if len(trajectory.time) else (0, 0)
            if end - begin <= LEAST_CONTEXT:
                continue
            day = _days(trajectory)[begin:end]
            count = np.arange(end - begin) - np.searchsorted(day, day - CONTEXT_DAYS, side="left")
            has_place = np.array([bool(place) for place in (trajectory.place or ())[begin:end]])
            rows = np.flatnonzero((day >= day[0] + CONTEXT_DAYS) & (count >= LEAST_CONTEXT) & has_place)
            parts.append(offset + begin + rows[::stride])
        return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, dtype=np.int64)

    def sample(self, row: int) -> Sample:
        trajectory, at = self.windows.locate(row)
        rows = self._rows(trajectory, row, at)
        label = (trajectory.place or ())[at]
        window = self.windows.window(trajectory, rows, f"{trajectory.name}/{trajectory.id}/stay-{at}", label)
        if not self.task.target_time:
            time = window.time.copy()
            time[-1] = time[-2]
            window = replace(window, time=time)
        hidden = self.task.hidden((len(rows), 1, len(window.channels)))
        return self.windows.make_sample(window, hidden, hidden & window.is_channel("place"))

    def _rows(self, trajectory: Trajectory, row: int, at: int) -> Int64[np.ndarray, " time"]:
        begin, _ = self.windows.rows_of_part(row, int(self.windows.parts[row]))
        day = _days(trajectory)
        week = begin + int(np.searchsorted(day[begin:at], day[at] - CONTEXT_DAYS, side="left"))
        first = max(week, at - self.task.context_stays)
        before = begin if begin else first
        return np.concatenate(
            [np.arange(max(before - self.task.history, 0), before), np.arange(first, at + 1)]
        )


def _days(trajectory: Trajectory) -> Int64[np.ndarray, " row"]:
    """The local day of each stay, since 1970."""
    if trajectory.timezone == "UTC":
        return trajectory.time // DAY_S
    local = calendar.local_times(trajectory.time, trajectory.timezone).tz_localize(None)
    return local.to_numpy().astype("datetime64[D]").astype(np.int64)
