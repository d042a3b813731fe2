"""Tiny containers and samples of the five kinds, made by hand."""

from dataclasses import replace

import numpy as np

from st2llm.data.calendar import calendar_of
from st2llm.data.windows.video import region_names
from st2llm.types import (
    Calendar,
    Edges,
    Events,
    Grid,
    Layout,
    Sample,
    SensorGraph,
    Side,
    SplitPlan,
    Trajectory,
    Video,
)

MONDAY = 1_704_067_200  # 2024-01-01 00:00 UTC
HOUR, DAY = 3600, 86_400


def graph(days: int = 10, nodes: int = 3) -> SensorGraph:
    """Whole counts every hour with a daily wave that peaks at 17:00; place n has a level of 100 (n + 1)."""
    time = MONDAY + HOUR * np.arange(24 * days, dtype=np.int64)
    hour = np.arange(len(time)) % 24
    wave = 40 * np.cos((hour - 17) * 2 * np.pi / 24)
    values = np.rint(100.0 * (np.arange(nodes) + 1) + wave[:, None])[:, :, None]
    source = np.array(list(range(nodes - 1)) + [i + 1 for i in range(nodes - 1)], dtype=np.int64)
    target = np.array([i + 1 for i in range(nodes - 1)] + list(range(nodes - 1)), dtype=np.int64)
    xy = np.column_stack([1000.0 * np.arange(nodes), np.zeros(nodes)])
    return SensorGraph(
        name="tiny-graph",
        unit="people",
        timezone="UTC",
        freq_s=HOUR,
        values=values,
        time=time,
        places=tuple(f"gate-{i}" for i in range(nodes)),
        labels=tuple(f"Gate {i}" for i in range(nodes)),
        channels=("count",),
        edges=Edges(source, target, np.ones(len(source))),
        calendar=calendar_of(time, "UTC", freq_s=HOUR),
        split=SplitPlan(0.7, 0.1, 0.2),
        lonlat=np.column_stack([174.7 + 0.01 * np.arange(nodes), np.full(nodes, -36.8)]),
        xy=xy,
        quantity="people an hour",
        default_task={"forecast": {"history": 24, "horizon": 6}},
    )


def grid(months: int = 12) -> Grid:
    """Four rows north to south, three columns; warmer southward, with a sea that warms fastest at row 3, column 2."""
    time = MONDAY + DAY * np.arange(months, dtype=np.int64)
    values = np.zeros((months, 4, 3, 1))
    values += 10 + 5 * np.arange(4)[None, :, None, None] + 0.1 * np.arange(months)[:, None, None, None]
    values[:, 3, 2, 0] += 0.5 * np.arange(months)
    values[:, 0, 0] = np.nan  # land
    return Grid(
        name="tiny-grid",
        unit="°C",
        timezone="UTC",
        freq_s=DAY,
        values=values,
        time=time,
        layout=Layout(np.array([60.0, 50.0, 40.0, 30.0]), np.array([0.0, 10.0, 20.0]), "degrees"),
        channels=("sst",),
        calendar=calendar_of(time, "UTC", freq_s=DAY),
        split=SplitPlan(0.5, 0.25, 0.25),
        quantity="sea surface temperature",
        default_task={"forecast": {"history": 2, "horizon": 1}},
    )


