"""Small samples of each kind by hand: a path, a chain of stays, a chain of events, the regions of a clip."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from st2llm.data.calendar import calendar_of
from st2llm.types import Calendar, Layout, Sample, Side

MONDAY = 1_704_067_200  # 2024-01-01 00:00 UTC
DAY_S = 86_400


def sample(
    values: np.ndarray,
    wanted: np.ndarray,
    *,
    kind: str,
    task: str,
    time: np.ndarray,
    channels: tuple[str, ...] = (),
    name: str = "a",
    label: str | None = None,
    freq_s: int = 60,
    **side: object,
) -> Sample:
    """A sample that shows all that is not wanted. values: [time, node, channel], the truth included."""
    visible = np.isfinite(values) & ~wanted
    nodes = values.shape[1]
    clock = calendar_of(time, "UTC", freq_s=freq_s) if freq_s else _no_calendar(len(time))
    return Sample(
        id=f"made-up/{name}",
        kind=kind,
        values=np.where(visible, values, np.nan),
        visible=visible,
        wanted=wanted,
        time=time,
        place=tuple(f"place-{i}" for i in range(nodes)) if nodes > 1 else (name.split("/")[0],),
        side=Side(
            dataset="made-up",
            unit="",
            timezone="UTC",
            freq_s=freq_s,
            calendar=clock,
            labels=tuple(f"Place {i}" for i in range(nodes)),
            neighbours=side.pop("neighbours", tuple(() for _ in range(nodes))),
            channels=channels,
            **side,
        ),
        truth=np.where(wanted, values, np.nan),
        label=label,
        task=task,
    )


def path(
    xy: Sequence[tuple[float, float]],
    asked: slice,
    *,
    task: str = "forecast",
    name: str = "a",
    step_s: int = 60,
) -> Sample:
    """Fixes of one object, those in `asked` hidden."""
    values = np.array(xy, dtype=np.float64)[:, None, :]
    wanted = np.zeros(values.shape, dtype=bool)
    wanted[asked] = True
    time = MONDAY + step_s * np.arange(len(values), dtype=np.int64)
    return sample(values, wanted, kind="trajectory", task=task, time=time, channels=("x", "y"), name=name)


def stays(
    visits: Sequence[tuple[str, float]],
    *,
    places: Sequence[str] = "abcdef",
    name: str = "user/0",
    **more: object,
) -> Sample:
    """Stays as (place, days since a Monday's midnight), the last of which is asked for."""
    codes = np.array([float(list(places).index(place)) for place, _ in visits])
    values = codes[:, None, None]
    wanted = np.zeros(values.shape, dtype=bool)
    wanted[-1] = True
    time = np.array([MONDAY + round(day * DAY_S) for _, day in visits], dtype=np.int64)
    return sample(
        values, wanted, kind="trajectory", task="next-place", time=time, channels=("place",),
        label=visits[-1][0], options=tuple(places), name=name, **more,
    )  # fmt: skip


def events(
    gaps_h: Sequence[float],
    *,
    marks: Sequence[int] | None = None,
    asked: tuple[str, ...] = ("gap_h",),
    start: int = MONDAY,
    name: str = "0",
) -> Sample:
    """Events by the hours between them (the first has no gap), the last of which is asked for; its time is hidden."""
    channels = ("gap_h", "mark") if marks is not None else ("gap_h",)
    columns = [np.array([np.nan, *gaps_h])]
    if marks is not None:
        columns.append(np.array(marks, dtype=np.float64))
    values = np.stack(columns, axis=1)[:, None, :]
    wanted = np.zeros(values.shape, dtype=bool)
    for one in asked:
        wanted[-1, 0, channels.index(one)] = True
    time = start + np.concatenate([[0], np.cumsum(np.round(np.array(gaps_h) * 3600))]).astype(np.int64)
    time[-1] = time[-2]
    made = sample(
        values, wanted, kind="event", task="next-event", time=time, channels=channels, name=name,
        options=("small", "large", "huge") if marks is not None else (),
    )  # fmt: skip
    shown = made.values.copy()
    shown[-1] = np.nan
    return replace(made, values=shown, visible=np.isfinite(shown))


def clip(values: np.ndarray, label: str, *, name: str, options: tuple[str, ...] = ("wave", "walk")) -> Sample:
    """A clip of which nothing but the class is asked. values: [time, region, channel]."""
    time = 40 * np.arange(len(values), dtype=np.int64)
    return sample(
        values, np.zeros(values.shape, dtype=bool), kind="video", task="classify", time=time, name=name,
        label=label, freq_s=0, options=options, channels=("brightness",),
    )  # fmt: skip


def grid(values: np.ndarray, wanted: np.ndarray, *, task: str = "krige", name: str = "g") -> Sample:
    """A raster whose rows and columns are one metre apart. values: [time, row, col]."""
    steps, rows, cols = values.shape
    layout = Layout(np.arange(rows, dtype=np.float64), np.arange(cols, dtype=np.float64), "metres")
    time = MONDAY + 3600 * np.arange(steps, dtype=np.int64)
    flat = values.reshape(steps, rows * cols, 1).astype(np.float64)
    return sample(
        flat,
        wanted.reshape(flat.shape),
        kind="grid",
        task=task,
        time=time,
        freq_s=3600,
        layout=layout,
        name=name,
    )


def _no_calendar(steps: int) -> Calendar:
    zeros = np.zeros(steps, dtype=np.int64)
    return Calendar(zeros, zeros, ("",) * steps)
