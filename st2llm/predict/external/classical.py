"""Any statsmodels forecaster as a predictor: fitted anew on the visible past of every asked series."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float64

from st2llm.errors import DataError
from st2llm.predict.external.series import target_series
from st2llm.types import Prediction, Sample

MIN_READINGS = 2


class FittedModel(Protocol):
    """What statsmodels' `fit` returns: of ARIMA, SARIMAX, ExponentialSmoothing, ETSModel, ThetaModel and others."""

    def forecast(self, steps: int) -> np.ndarray: ...


@dataclass(frozen=True)
class ClassicalPredictor:
    """fit: from the past of one series, its gaps filled linearly, to a fitted model. Nothing is learned from training.

    ClassicalPredictor("ets", lambda past: ExponentialSmoothing(past, seasonal="add", seasonal_periods=24).fit())
    """

    name: str
    fit: Callable[[Float64[np.ndarray, " time"]], FittedModel]

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """Raises DataError, naming sample and place, where a fit fails or a forecast is not finite."""
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> Prediction:
        series = target_series(sample, name=self.name, least=MIN_READINGS)
        rows = []
        for past, (node, _) in zip(series.past, series.keys, strict=True):
            rows.append(self._forecast(past, series.horizon, where=f"{sample.id}, {sample.place[node]!r}"))
        return Prediction(series.laid_out(sample, np.stack(rows)[:, :, None])[0])

    def _forecast(
        self, past: Float64[np.ndarray, " time"], steps: int, *, where: str
    ) -> Float64[np.ndarray, " horizon"]:
        whole = pd.Series(past).interpolate(limit_direction="both").to_numpy()
        try:
            found = np.asarray(self.fit(whole).forecast(steps), dtype=np.float64)
        except (ValueError, np.linalg.LinAlgError) as error:
            raise DataError(
                f"{self.name} could not be fitted on the {len(past)} steps of {where}: {error} Lengthen task.history, "
                f"or take a model with fewer terms."
            ) from error
        if found.shape != (steps,) or not np.isfinite(found).all():
            raise DataError(
                f"{self.name} should forecast {steps} finite numbers for {where}, but gave {found.tolist()}. Take a "
                f"model that is stable on this series."
            )
        return found
