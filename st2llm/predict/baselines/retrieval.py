"""The training windows most alike, as a rule."""

from collections.abc import Sequence
from dataclasses import dataclass

from st2llm.retrieve.nearest_forecast import NearestForecast, fit_nearest
from st2llm.types import Prediction, Sample


@dataclass(frozen=True)
class NearestWindows:
    """The futures of the training windows whose shape is most alike (`retrieve.nearest_forecast`)."""

    forecast_of: NearestForecast

    def answer(self, samples: Sequence[Sample]) -> list[Prediction]:
        return self.forecast_of.predict(samples)


def nearest_windows(train: Sequence[Sample]) -> NearestWindows:
    return NearestWindows(fit_nearest(train))
