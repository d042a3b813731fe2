"""Small sensor graphs and forecast samples, made by hand."""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from st2llm.types import Calendar, Sample, Side

AUCKLAND = "Pacific/Auckland"
# Monday, the King's Birthday of 2024.
MONDAY = "2024-06-03T00:00"
HOLIDAYS = {"2024-06-03": "King's Birthday", "2024-06-28": "Matariki"}


def counts(length: int, places: int) -> np.ndarray:
    """Whole numbers that differ by place and hour, largest 450."""
    hour = np.arange(length)[:, None]
    place = np.arange(places)[None, :]
    return np.rint(30 + 10 * place + 200 * (1 + np.sin(hour * 2 * np.pi / 24 + place))).clip(0, 450)


def forecast_sample(
    values: np.ndarray | None = None,
    *,
    horizon: int = 24,
    start: str = MONDAY,
    freq_s: int = 3600,
    timezone: str = AUCKLAND,
    side: dict | None = None,
) -> Sample:
    """A forecast of the last `horizon` of the values [time, place]; place 0 has the neighbours 1 and 2."""
    series = counts(192, 3) if values is None else np.asarray(values, dtype=np.float64)
    series = series.reshape(len(series), -1, 1)
    zone = ZoneInfo(timezone)
    first = int(datetime.fromisoformat(start).replace(tzinfo=zone).timestamp())
    time = first + freq_s * np.arange(len(series), dtype=np.int64)
    hidden = np.zeros(series.shape, dtype=bool)
    hidden[len(series) - horizon :] = True
    visible = ~hidden & np.isfinite(series)
    nodes = series.shape[1]
    named = Side(
        dataset="queen-street",
        unit="pedestrians",
        timezone=timezone,
        freq_s=freq_s,
        calendar=_calendar(time, zone, freq_s),
        labels=tuple(f"{7 + node} Queen Street" for node in range(nodes)),
        neighbours=tuple(
            tuple((other, 1.0 / (1 + other)) for other in range(nodes) if other != node)
            for node in range(nodes)
        ),
        description="Counters on a street in Auckland.",
        quantity="pedestrians an hour",
    )
    return Sample(
        id="queen-street/0",
        kind="graph",
        values=np.where(visible, series, np.nan),
        visible=visible,
        wanted=hidden,
        time=time,
        place=tuple(f"{7 + node}-queen-street" for node in range(nodes)),
        side=replace(named, **(side or {})),
        truth=np.where(hidden, series, np.nan),
    )


def _calendar(time: np.ndarray, zone: ZoneInfo, freq_s: int) -> Calendar:
    moments = [datetime.fromtimestamp(int(t), zone) for t in time]
    return Calendar(
        step_of_day=np.array([(m.hour * 3600 + m.minute * 60) // freq_s for m in moments], dtype=np.int64),
        day_of_week=np.array([m.weekday() for m in moments], dtype=np.int64),
        holiday=tuple(HOLIDAYS.get(f"{m:%Y-%m-%d}", "") for m in moments),
    )
