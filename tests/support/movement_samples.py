"""Small samples of moving objects and of events, made by hand."""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from st2llm.types import Calendar, Sample, Side

ZONE = "America/New_York"
# A Monday in winter, 08:00 local.
MONDAY = int(datetime(2024, 1, 8, 8, tzinfo=ZoneInfo(ZONE)).timestamp())
HOUR, DAY = 3600, 86_400


def path(length: int = 20) -> np.ndarray:
    """A walk north-east at 1 m/s, that bends."""
    t = np.arange(length, dtype=np.float64)
    return np.column_stack([100 + 0.3 * t, -50 + 0.26 * t + 0.004 * t**2])


def track_sample(
    xy: np.ndarray | None = None,
    *,
    horizon: int = 12,
    hidden: np.ndarray | None = None,
    task: str = "forecast",
    freq_s: int = 0,
    step: int = 400,
    side: dict | None = None,
    attributes: dict[str, np.ndarray] | None = None,
) -> Sample:
    """Positions of one walker, of which the last `horizon` are asked for; a fix every 0.4 s (time in ms)."""
    xy = path() if xy is None else np.asarray(xy, dtype=np.float64)
    names = ("x", "y", *(attributes or {}))
    values = np.column_stack([xy, *(attributes or {}).values()])[:, None, :].astype(np.float64)
    asked = np.zeros(len(xy), dtype=bool)
    asked[len(xy) - horizon :] = True
    asked = asked if hidden is None else hidden
    wanted = np.zeros(values.shape, dtype=bool)
    wanted[asked, :, :2] = True
    gone = np.zeros(values.shape, dtype=bool)
    gone[asked] = True
    return _sample(
        "trajectory", task, values, gone, wanted, _times(len(xy), freq_s, step), names, freq_s, side
    )


def stay_sample(
    places: tuple[int, ...] = (3, 1, 3, 2, 3, 1, 3, 2, 3, 4, 3, 1),
    *,
    told: bool = True,
    side: dict | None = None,
) -> Sample:
    """Stays eight hours apart at the places p0 to p6, of which the last is asked for."""
    code = np.array(places, dtype=np.float64)
    minutes = 60.0 + 10 * np.arange(len(code))
    values = np.column_stack([code, minutes])[:, None, :]
    gone = np.zeros(values.shape, dtype=bool)
    gone[-1] = True
    wanted = np.zeros(values.shape, dtype=bool)
    wanted[-1, 0, 0] = True
    time = MONDAY + 8 * HOUR * np.arange(len(code), dtype=np.int64)
    if not told:
        time[-1] = time[-2]
    options = tuple(f"p{i}" for i in range(7))
    own = {"options": options, **(side or {})}
    sample = _sample(
        "trajectory", "next-place", values, gone, wanted, time, ("place", "duration_min"), 60, own
    )
    return replace(sample, label=options[places[-1]])


def event_sample(
    gaps_h: tuple[float, ...] = (2.5, 0.5, 7.25, 1.0, 3.0, 12.5, 4.0),
    *,
    asked: tuple[str, ...] = ("gap_h",),
    xy: np.ndarray | None = None,
    marks: tuple[int, ...] = (0, 1, 0, 2, 0, 0, 1, 0),
    side: dict | None = None,
    channels: tuple[str, ...] = ("gap_h", "x", "y", "mark", "magnitude"),
) -> Sample:
    """Events after these gaps, the first on Monday 08:00; the last one is asked for, its time hidden."""
    gap = np.array([np.nan, *gaps_h])
    count = len(gap)
    if xy is None:
        at = np.arange(count)
        xy = np.column_stack([2000.0 * (at % 3), 1500.0 * (at % 2) + 100 * at])
    mark = np.array([marks[i % len(marks)] for i in range(count)], dtype=np.float64)
    columns = {
        "gap_h": gap,
        "x": xy[:, 0],
        "y": xy[:, 1],
        "mark": mark,
        "magnitude": 1 + 0.1 * np.arange(count),
    }
    values = np.column_stack([columns[name] for name in channels])[:, None, :]
    gone = np.zeros(values.shape, dtype=bool)
    gone[-1] = True
    wanted = np.zeros(values.shape, dtype=bool)
    wanted[-1, 0, [channels.index(name) for name in asked]] = True
    time = MONDAY + np.cumsum(np.array([0, *gaps_h]) * HOUR).astype(np.int64)
    time[-1] = time[-2]
    own = {"options": ("larceny", "robbery", "assault"), "quantity": "reported crimes", **(side or {})}
    sample = _sample("event", "next-event", values, gone, wanted, time, channels, 60, own)
    if "mark" in asked:
        return replace(sample, label=own["options"][int(mark[-1])])
    return sample


def asked_words(sample: Sample, task: str, *, label: str | None = None, question: str = "", **side) -> Sample:
    """The same data with nothing hidden but a word asked for."""
    nothing = np.zeros(sample.wanted.shape, dtype=bool)
    side_of = replace(sample.side, **side)
    return replace(
        sample, task=task, wanted=nothing, truth=None, label=label, question=question, side=side_of
    )


def _times(count: int, freq_s: int, step: int) -> np.ndarray:
    start = 0 if freq_s == 0 else MONDAY
    return start + step * np.arange(count, dtype=np.int64)


def _sample(kind, task, values, gone, wanted, time, channels, freq_s, side) -> Sample:
    visible = ~gone & np.isfinite(values)
    zone = ZoneInfo(ZONE)
    seconds = time if freq_s else time // 1000
    moments = [datetime.fromtimestamp(int(t), zone) for t in seconds]
    calendar = Calendar(
        step_of_day=np.array([m.hour * 60 + m.minute for m in moments], dtype=np.int64),
        day_of_week=np.array([m.weekday() for m in moments], dtype=np.int64),
        holiday=("",) * len(moments),
    )
    named = Side(
        dataset="plaza",
        unit="metres",
        timezone=ZONE,
        freq_s=freq_s,
        calendar=calendar,
        labels=("walker 7",),
        neighbours=((),),
        description="Made by hand.",
        quantity="positions of a walker",
        channels=channels,
    )
    return Sample(
        id=f"plaza/{task}/0",
        kind=kind,
        values=np.where(visible, values, np.nan),
        visible=visible,
        wanted=wanted,
        time=time,
        place=("walker-7",),
        side=replace(named, **(side or {})),
        truth=np.where(wanted, values, np.nan),
        task=task,
    )
