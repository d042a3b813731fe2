"""Predictors by name: the pretrained models Fracast-0 and Chronos, and predictors that packages add."""

from collections.abc import Callable, Mapping
from typing import cast

from st2llm.config.catalog import PREDICTOR_LOADER, RULES
from st2llm.plugins import WithPlugins
from st2llm.predict import Predictor, UnfittedPredictor
from st2llm.predict.external import chronos, fracast
from st2llm.predict.external.wrapper import wrap

Loader = Callable[[str, str], object]


def _loader(loaded: object) -> Loader | None:
    return cast(Loader, loaded) if callable(loaded) else None


MODEL_LOADERS: Mapping[str, Loader] = WithPlugins(
    "predictors",
    {"fracast-0": fracast.load, "chronos": chronos.load},
    _loader,
    PREDICTOR_LOADER,
    reserved=RULES,
)
"""From the name in a suite and the part after the colon to a predictor, or to what `wrap` makes one of."""


def load_model(model: str, *, name: str) -> Predictor | UnfittedPredictor:
    """The model `fracast-0`, `chronos:<hub id or folder>` or one that a package adds, as a predictor of that name.

    Raises ArtefactError where its weights cannot be fetched or read, ConfigError where they are of another model, and
    where the package cannot be imported.
    """
    model_name, _, weights = model.partition(":")
    loaded = MODEL_LOADERS[model_name](name, weights)
    return loaded if isinstance(loaded, Predictor | UnfittedPredictor) else wrap(loaded, name=name)
