"""The card of events."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from st2llm.config import Settings
from st2llm.data.card.sequence import BoundingBox, SequenceCard


def _named_columns(value: Any) -> Any:
    """Columns by name, where a card gives one or a list."""
    if isinstance(value, list):
        return {name: name for name in value}
    return {value: value} if isinstance(value, str) else value


class EventText(Settings):
    """A text of each event, which samples show as documents.

    columns: a column, a list, or names to columns; several are joined as `name: cell; name: cell`. source: what prompts
    call these texts. known: whether the text of the event to predict is known. past: the number of events before it
    whose texts a sample shows. mask: words that state what is to be predicted; each is replaced by `...`. A list, or a
    file with one a line (`#` begins a comment). `*` stands for the rest of a word, and upper and lower case are alike.
    """

    columns: Annotated[dict[str, str], BeforeValidator(_named_columns), Field(min_length=1)]
    source: str = "remarks"
    known: bool = False
    past: int = Field(4, ge=0)
    mask: list[str] | str | None = None


class EventCard(SequenceCard):
    """Events in time and space.

    object: the column of the user, device or other object that each event is of, where each of these is a sequence of
    its own: gaps, histories and next events are then those of one object. Without it all events are one sequence.
    mark: the column of each event's type. marks: types that are grouped, by the name of the group; rows of no group are
    left out. text: see EventText. magnitude: a column of numbers. window: the first and the last time that was
    observed; by default those of the first and the last event. region: west, south, east and north of the area that was
    observed, in degrees where there are `lon` and `lat`, else in the units of `x` and `y`; by default the bounding box
    of all events.
    """

    kind: Literal["event"]
    object: str | None = None
    mark: str | None = None
    marks: dict[str, list[str]] | None = None
    text: EventText | None = None
    magnitude: str | None = None
    window: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    region: BoundingBox | None = None

    @field_validator("window", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [item.isoformat() if hasattr(item, "isoformat") else item for item in value]
        return value

    @property
    def split_ways(self) -> tuple[str, ...]:
        return ("time",) if self.object is None else ("time", "object")

    @model_validator(mode="after")
    def _groups(self) -> "EventCard":
        cells = [cell for group in (self.marks or {}).values() for cell in group]
        if self.marks is not None and self.mark is None:
            raise ValueError("`marks` groups the types of a column: name it under `mark`")
        if repeated := sorted(cell for cell in set(cells) if cells.count(cell) > 1):
            raise ValueError(f"`marks` holds {repeated[0]!r} in two groups")
        return self

    def files(self) -> list[str]:
        """The names of the files that the card refers to."""
        mask = [self.text.mask] if self.text and isinstance(self.text.mask, str) else []
        return list(dict.fromkeys([*super().files(), *mask]))

    @model_validator(mode="after")
    def _box(self) -> "EventCard":
        for name, box in (("region", self.region), ("bounds", self.bounds)):
            across = self.lon is not None and box is not None and box[0] > box[2]
            if box is not None and not ((box[0] < box[2] or across) and box[1] < box[3]):
                raise ValueError(
                    f"`{name}` is west, south, east, north, with south < north and west < east (in degrees, west > "
                    f"east is a box across the date line)"
                )
            far = max(map(abs, box)) if box is not None and self.lon is not None else 0.0
            if far > 360:
                raise ValueError(
                    f"`{name}` holds {far:g}, but with `lon` and `lat` it is in degrees. Are these metres? Give it in "
                    "degrees, or give `x` and `y` (and `crs`) in place of `lon` and `lat`"
                )
        if self.region is not None and self.lon is None and self.x is None:
            raise ValueError("`region` needs `lon` and `lat`, or `x` and `y`")
        return self
