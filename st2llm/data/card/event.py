"""The card of events."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from st2llm.data.card.sequence import BoundingBox, SequenceCard


class EventCard(SequenceCard):
    """Events in time and space.

    object: the column of the user, device or other object that each event is of, where each of these is a sequence of
    its own: gaps, histories and next events are then those of one object. Without it all events are one sequence.
    mark: the column of each event's type. magnitude: a column of numbers. window: the first and the last time that was
    observed; by default those of the first and the last event. region: west, south, east and north of the area that was
    observed, in degrees where there are `lon` and `lat`, else in the units of `x` and `y`; by default the bounding box
    of all events.
    """

    kind: Literal["event"]
    object: str | None = None
    mark: str | None = None
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
