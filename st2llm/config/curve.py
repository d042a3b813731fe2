"""What a suite is run for and tested on: the values of a setting, the windows, and drift that is injected into them."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from st2llm.config import Settings

DriftKind = Literal["level", "scale", "season", "missing", "pattern"]
DRIFT_KINDS: tuple[DriftKind, ...] = get_args(DriftKind)
MOST_AXES = 2
_NO_AXIS = ("id", "version", "kind", "title", "demo", "seeds", "predictors", "curve", "quick")
"""Keys of a suite that name it, or that all points of a curve share."""


class CurveSettings(Settings):
    """The values of a setting that `st2llm curve` runs a suite for: `curve: {axis: train.share, values: [0.1, 1]}`.

    axis: a setting of the suite by dotted key, such as encoder.d_st, budget.steps or shift.strength. axes: two of them,
    each with its values; the suite is run for every pair. Every point is checked as a suite of its own.
    """

    axis: str | None = None
    values: list[Any] | None = Field(None, description="of `axis`")
    axes: dict[str, list[Any]] | None = Field(None, description="two settings and their values, as a grid")
    law: str | None = Field(
        None, description="a trained predictor whose error a law of parameters and data is fitted to"
    )

    @model_validator(mode="after")
    def _check_axes(self) -> "CurveSettings":
        if (self.axes is None) != (self.axis is not None and self.values is not None):
            raise ValueError("curve takes `axis` and `values`, or `axes: {setting: [...], ...}` alone")
        if not 1 <= len(self.by_axis) <= MOST_AXES:
            raise ValueError(f"curve takes one or two axes, but it has {len(self.by_axis)}")
        for axis, values in self.by_axis.items():
            if axis.partition(".")[0] in _NO_AXIS:
                raise ValueError(f"curve: {axis!r} is the same at all points, so it is no axis")
            written = [json.dumps(value, sort_keys=True, default=str) for value in values]
            if len(values) < 2 or len(set(written)) < len(values):
                raise ValueError(f"curve: {axis} needs two or more different values, but it has {values}")
        return self

    @property
    def by_axis(self) -> Mapping[str, list[Any]]:
        """The values of each axis by its dotted key."""
        if self.axes is not None:
            return self.axes
        return {str(self.axis): list(self.values or ())}


class ShiftSettings(Settings):
    """Drift of known strength in the test windows of graphs and grids; training and validation stay as they are.

    test: the strength of each kind. level: added to every value, in standard deviations of the place in training.
    scale: values are multiplied by 1 plus it. season: values come later by this share of half a day (of half a week for
    daily steps). missing: the share of places whose visible values are hidden. pattern: places take over the course of
    another place, standardised, by a share that grows from zero to this over the test part. The values that are shown
    and those that are asked for change alike; `missing` hides shown values alone. strength: multiplies all of them, so
    that `curve: {axis: shift.strength, values: [0, 0.5, 1]}` is a dose. after: shifts only windows whose first wanted
    step is at or after this time, ISO 8601, UTC where it names no zone. seed: of the places that are hidden.
    """

    test: dict[DriftKind, float] = Field(min_length=1)
    strength: float = Field(1.0, ge=0)
    after: datetime | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _check_strengths(self) -> "ShiftSettings":
        if not 0 <= self.test.get("missing", 0.0) * self.strength < 1:
            raise ValueError("shift: `missing` times `strength` is a share of places, at least 0 and under 1")
        if not 0 <= self.test.get("pattern", 0.0) * self.strength <= 1:
            raise ValueError("shift: `pattern` times `strength` is a share of another course, from 0 to 1")
        if self.test.get("scale", 0.0) * self.strength <= -1:
            raise ValueError(
                "shift: `scale` times `strength` must stay above -1, where all values would be zero"
            )
        return self

    @property
    def doses(self) -> Mapping[DriftKind, float]:
        """The strength of each kind that is not zero."""
        return {kind: value * self.strength for kind, value in self.test.items() if value * self.strength}


class WindowSettings(Settings):
    """The windows that are evaluated: all, or `count` evenly spaced ones. places: of each window; None means all.

    period: an interval of ISO 8601, such as 2020-03-26/2020-05-14, whose end is not in it: those windows of a graph or
    grid that ask for nothing outside it. Times without a zone are in that of the data.
    """

    select: Literal["all", "even"] = Field("all", description="all windows, or evenly spaced ones")
    count: int | None = Field(None, ge=1, description="number of windows, where select is even")
    places: int | None = Field(None, ge=1)
    period: str | None = None

    @field_validator("period")
    @classmethod
    def _check_period(cls, period: str | None) -> str | None:
        if period is not None:
            _ = _interval(period)
        return period

    @property
    def interval(self) -> tuple[datetime, datetime] | None:
        """Start and end of the period; None without one."""
        return None if self.period is None else _interval(self.period)


def _interval(period: str) -> tuple[datetime, datetime]:
    """Start and end of an interval of ISO 8601. Raises ValueError for other words and an end before the start."""
    parts = period.split("/")
    try:
        start, end = map(datetime.fromisoformat, parts)
        ordered = start < end
    except (ValueError, TypeError):
        raise ValueError(
            f"period should be two times of ISO 8601 with a slash, such as 2020-03-26/2020-05-14, but it is {period!r}"
        ) from None
    if not ordered:
        raise ValueError(f"period {period!r} ends before it begins")
    return start, end
