"""Side information by time: calendar, notes, covariates and the context of a stay."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.types.checked import checked


@checked
@dataclass(frozen=True)
class Calendar:
    """The local calendar of each time step, in the data set's time zone. day_of_week: 0 is Monday."""

    step_of_day: Int64[np.ndarray, " time"]
    day_of_week: Int64[np.ndarray, " time"]
    holiday: tuple[str, ...]
    """The name of the public holiday at each step, or ''."""


@checked
@dataclass(frozen=True)
class Note:
    """A sentence about the time from `start` until `end` (seconds since 1970 UTC), which is known in advance."""

    start: int
    end: int
    text: str


@checked
@dataclass(frozen=True)
class Covariate:
    """A series that is the same for all places, such as weather or a price; NaN where a value is missing.

    known_in_advance: whether values of wanted steps are visible, as those of a weather forecast are.
    """

    name: str
    values: Float64[np.ndarray, " time"]
    known_in_advance: bool = False


@dataclass(frozen=True)
class StayContext:
    """Which stays are the context of the next place: the last `stays` of them, of the last `days` local days.

    The defaults are those of LLM-Mob (Wang et al. 2023).
    """

    days: int = 7
    stays: int = 5
