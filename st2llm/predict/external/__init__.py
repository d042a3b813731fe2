"""Pretrained models of others as predictors: zero-shot, from the visible history alone. `load` has them by name."""

from collections.abc import Callable, Mapping

from st2llm.predict import Predictor
from st2llm.predict.external import chronos, fracast

MODEL_LOADERS: Mapping[str, Callable[[str, str], Predictor]] = {
    "fracast-0": fracast.load,
    "chronos": chronos.load,
}
"""What loads each model, given the name it has in a suite and what stands after the colon."""


def load_model(model: str, *, name: str) -> Predictor:
    """The pretrained model `fracast-0`, or `chronos:<hub id or folder>`, as a predictor of that name.

    Raises ArtefactError or ConfigError where its weights cannot be had or are of another model.
    """
    word, _, weights = model.partition(":")
    return MODEL_LOADERS[word](name, weights)
