"""What models of single series are asked: how the visible past of each asked series goes on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from st2llm.errors import DataError
from st2llm.types import Sample


@dataclass(frozen=True)
class TargetSeries:
    """The series of one sample that are asked to go on, by (node, channel), with their past in raw units.

    past: NaN where a reading is missing.
    """

    keys: tuple[tuple[int, int], ...]
    past: Float64[np.ndarray, "row time"]
    horizon: int

    def laid_out(
        self, sample: Sample, found: Float64[np.ndarray, "row horizon draw"]
    ) -> Float64[np.ndarray, "draw time node channel"]:
        """Forecasts of the rows at their places in the sample; NaN where nothing is asked."""
        whole = np.full((found.shape[2], *sample.values.shape), np.nan)
        for row, (n, c) in zip(found, self.keys, strict=True):
            whole[:, -self.horizon :, n, c] = row.T
        whole[:, ~sample.wanted] = np.nan
        return whole


def target_series(sample: Sample, *, name: str, least: int) -> TargetSeries:
    """The asked series of a forecast.

    name: of the model, for errors. least: readings that a past must have. Raises DataError where the asked entries
    are not a sample's suffix, or a series has fewer readings.
    """
    start = sample.first_wanted_step
    keys = sample.wanted_series
    past = np.stack([sample.values[:start, n, c] for n, c in keys])
    few = np.flatnonzero(np.isfinite(past).sum(axis=1) < least)
    if sample.visible[start:].any() or few.size:
        why = (
            f"{sample.place[keys[int(few[0])][0]]!r} has fewer than {least} readings in its {start} steps"
            if few.size
            else "entries after the first asked one are visible"
        )
        raise DataError(
            f"{name} forecasts what follows at least {least} readings, but in {sample.id} {why}. Lengthen "
            f"task.history, or leave this model out."
        )
    return TargetSeries(keys, past, len(sample.time) - start)
