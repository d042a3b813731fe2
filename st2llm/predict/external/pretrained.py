"""Pretrained models of others by name: Fracast-0 and Chronos."""

from collections.abc import Callable, Mapping

from st2llm.predict import Predictor
from st2llm.predict.external import chronos, fracast

MODEL_LOADERS: Mapping[str, Callable[[str, str], Predictor]] = {
    "fracast-0": fracast.load,
    "chronos": chronos.load,
}
"""Loaders of pretrained models: from the name in a suite and the part after the colon to a predictor."""


def load_model(model: str, *, name: str) -> Predictor:
    """The pretrained model `fracast-0`, or `chronos:<hub id or folder>`, as a predictor of that name.

    Raises ArtefactError where its weights cannot be fetched or read, ConfigError where they are of another model.
    """
    model_name, _, weights = model.partition(":")
    return MODEL_LOADERS[model_name](name, weights)
