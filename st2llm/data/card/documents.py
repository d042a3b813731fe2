"""Documents of a card: tables of texts with a period, a place and a time of publication."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from st2llm.data.card.base import step_seconds
from st2llm.data.card.delimited import DelimitedText

_HINDSIGHT = re.compile(r"(?i)preds?|predictions?|forecasts?")
"""Columns of predictions, such as those of Time-MMD, which a language model wrote afterwards."""


def as_list(value: object) -> object:
    """A list of one, where a card gives a single item."""
    return value if isinstance(value, list) else [value]


class DocumentTable(DelimitedText):
    """Tables of texts. A sample shows those that were published at or before its last known time.

    table: csv, parquet or jsonl (a JSON object a line); a list names several of the same columns. start, end:
    columns of the period that a text is about. published: the column of its publication; without it, a text counts
    as published at the end of its period. A date without a time of day is a whole day: a period begins at its start
    and ends at its end, and a text is published at its end. lag: how long after that it can be read, such as `14d`.
    Cells of clips are seconds since the first frame. place: the column of the place, object or clip that a text is
    about, by id or name; empty for all. source: how prompts and settings name these texts, by default after the
    table. window: texts published longer before the last known time are not shown. limit: the number of texts about
    each place, and about no particular place, that a sample shows, the newest first. characters: longer texts are
    cut. missing: texts that stand for none, where `*` is any text. A column of predictions (`preds`) is refused
    unless `source` says leak. format: strptime format of the times, by default ISO. stamps: the time zone of times
    without an offset, by default that of the card's.
    """

    table: Annotated[list[str], BeforeValidator(as_list), Field(min_length=1)]
    text: str = Field(description="the column of texts")
    start: str | None = None
    end: str | None = None
    published: str | None = None
    place: str | None = None
    source: str | None = Field(None, min_length=1)
    lag: str | None = None
    window: str | None = None
    limit: int = Field(8, ge=1)
    characters: int = Field(2000, ge=1)
    missing: list[str] = Field(default_factory=lambda: ["NA", "NaN", "nan", "null", "None"])
    format: str | None = None
    written_in: str | None = Field(None, alias="stamps")

    @field_validator("lag", "window")
    @classmethod
    def _duration(cls, value: str | None) -> str | None:
        span = (
            f"{value[:-1]}D" if value is not None and value.endswith("d") else value
        )  # as pandas writes days
        if span is not None and step_seconds(span) < 1:
            raise ValueError("a duration of whole seconds is expected, such as 12h or 14d")
        return span

    @model_validator(mode="after")
    def _dated(self) -> "DocumentTable":
        if self.published is None and self.end is None:
            raise ValueError(
                "it is not known when these texts could be read: name the column of `published`, or of `end`, the end "
                "of the period that a text is about, after which it counts as published (plus `lag`)"
            )
        return self

    @model_validator(mode="after")
    def _no_hindsight(self) -> "DocumentTable":
        if _HINDSIGHT.fullmatch(self.text) and "leak" not in (self.source or ""):
            raise ValueError(
                f"the column {self.text!r} holds predictions, whose author may have known what came after. Take the "
                "column of facts; for an arm that measures this leak, name the texts so: `source: leak`"
            )
        return self

    @property
    def lag_s(self) -> int:
        """Seconds from the publication until a text can be read."""
        return 0 if self.lag is None else step_seconds(self.lag)

    @property
    def window_s(self) -> int | None:
        """The greatest age of a text at the last known time, seconds; None for any."""
        return None if self.window is None else step_seconds(self.window)

    def columns(self) -> list[str]:
        """The columns that are read."""
        named = (self.text, self.start, self.end, self.published, self.place)
        return [name for name in named if name is not None]
