"""Any statsmodels forecaster as a predictor: fitted on the visible past of every wanted series."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float64

from st2llm.data.windows.fitted_on import NOT_FITTED
from st2llm.errors import DataError
from st2llm.predict.external.series import target_series
from st2llm.types import Prediction, Sample

MIN_READINGS = 2


class FittedModel(Protocol):
    """What `fit` of statsmodels returns, for ARIMA, SARIMAX, ExponentialSmoothing, ETSModel, ThetaModel and others."""

    def forecast(self, steps: int) -> np.ndarray: ...


@dataclass(frozen=True)
class ClassicalPredictor:
    """Forecasts each wanted series with a model fitted on its visible past; training samples are not used.

    fit: from the past of one series, gaps filled linearly, to a fitted model, for instance
    ClassicalPredictor("ets", lambda past: ExponentialSmoothing(past, seasonal="add", seasonal_periods=24).fit())
    """

    name: str
    fit: Callable[[Float64[np.ndarray, " time"]], FittedModel]
    fitted_on = NOT_FITTED

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """Raises DataError, naming sample and place, where a fit fails or a forecast is not finite."""
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> Prediction:
        series = target_series(sample, name=self.name, min_readings=MIN_READINGS)
        rows = []
        for past, (node, _) in zip(series.past, series.keys, strict=True):
            rows.append(self._forecast(past, series.horizon, where=f"{sample.id}, {sample.place[node]!r}"))
        return Prediction(series.to_sample_shape(sample, np.stack(rows)[:, :, None])[0])

    def _forecast(
        self, past: Float64[np.ndarray, " time"], steps: int, *, where: str
    ) -> Float64[np.ndarray, " horizon"]:
        filled = pd.Series(past).interpolate(limit_direction="both").to_numpy()
        try:
            forecast = np.asarray(self.fit(filled).forecast(steps), dtype=np.float64)
        except (ValueError, np.linalg.LinAlgError) as error:
            raise DataError(
                f"{self.name} could not be fitted on the {len(past)} steps of {where}: {error} Lengthen task.history, "
                f"or take a model with fewer terms."
            ) from error
        if forecast.shape != (steps,) or not np.isfinite(forecast).all():
            raise DataError(
                f"{self.name} should forecast {steps} finite numbers for {where}, but returned {forecast.tolist()}. "
                f"Take a model that is stable on this series."
            )
        return forecast
