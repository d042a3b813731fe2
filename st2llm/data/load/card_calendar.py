"""The calendar that a data card asks for: its time zone and its public holidays."""

import numpy as np
from jaxtyping import Int64

from st2llm.data import calendar
from st2llm.data.card import Card
from st2llm.types import Calendar


def field_calendar(card: Card, time: Int64[np.ndarray, " time"], freq_s: int) -> Calendar:
    """The local calendar of each step of a graph or grid. Raises ConfigError for unknown `holidays`."""
    rule = card.holidays
    return calendar.calendar_of(
        time,
        card.timezone,
        freq_s=freq_s,
        country=rule.country if rule else "",
        subdivision=rule.subdivision if rule else None,
    )


def card_holidays(card: Card, first: int, last: int) -> dict[int, str]:
    """The names of public holidays by local day (days since 1970), from one time to another (seconds UTC).

    Empty where the card has no `holidays`. Raises ConfigError for unknown `holidays`.
    """
    rule = card.holidays
    if rule is None:
        return {}
    return calendar.holiday_names((first, last), card.timezone, rule.country, rule.subdivision)
