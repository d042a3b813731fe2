"""The key `time` of a card: which columns hold the time of a row, and how they are written."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from st2llm.config import Settings

Fold = Literal["drop", "first", "second", "infer"]
"""What becomes of a local time that occurs twice because clocks go back. See `TimeColumns`."""


class TimeColumns(Settings):
    """How rows get their time. Exactly one of:

    - column: timestamps, in ISO format unless `format` (strptime) says otherwise; with `unit`, numbers since 1970 UTC;
    - date, clock: the date (in `format`) and the time of day in two columns. `clock` holds 13:05:00, 13:05, or an hour
      from 0 to 23, which other text may follow (`6:00-6:59` is 6 o'clock);
    - parts: the columns of year, month, day and optionally hour, minute, second, as numbers;
    - day, minute: days and minutes since an unknown start; `weekday` (0 is Monday) then gives the day of the week;
    - frame: frame numbers, `fps` frames a second.

    Timestamps without an offset are local to the card's `timezone`.

    day_starts: the hour at which the rows of a date begin; earlier hours belong to the day after it.
    follow: `date` reads each row by itself; `hour` assumes that the rows are in order and that their hours run on, and
    corrects the few dates that contradict the hours.
    fold: how a local time that occurs twice is read. `drop` leaves its rows out, `first` and `second` choose one of the
    two instants, `infer` takes rows that hold the time twice in their order and leaves out those that hold it once.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"hour": "clock"}

    column: str | None = Field(None, description="the column of timestamps")
    format: str | None = Field(None, description="strptime format of timestamps or dates")
    unit: Literal["s", "ms"] | None = Field(None, description="of timestamps that are numbers since 1970")
    date: str | None = Field(None, description="the column of dates")
    clock: str | None = Field(None, description="the column of hours or times of day")
    day_starts: int = Field(0, ge=0, le=23)
    follow: Literal["date", "hour"] = "date"
    parts: list[str] | None = Field(None, description="the columns of year, month, day, hour, minute, second")
    day: str | None = Field(None, description="the column of days since an unknown start")
    minute: str | None = Field(None, description="the column of minutes of the day")
    weekday: str | None = Field(None, description="the column of days of the week, 0 is Monday")
    frame: str | None = Field(None, description="the column of frame numbers")
    fps: float | None = Field(None, gt=0, description="frames a second")
    fold: Fold = "drop"

    @model_validator(mode="after")
    def _one_way(self) -> "TimeColumns":
        given = (self.column, self.date, self.parts, self.day, self.frame)
        if sum(way is not None for way in given) != 1:
            raise ValueError("give exactly one of `column`, `date`, `parts`, `day` and `frame`")
        if (self.date is None) != (self.clock is None):
            raise ValueError("give `date` with `clock`")
        if self.date is None and (self.day_starts or self.follow != "date"):
            raise ValueError("`day_starts` and `follow` go with `date` and `clock`")
        if self.parts is not None and not 3 <= len(self.parts) <= 6:
            raise ValueError(
                "`parts` names the columns of year, month, day, and optionally hour, minute and second"
            )
        if (self.frame is None) != (self.fps is None):
            raise ValueError("give `frame` with `fps`")
        if self.day is None and (self.minute or self.weekday):
            raise ValueError("`minute` and `weekday` go with `day`")
        if (self.column is None and self.unit) or (self.column is None and self.date is None and self.format):
            raise ValueError("`unit` goes with `column`, `format` with `column` or `date`")
        return self

    def columns(self) -> list[str]:
        """The names of the columns that hold the time."""
        single = (self.column, self.date, self.clock, self.day, self.minute, self.weekday, self.frame)
        return [name for name in (*single, *(self.parts or ())) if name]


class ReadingTime(TimeColumns):
    """The time of readings at a regular step: whole seconds, and repeated local times are resolved by their order."""

    fold: Fold = "infer"

    @model_validator(mode="after")
    def _whole_seconds(self) -> "ReadingTime":
        if self.frame is not None:
            raise ValueError("`frame` goes with trajectories; readings need `column`, `date` or `parts`")
        return self


def _as_column(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


TimeOrColumn = Annotated[TimeColumns, BeforeValidator(_as_column)]
"""The name of a column of timestamps, or TimeColumns in full."""
ReadingTimeOrColumn = Annotated[ReadingTime | None, BeforeValidator(_as_column)]
"""The same for readings, which may also have no time column."""