def clip(frames: int = 10, *, step: int = -4, cut: bool = False, name: str = "left") -> Video:
    """A bright square that moves `step` pixels a frame to the right (left where negative) before a dark wall."""
    rng = np.random.default_rng(7)
    wall = rng.integers(20, 50, (48, 96)).astype(np.uint8)
    square = rng.integers(150, 250, (14, 14)).astype(np.uint8)
    shown = np.repeat(wall[None], frames, axis=0)
    start = 70 if step < 0 else 10
    for i in range(frames):
        at = int(np.clip(start + step * i, 0, 82))
        shown[i, 17:31, at : at + 14] = square
    if cut:
        shown[frames // 2 :] = 255 - shown[frames // 2 :]
    return Video(
        name="tiny-video",
        id=name,
        frames=np.repeat(shown[..., None], 3, axis=3),
        time_s=np.arange(frames) / 10.0,
        fps=10.0,
        label=name,
        labels=("left", "right"),
        split=SplitPlan(0.5, 0.25, 0.25),
        default_task={"forecast": {"history": 4, "horizon": 1}},
    )


def walk(steps: int = 12, *, name: str = "walker", east: float = 1.0, north: float = 0.0) -> Trajectory:
    """A straight walk, a fix a minute."""
    time = MONDAY + 60 * np.arange(steps, dtype=np.int64)
    xy = np.arange(steps, dtype=np.float64)[:, None] * np.array([[east, north]])
    return Trajectory(
        name="tiny-walks",
        id=name,
        timezone="UTC",
        time=time,
        xy=xy,
        split=SplitPlan(0.5, 0.25, 0.25),
        default_task={"forecast": {"history": 3, "horizon": 2}},
    )


def stays(name: str = "user-1") -> Trajectory:
    """Home, work, home, gym, home, work over three days, with durations."""
    hours = np.array([0, 9, 18, 24, 33, 42])
    return Trajectory(
        name="tiny-stays",
        id=name,
        timezone="UTC",
        time=MONDAY + HOUR * hours.astype(np.int64),
        place=("home", "work", "home", "gym", "home", "work"),
        attributes={"duration_min": np.array([480.0, 510.0, 300.0, 90.0, 500.0, 60.0])},
        quantity="stays",
    )


def events(count: int = 40, *, seed: int = 3) -> Events:
    """Thefts and fires in a square of 10 km, about two a day; magnitudes grow with the index."""
    rng = np.random.default_rng(seed)
    gaps = rng.integers(1, 24, count) * HOUR
    time = MONDAY + np.cumsum(gaps).astype(np.int64)
    return Events(
        name="tiny-events",
        timezone="UTC",
        time=time,
        window=(MONDAY, int(time[-1]) + HOUR),
        xy=rng.uniform(-5000, 5000, (count, 2)),
        mark=np.array([i % 3 == 0 for i in range(count)], dtype=np.int64),
        marks=("theft", "fire"),
        magnitude=1.0 + 0.1 * np.arange(count),
        region=(-5000.0, -5000.0, 5000.0, 5000.0),
        quantity="crimes",
        default_task={"next-event": {"history": 5}},
    )


def field_samples(data: SensorGraph | Grid, history: int, horizon: int, *, stride: int = 1) -> list[Sample]:
    """Forecast samples of all windows."""
    layout = data.layout if isinstance(data, Grid) else None
    values = data.values.reshape(len(data.values), -1, data.values.shape[-1])
    places = data.layout.ids if isinstance(data, Grid) else data.places
    labels = tuple(places) if isinstance(data, Grid) else data.labels
    side = Side(
        dataset=data.name,
        unit=data.unit,
        timezone=data.timezone,
        freq_s=data.freq_s,
        calendar=data.calendar,
        labels=labels,
        neighbours=tuple(() for _ in places),
        quantity=data.quantity,
        channels=data.channels,
        layout=layout,
        xy=None if isinstance(data, Grid) else data.xy,
    )
    length = history + horizon
    made = []
    for start in range(0, len(values) - length + 1, stride):
        span = slice(start, start + length)
        days = data.calendar
        cut = Calendar(days.step_of_day[span], days.day_of_week[span], days.holiday[span])
        made.append(
            _sample(
                f"{data.name}/{start}",
                data.kind,
                values[span],
                history,
                data.time[span],
                tuple(places),
                replace(side, calendar=cut),
            )
        )
    return made


def named_clip(video: Video) -> Sample:
    """The same with its regions named as those of real clips are: top left, ..."""
    sample = clip_sample(video)
    return replace(sample, side=replace(sample.side, labels=region_names((3, 3))))


def clip_sample(video: Video, *, regions: tuple[int, int] = (3, 3)) -> Sample:
    """A clip as nine regions with brightness and motion, nothing hidden but the label."""
    luma = video.frames.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    motion = np.abs(np.diff(luma, axis=0, prepend=luma[:1]))
    rows, cols = regions
    t, h, w = luma.shape
    pieces = [
        x.reshape(t, rows, h // rows, cols, w // cols).mean(axis=(2, 4)).reshape(t, -1)
        for x in (luma, motion)
    ]
    values = np.stack(pieces, axis=2)
    layout = Layout(np.arange(rows, dtype=np.float64), np.arange(cols, dtype=np.float64))
    time = np.rint(video.time_s * 1000).astype(np.int64)
    side = Side(
        dataset=video.name,
        unit="",
        timezone="UTC",
        freq_s=0,
        calendar=_no_calendar(t),
        labels=layout.ids,
        neighbours=tuple(() for _ in layout.ids),
        channels=("brightness", "motion"),
        layout=layout,
        options=video.labels,
        option_labels=video.labels,
        frames=video.frames,
        fps=video.fps,
    )
    sample = _sample(f"{video.name}/{video.id}/0", "video", values, t, time, layout.ids, side)
    return replace(sample, label=video.label, task="classify")


def walk_sample(trajectory: Trajectory, history: int) -> Sample:
    """A forecast of x and y after `history` fixes."""
    values = trajectory.xy[:, None, :]
    side = _sequence_side(trajectory.name, ("x", "y"), trajectory.time, ())
    return _sample(
        f"{trajectory.name}/{trajectory.id}/0",
        "trajectory",
        values,
        history,
        trajectory.time,
        (trajectory.id,),
        side,
    )


def stay_sample(trajectory: Trajectory) -> Sample:
    """Where the object is next, of all places: the last stay is asked for."""
    options = tuple(sorted(set(trajectory.place)))
    code = np.array([options.index(place) for place in trajectory.place], dtype=np.float64)
    values = np.stack([code, trajectory.attributes["duration_min"]], axis=1)[:, None, :]
    side = _sequence_side(trajectory.name, ("place", "duration_min"), trajectory.time, options)
    sample = _sample(
        f"{trajectory.name}/{trajectory.id}/0",
        "trajectory",
        values,
        len(values) - 1,
        trajectory.time,
        (trajectory.id,),
        side,
    )
    wanted = sample.wanted.copy()
    wanted[:, :, 1] = False
    return replace(
        sample,
        wanted=wanted,
        truth=np.where(wanted, sample.truth, np.nan),
        label=trajectory.place[-1],
        task="next-place",
    )


def event_samples(data: Events, history: int = 12) -> list[Sample]:
    """Windows of `history` events and the next one, whose gap is asked for."""
    gap = np.concatenate([[np.nan], np.diff(data.time) / HOUR])
    whole = np.column_stack([gap, data.xy, data.mark, data.magnitude])[:, None, :]
    made = []
    for start in range(len(whole) - history):
        values = whole[start : start + history + 1].copy()
        values[0, 0, 0] = np.nan
        time = data.time[start : start + history + 1].copy()
        time[-1] = time[-2]
        side = _sequence_side(data.name, ("gap_h", "x", "y", "mark", "magnitude"), time, data.marks)
        sample = _sample(f"{data.name}/{start}", "event", values, history, time, (data.name,), side)
        wanted = sample.wanted.copy()
        wanted[:, :, 1:] = False
        made.append(
            replace(sample, wanted=wanted, truth=np.where(wanted, sample.truth, np.nan), task="next-event")
        )
    return made


def _sequence_side(name: str, channels: tuple[str, ...], time: np.ndarray, options: tuple[str, ...]) -> Side:
    return Side(
        dataset=name,
        unit="metres",
        timezone="UTC",
        freq_s=60,
        calendar=calendar_of(time, "UTC", freq_s=60),
        labels=(name,),
        neighbours=((),),
        channels=channels,
        options=options,
        option_labels=options,
    )


def _sample(
    name: str,
    kind: str,
    values: np.ndarray,
    history: int,
    time: np.ndarray,
    places: tuple[str, ...],
    side: Side,
) -> Sample:
    hidden = np.zeros(values.shape, dtype=bool)
    hidden[history:] = True
    visible = ~hidden & np.isfinite(values)
    return Sample(
        id=name,
        kind=kind,
        values=np.where(visible, values, np.nan),
        visible=visible,
        wanted=hidden,
        time=time,
        place=places,
        side=side,
        truth=np.where(hidden, values, np.nan),
    )


def _no_calendar(steps: int) -> Calendar:
    zero = np.zeros(steps, dtype=np.int64)
    return Calendar(zero, zero, ("",) * steps)
