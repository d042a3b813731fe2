"""What is known beside the values: calendar, notes and readings."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.types.checked import checked


@checked
@dataclass(frozen=True)
class Calendar:
    """Local calendar of each time step, in the data set's own time zone."""

    step_of_day: Int64[np.ndarray, " time"]
    day_of_week: Int64[np.ndarray, " time"]
    holiday: tuple[str, ...]
    """The name of the public holiday at each step, or ''."""


@checked
@dataclass(frozen=True)
class Note:
    """A sentence that is known in advance for the time from `start` (int seconds UTC) until `end`."""

    start: int
    end: int
    text: str


@checked
@dataclass(frozen=True)
class Reading:
    """A number beside the data at each step, the same for all places: weather, a price. NaN where there is none.

    known: whether it is known in advance, as a forecast of the weather is.
    """

    name: str
    values: Float64[np.ndarray, " time"]
    known: bool = False
