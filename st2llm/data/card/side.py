"""Side information for any kind of data: tables joined by time or by place, notes for a period, and documents."""

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from st2llm.config import Settings
from st2llm.data.card.delimited import DelimitedText
from st2llm.data.card.documents import DocumentTable, as_list
from st2llm.data.card.time import TimeColumns


class WeatherTable(DelimitedText):
    """A table of numbers by time: each reading holds from its timestamp on, for at most `max_age`.

    file: csv or parquet. time: the column of timestamps, the columns of year, month, day, hour and so on, or
    TimeColumns in full. stamps: the time zone of timestamps without an offset, by default that of the card's. columns:
    from names to columns. known: whether the numbers are known in advance, as forecasts are; otherwise they are hidden
    wherever the values are. missing: texts that stand for a missing reading, besides the empty cell.
    """

    file: str
    time: str | list[str] | TimeColumns
    columns: dict[str, str] = Field(min_length=1)
    max_age: str = Field("3h", description="the longest time that a reading stands for later steps")
    missing: list[str] = Field(default_factory=list)
    known: bool = False
    written_in: str | None = Field(None, alias="stamps")

    @model_validator(mode="after")
    def _readable_time(self) -> "WeatherTable":
        self.time_columns()
        return self

    def time_columns(self) -> TimeColumns:
        """How the table's rows get their time; of a local time that occurs twice the first is meant by default."""
        if isinstance(self.time, TimeColumns):
            given = "fold" in self.time.model_fields_set
            return self.time if given else self.time.model_copy(update={"fold": "first"})
        if isinstance(self.time, str):
            return TimeColumns(column=self.time, fold="first")
        return TimeColumns(parts=self.time, fold="first")


class PlaceTable(DelimitedText):
    """A table of places with texts: each fix or node takes the text of the nearest place within `within_m`.

    lon, lat: degrees; or x, y: metres in the coordinate system of the data.
    """

    file: str = Field(description="the table")
    text: str = Field(description="the column of texts")
    lon: str | None = None
    lat: str | None = None
    x: str | None = Field(None, description="the column of metres east")
    y: str | None = Field(None, description="the column of metres north")
    within_m: float = Field(200.0, gt=0, description="the greatest distance, metres")

    @model_validator(mode="after")
    def _a_pair(self) -> "PlaceTable":
        if (self.lon is None) != (self.lat is None) or (self.x is None) != (self.y is None):
            raise ValueError("give `lon` with `lat`, `x` with `y`")
        if (self.lon is None) == (self.x is None):
            raise ValueError("give either `lon` and `lat`, or `x` and `y`")
        return self


class NoteTable(DelimitedText):
    """A table of notes, each known in advance for the time from `start` until `end`.

    start, end: columns of timestamps, in ISO format unless `format` (strptime) says otherwise. stamps: the time zone of
    those without an offset, by default that of the card's.
    """

    file: str = Field(description="the table")
    start: str
    end: str
    text: str = Field(description="the column of texts")
    format: str | None = Field(None, description="strptime format of start and end")
    written_in: str | None = Field(None, alias="stamps")


class SideRule(Settings):
    """The key `side` of a card."""

    weather: WeatherTable | None = None
    places: PlaceTable | None = None
    notes: NoteTable | None = None
    documents: Annotated[list[DocumentTable], BeforeValidator(as_list)] = Field(
        default_factory=list, description="texts with a time of publication: one table or several"
    )

    @model_validator(mode="after")
    def _some(self) -> "SideRule":
        if not self.model_fields_set:
            raise ValueError("give `weather`, `places`, `notes` or `documents`")
        return self

    def files(self) -> list[str]:
        """The names of the files that are joined."""
        joined = [rule.file for rule in (self.weather, self.places, self.notes) if rule is not None]
        return joined + [name for rule in self.documents for name in rule.table]

    def names(self) -> list[str]:
        """The names of the readings that are joined by time."""
        return list(self.weather.columns) if self.weather else []
