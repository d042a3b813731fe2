"""The card of events: what happened, when and where."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from st2llm.data.card.sequence import BoundingBox, SequenceCard


class EventCard(SequenceCard):
    """Events in time and space.

    mark: the column of each event's sort. magnitude: a column of numbers. window: the first and last stamp observed
    (else those of the first and last event). region: the area observed: west, south, east, north in degrees where
    there are `lon` and `lat`, else as `x` and `y` are counted in the file (else the box around all events).
    """

    kind: Literal["event"]
    mark: str | None = None
    magnitude: str | None = None
    window: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    region: BoundingBox | None = None

    @field_validator("window", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [one.isoformat() if hasattr(one, "isoformat") else one for one in value]
        return value

    @model_validator(mode="after")
    def _box(self) -> "EventCard":
        for name, box in (("region", self.region), ("bounds", self.bounds)):
            if box is not None and not (box[0] < box[2] and box[1] < box[3]):
                raise ValueError(f"`{name}` is west, south, east, north, with west < east and south < north")
        if self.region is not None and self.lon is None and self.x is None:
            raise ValueError("`region` needs `lon` and `lat`, or `x` and `y`")
        return self
