"""Curves: one suite for each value of one or two of its settings."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from st2llm.config import Settings

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
