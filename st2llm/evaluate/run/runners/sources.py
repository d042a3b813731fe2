"""The files and packages that a predictor is read from, by whose hash a resumed run notices that they have changed."""

import hashlib
from pathlib import Path

from st2llm import plugins
from st2llm.config.predictors import PredictorSettings
from st2llm.data import fetch
from st2llm.model import checkpoint
from st2llm.predict.external.predictions_file import fitted_on_path
from st2llm.serialize.template.template import load_prompt


def source_sha256(predictor: PredictorSettings) -> str | None:
    """The hash of the predictions file (with the file beside it), checkpoint, folder of weights and template, and of
    the version of the package that adds it.

    None for a predictor without any. Raises ConfigError where there is no such checkpoint or template.
    """
    hashes = []
    if predictor.file is not None:
        file = Path(predictor.file)
        hashes += [fetch.sha256_of(path) for path in (file, fitted_on_path(file)) if path.is_file()]
    if predictor.checkpoint is not None:
        hashes.append(checkpoint.sha256_of(checkpoint.read_checkpoint(Path(predictor.checkpoint)).folder))
    model, _, argument = (predictor.model or "").partition(":")
    weights = Path(argument)
    if predictor.model and weights != Path() and weights.is_dir():
        hashes.append(checkpoint.sha256_of(weights))
    if plugin := plugins.find("predictors", model):
        hashes.append(plugin.package)
    if predictor.template is not None:
        hashes.append(load_prompt(predictor.template).sha256)
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest() if hashes else None
