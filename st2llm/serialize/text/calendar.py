"""Local time as text: weekdays, dates, public holidays, and where lines of numbers break."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
from jaxtyping import Int64

from st2llm.types import DAY_S, HOUR_S, MONTH_S

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_STEP_UNITS = ((7 * DAY_S, "week"), (DAY_S, "day"), (HOUR_S, "hour"), (60, "minute"), (1, "second"))
_DURATION_UNITS = ((DAY_S, "day"), (HOUR_S, "hour"), (60, "minute"), (1, "second"))
_MONTH_S = 28 * DAY_S
_YEAR_S = 12 * MONTH_S


def local_times(time: Int64[np.ndarray, " time"], timezone: str) -> list[datetime]:
    """Times in seconds UTC as local datetimes."""
    return list(_moments(np.asarray(time, dtype=np.int64).tobytes(), timezone))


@lru_cache(maxsize=64)
def _moments(time: bytes, timezone: str) -> tuple[datetime, ...]:
    """Local datetimes of int64 seconds; the parts of a prompt ask for the same ones."""
    zone = ZoneInfo(timezone)
    return tuple(datetime.fromtimestamp(t, zone) for t in np.frombuffer(time, dtype=np.int64).tolist())


def step_phrase(freq_s: int) -> str:
    """A time step as text that follows `every`: `hour`, `5 minutes`, `2 days`, `month`."""
    if freq_s % MONTH_S == 0 and freq_s:
        months = freq_s // MONTH_S
        return "month" if months == 1 else "year" if freq_s == _YEAR_S else f"{months} months"
    size, name = next(unit for unit in _STEP_UNITS if freq_s % unit[0] == 0)
    return name if freq_s == size else f"{freq_s // size} {name}s"


def date(moment: datetime) -> str:
    """`Tuesday 11 June 2024`."""
    return f"{_WEEKDAYS[moment.weekday()]} {moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


def stamp(moment: datetime, freq_s: int = 3600) -> str:
    """`Tuesday 11 June 2024 09:00`; of daily data without the time, of monthly data `June 2024`."""
    if freq_s >= _MONTH_S:
        return f"{_MONTHS[moment.month - 1]} {moment.year}"
    return date(moment) if freq_s >= DAY_S and freq_s % DAY_S == 0 else f"{date(moment)} {moment:%H:%M}"


def step_stamp(moment: datetime, freq_s: int = 3600) -> str:
    """`Tue 11 Jun 09:00`; of daily data `Tue 11 Jun`, of monthly data `Jun 2024`."""
    if freq_s >= _MONTH_S:
        return f"{_month(moment)} {moment.year}"
    return _day(moment) if freq_s >= DAY_S and freq_s % DAY_S == 0 else f"{_day(moment)} {moment:%H:%M}"


def short_stamp(moment: datetime, *, year: bool = False, seconds: bool = False) -> str:
    """`Tue 11 Jun 09:00`; with the year, and with seconds, where they matter."""
    clock = f"{moment:%H:%M:%S}" if seconds else f"{moment:%H:%M}"
    return f"{_day(moment)} {moment.year} {clock}" if year else f"{_day(moment)} {clock}"


def short_date(moment: datetime, *, year: bool = False) -> str:
    """`Tue 11 Jun`, for data without a time of day."""
    return f"{_day(moment)} {moment.year}" if year else _day(moment)


def weekday_time(moment: datetime) -> str:
    """`Tue 09:00`, where the date is irrelevant."""
    return f"{_WEEKDAYS[moment.weekday()][:3]} {moment:%H:%M}"


def weekday(moment: datetime) -> str:
    """`Tuesday`."""
    return _WEEKDAYS[moment.weekday()]


def duration(seconds: float) -> str:
    """A duration to about three digits, in the largest unit that fits at least twice: `2.4 hours`, `90 minutes`."""
    size, name = next(((s, n) for s, n in _DURATION_UNITS if abs(seconds) >= 2 * s), _DURATION_UNITS[-1])
    count = seconds / size
    number = (
        f"{count:.1f}"
        if abs(count) < 100 and size > 1
        else f"{count:.0f}"
        if abs(count) >= 100
        else f"{count:.3g}"
    )
    number = number.removesuffix(".0")
    return f"{number} {name}{'' if number == '1' else 's'}"


def split_by_day(moments: Sequence[datetime], freq_s: int) -> list[slice]:
    """One slice for each line: a local day; for daily data a month, for monthly data a year."""
    keys = [_line(moment, freq_s) for moment in moments]
    starts = [i for i in range(len(keys)) if i == 0 or keys[i] != keys[i - 1]]
    return [slice(start, stop) for start, stop in pairwise([*starts, len(keys)])]


def line_label(moment: datetime, freq_s: int, holiday: str = "") -> str:
    """The label of a line that starts at this time: `Tue 11 Jun`, `Tue 11 Jun from 09:00 (Matariki)`."""
    if freq_s >= _MONTH_S:
        return str(moment.year) if moment.month == 1 else f"{moment.year} from {_month(moment)}"
    if freq_s >= DAY_S:
        month = f"{_month(moment)} {moment.year}"
        return month if moment.day == 1 else f"{month} from {_day(moment)}"
    begun = "" if (moment.hour, moment.minute, moment.second) == (0, 0, 0) else f" from {moment:%H:%M}"
    return _day(moment) + begun + (f" ({holiday})" if holiday else "")


def span_label(moments: Sequence[datetime], freq_s: int, holiday: str = "") -> str:
    """The label of a line over all these times, which may span several days."""
    first, last = moments[0], moments[-1]
    label = line_label(first, freq_s, holiday)
    if _line(first, freq_s) == _line(last, freq_s):
        return label
    if freq_s >= _MONTH_S:
        return f"{label} to {_month(last)} {last.year}"
    return f"{label} to {_day(last)} {last:%H:%M}" if freq_s < DAY_S else f"{label} to {date(last)}"


def days(moments: Sequence[datetime], holidays: Sequence[str], freq_s: int = 3600) -> str:
    """The days as text, each with its public holiday; over a week only the first and last; for monthly data the months.

    holidays: the name at each time, or ''.
    """
    if freq_s >= _MONTH_S:
        months = list(dict.fromkeys(stamp(moment, freq_s) for moment in moments))
        return " and ".join(months) if len(months) <= 3 else f"{months[0]} to {months[-1]}"
    named: dict[str, str] = {}
    for moment, holiday in zip(moments, holidays, strict=True):
        named[date(moment)] = named.get(date(moment), "") or holiday
    texts = [day + (f" (public holiday: {holiday})" if holiday else "") for day, holiday in named.items()]
    return " and ".join(texts) if len(texts) <= 7 else f"{texts[0]} to {texts[-1]}"


def day_types(moments: Sequence[datetime], holidays: Sequence[str]) -> str:
    """The days by weekday, month and public holiday, without the date: `a Tuesday in June`.

    There are few different texts, so that a frozen model encodes each of them once. holidays: the name at each time,
    or ''.
    """
    named: dict[str, str] = {}
    for moment, holiday in zip(moments, holidays, strict=True):
        day_type = f"a {_WEEKDAYS[moment.weekday()]} in {_MONTHS[moment.month - 1]}"
        named[day_type] = named.get(day_type, "") or holiday
    texts = [
        day_type + (f" (public holiday: {holiday})" if holiday else "") for day_type, holiday in named.items()
    ]
    return " and ".join(texts) if len(texts) <= 7 else f"{texts[0]} to {texts[-1]}"


def _line(moment: datetime, freq_s: int) -> tuple[int, ...]:
    size = 1 if freq_s >= _MONTH_S else 2 if freq_s >= DAY_S else 3
    return (moment.year, moment.month, moment.day)[:size]


def _day(moment: datetime) -> str:
    return f"{_WEEKDAYS[moment.weekday()][:3]} {moment.day} {_month(moment)}"


def _month(moment: datetime) -> str:
    return _MONTHS[moment.month - 1][:3]
