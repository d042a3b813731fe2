"""The nearest training windows as a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

from st2llm.retrieve.nearest_forecast import NearestForecast, fit_nearest
from st2llm.types import Prediction, Sample, TrainingWindows


@dataclass(frozen=True)
class NearestWindows:
    """The mean future of the training windows that are most similar in shape; see `retrieve.nearest_forecast`."""

    forecast: NearestForecast

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return self.forecast.predict(samples)


def nearest_windows(train: TrainingWindows) -> NearestWindows:
    return NearestWindows(fit_nearest(train))
