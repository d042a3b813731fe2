"""What all data cards share: where data is, what it means, how it is split."""

from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BeforeValidator, Field, model_validator

from st2llm.config import Settings
from st2llm.data.artefacts import Source
from st2llm.types import MONTH_S, SplitPlan


class Clock(Settings):
    """How columns become stamps; stamps without an offset are local to the card's time zone.

    column: one column of stamps. Or `date` (a day) with `hour` (0 to 23, words after it such as
    ':00-6:59' are left out). day_starts: the hour at which a date's rows begin, so that earlier hours
    belong to the day after it. follow: `date` takes each row's labels as they are; `hour` takes the rows
    as a chronicle whose hours run on, and mends the few dates that contradict them.
    """

    column: str | None = None
    date: str | None = None
    hour: str | None = None
    day_starts: int = Field(0, ge=0, le=23)
    follow: Literal["date", "hour"] = "date"

    @model_validator(mode="after")
    def _one_way(self) -> "Clock":
        if (self.column is None) == (self.date is None) or (self.date is None) != (self.hour is None):
            raise ValueError("give either `column`, or `date` and `hour`")
        return self


class Shares(Settings):
    """Shares of the time axis. `align: day` moves each boundary back to local midnight."""

    train: float
    validation: float = 0.0
    test: float = 0.0
    align: Literal["step", "day"] = "step"

    def plan(self) -> SplitPlan:
        return SplitPlan(self.train, self.validation, self.test, self.align)


class HolidayRule(Settings):
    """A calendar of public holidays: ISO country, and its subdivision where they differ."""

    country: str
    subdivision: str | None = None


def _column(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


ClockOrColumn = Annotated[Clock | None, BeforeValidator(_column)]
"""A column of stamps by its name, or a Clock in full."""


class Card(Settings):
    """The keys of every kind of data. `kind` says which further keys there are."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    kind: str
    source: Source | None = None
    timezone: str = "UTC"
    quantity: str = "values"
    unit: str = ""
    holidays: HolidayRule | None = None
    split: Shares | None = None
    splits: dict[str, Shares] | None = None
    default_task: dict[str, dict[str, Any]] = Field(default_factory=dict)
    licence: str = ""
    citation: str = ""
    leakage: str = ""
    description: str = ""

    @model_validator(mode="after")
    def _one_split(self) -> "Card":
        if self.split is not None and self.splits is not None:
            raise ValueError("give `split` or `splits`, not both")
        if self.splits is not None and not self.splits:
            raise ValueError("`splits` names no split")
        return self

    def plan(self) -> SplitPlan:
        """The split of the card: `split`, else the first of `splits`, else 70 / 10 / 20 % of the time."""
        if self.splits:
            return next(iter(self.splits.values())).plan()
        return (self.split or Shares(train=0.7, validation=0.1, test=0.2)).plan()

    def files(self) -> list[str]:
        """The names of the files that the card speaks of."""
        raise NotImplementedError


def seconds_of(freq: str) -> int:
    """The seconds of a step such as `5min`, `h` or `1D`, MONTH_S for `1MS` or `month`; 0 where they are not whole."""
    if freq in ("MS", "1MS", "month"):
        return MONTH_S
    try:
        step = pd.Timedelta(freq if freq[:1].isdigit() else f"1{freq}")
    except ValueError:
        return 0
    seconds = step.total_seconds()
    return int(seconds) if seconds == int(seconds) else 0


def file_and_key(values: str) -> tuple[str, str | None]:
    """`speed.npz:data` -> (`speed.npz`, `data`); the key is None where none is given."""
    name, colon, key = values.partition(":")
    return name, key if colon else None
