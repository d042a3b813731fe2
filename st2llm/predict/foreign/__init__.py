"""Pretrained models of others as predictors: zero-shot, from the visible history alone. `MODELS` has them by name."""

from collections.abc import Callable, Mapping

from st2llm.predict import Predictor
from st2llm.predict.foreign import fracast

MODELS: Mapping[str, Callable[[str], Predictor]] = {"fracast-0": fracast.load}
"""What loads each model, given the name it has in a suite."""
