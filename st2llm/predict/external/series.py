"""The wanted series of a forecast with their visible past, for models of single time series."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from st2llm.errors import DataError
from st2llm.types import Sample


@dataclass(frozen=True)
class TargetSeries:
    """The series of one sample that are to be forecast, by (node, channel), with their past in raw units.

    past: NaN where a value is missing.
    """

    keys: tuple[tuple[int, int], ...]
    past: Float64[np.ndarray, "row time"]
    horizon: int

    def to_sample_shape(
        self, sample: Sample, forecasts: Float64[np.ndarray, "row horizon draw"]
    ) -> Float64[np.ndarray, "draw time node channel"]:
        """The forecasts of all rows in the shape of the sample, by draw; NaN where nothing is wanted."""
        values = np.full((forecasts.shape[2], *sample.values.shape), np.nan)
        for row, (n, c) in zip(forecasts, self.keys, strict=True):
            values[:, -self.horizon :, n, c] = row.T
        values[:, ~sample.wanted] = np.nan
        return values


def target_series(sample: Sample, *, name: str, min_readings: int) -> TargetSeries:
    """The wanted series of a forecast.

    name: of the model, for errors. min_readings: number of values that a past must have. Raises DataError where the
    wanted entries are not a sample's suffix, or a series has fewer values.
    """
    start = sample.first_wanted_step
    keys = sample.wanted_series
    past = np.stack([sample.values[:start, n, c] for n, c in keys])
    few = np.flatnonzero(np.isfinite(past).sum(axis=1) < min_readings)
    if sample.visible[start:, :, sample.target_channels].any() or few.size:
        reason = (
            f"{sample.place[keys[int(few[0])][0]]!r} has fewer than {min_readings} readings in its {start} steps"
            if few.size
            else "entries after the first wanted one are visible"
        )
        raise DataError(
            f"{name} forecasts what follows at least {min_readings} readings, but in {sample.id} {reason}. Lengthen "
            f"task.history, or leave this model out."
        )
    return TargetSeries(keys, past, len(sample.time) - start)
