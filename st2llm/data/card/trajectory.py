"""The card of trajectories."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from st2llm.data.card.base import step_seconds
from st2llm.data.card.sequence import HarmoniseStep, SequenceCard


class TrajectoryCard(SequenceCard):
    """Fixes or stays of moving objects.

    object: the column of object ids; without it, all rows are of one object. For .plt files, `user` concatenates the
    files of a folder and `file` keeps them apart. place: the column of place ids. label: the column of classes (or
    give it for each table). frame: `scaled` where x and y are neither degrees nor metres. origin: x and y count from
    the centre of all fixes, or from each object's first fix (for data that span the globe). freq: the step between the
    fixes of a window (`0.4s`, `6h`), or `any`; by default the most frequent step. duplicates: how rows with the same
    object and time are treated; `spread` moves them a second apart. For texts of places see `side.places`.
    """

    kind: Literal["trajectory"]
    object: str | None = None
    place: str | None = None
    label: str | None = None
    frame: Literal["metres", "scaled"] = "metres"
    origin: Literal["all", "object"] = "all"
    freq: str | None = None
    duplicates: Literal["error", "first", "spread"] = "error"
    harmonise: list[HarmoniseStep] = Field(default_factory=list)

    @field_validator("freq")
    @classmethod
    def _step(cls, value: str | None) -> str | None:
        if value is not None and value != "any" and step_milliseconds(value) < 1:
            raise ValueError("a step such as 0.4s, 5min or 6h is expected, or `any`")
        return value

    @model_validator(mode="after")
    def _positions(self) -> "TrajectoryCard":
        if self.lon is None and self.x is None and self.place is None:
            raise ValueError("give `lon` and `lat`, `x` and `y`, or `place`")
        if self.frame == "scaled" and (self.x is None or self.crs is not None):
            raise ValueError("`frame: scaled` goes with `x` and `y`, without `crs`")
        if self.frame == "scaled" and self.harmonise:
            raise ValueError("`harmonise` needs metres, and `frame: scaled` has none")
        return self


def step_milliseconds(freq: str) -> int:
    """The milliseconds of a step; 0 where they are not whole."""
    if freq.endswith("s") and freq[:-1].replace(".", "", 1).isdigit():
        span = float(freq[:-1]) * 1000
        return round(span) if abs(span - round(span)) < 1e-6 else 0
    return step_seconds(freq) * 1000
