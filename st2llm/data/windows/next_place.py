"""Samples of next-place prediction: which known place an object visits next, after LLM-Mob (Wang et al. 2023)."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from jaxtyping import Int64

from st2llm.data import calendar
from st2llm.data.windows.partition import PARTS
from st2llm.data.windows.trajectory import TrajectoryWindows
from st2llm.tasks import NextPlace
from st2llm.types import DAY_S, Sample, Trajectory

_OTHER_GAPS = (7, 5, 3, 2, 1, 0)
"""Values of `gap_days` that are tried for a part in which the task's own gives no sample."""


@dataclass(frozen=True, eq=False)
class NextPlaceWindows:
    """The stays that are predicted.

    A stay on day d is predicted if d is at least `gap_days` after the object's first day in the part, and at least
    `least_context` stays of the part precede it on days d - `context_days` to d. The context is the last
    `context_stays` of these. The history is the last `history` stays of earlier parts; where there are none, those of
    the same part before the context.
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
        parts, task = [], self.task
        for trajectory, offset in zip(self.windows.objects, self.windows.offsets[:-1].tolist(), strict=True):
            begin, end = self.windows.rows_of_part(offset, part) if len(trajectory.time) else (0, 0)
            if end - begin <= task.least_context:
                continue
            day = _days(trajectory)[begin:end]
            count = np.arange(end - begin) - np.searchsorted(day, day - task.context_days, side="left")
            has_place = np.array([bool(place) for place in (trajectory.place or ())[begin:end]])
            rows = np.flatnonzero((day >= day[0] + task.gap_days) & (count >= task.least_context) & has_place)
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

    def remedy(self, part: int) -> str:
        """Why a part has no sample, and settings of the task that give it some, or that none does."""
        t, name = self.task, PARTS[part]
        rule = (
            f"A stay is predicted if it has a known place, begins at least {t.gap_days} days (gap_days) after its "
            f"object's first stay in the part, and {t.least_context} stays of the part (least_context) lie in the "
            f"{t.context_days} days (context_days) before it. Here the stays of an object span at most "
            f"{self._longest_span(part)} days of the {name} part. "
        )
        for least, reach, gap in product(
            sorted({t.least_context, 1}, reverse=True), sorted({t.context_days, 7}), _OTHER_GAPS
        ):
            other = replace(t, gap_days=min(gap, t.gap_days), context_days=reach, least_context=least)
            if self._gives_samples(other):
                keys = ("gap_days", "context_days", "least_context")
                changed = [key for key in keys if getattr(other, key) != getattr(t, key)]
                settings = ", ".join(f"{key}: {getattr(other, key)}" for key in changed)
                return f"{rule}Set task: {{next-place: {{{settings}}}}}, or give the part a larger share."
        return f"{rule}Fewer days do not help. Give the part a larger share, or longer tracks."

    def _gives_samples(self, task: NextPlace) -> bool:
        """Whether every part that has stays has samples of the task."""
        other = replace(self, task=task)
        return all(
            len(other.target_rows(part)) for part in range(len(PARTS)) if (self.windows.parts == part).any()
        )

    def _longest_span(self, part: int) -> int:
        """The largest number of days between the first and the last stay of an object in a part."""
        spans = [0]
        for trajectory, offset in zip(self.windows.objects, self.windows.offsets[:-1].tolist(), strict=True):
            begin, end = self.windows.rows_of_part(offset, part) if len(trajectory.time) else (0, 0)
            if end > begin:
                day = _days(trajectory)
                spans.append(int(day[end - 1] - day[begin]))
        return max(spans)

    def _rows(self, trajectory: Trajectory, row: int, at: int) -> Int64[np.ndarray, " time"]:
        begin, _ = self.windows.rows_of_part(row, int(self.windows.parts[row]))
        day = _days(trajectory)
        week = begin + int(np.searchsorted(day[begin:at], day[at] - self.task.context_days, side="left"))
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
