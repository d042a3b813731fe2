"""Language models: loading, constrained generation, scoring, answer cache and remote endpoints. Importing this
package does not import torch.
"""

import importlib
from typing import TYPE_CHECKING

from st2llm.errors import ConfigError

if TYPE_CHECKING:
    from st2llm.llm.endpoint.client import RemoteModel
    from st2llm.llm.local import LanguageModel


def load_llm(
    name: str,
    *,
    depth: int | None = None,
    dtype: str = "auto",
    quant: str = "none",
    seed: int = 0,
) -> "LanguageModel | RemoteModel":
    """Loads a frozen language model: `smollm2-135m`, a Hugging Face id, a folder, a .gguf file, or `random:<one of
    these>`.

    `openai:<base_url>#<model>` names a model behind an endpoint. It only answers prompts; nothing is requested
    here and torch is not imported. depth: number of leading layers to keep, followed by the final norm; None
    keeps all. dtype: 'fp32', 'bf16', or 'auto' for bf16 where the hardware multiplies it natively. quant:
    'int8' or 'nf4' for all linear layers except the head, 'none' for no quantisation. seed: seed of the weights
    drawn for `random:`. Raises ConfigError for a name or setting that does not exist, ArtefactError where a
    known model cannot be obtained.
    """
    if name.removeprefix("random:").startswith("openai:"):
        return _remote_model(name, depth=depth, dtype=dtype, quant=quant)
    loaded: LanguageModel = importlib.import_module("st2llm.llm.local").load(
        name, depth=depth, dtype=dtype, quant=quant, seed=seed
    )
    return loaded


def _remote_model(name: str, *, depth: int | None, dtype: str, quant: str) -> "RemoteModel":
    """A model behind an endpoint. Its weights are fixed by the server, so depth, dtype and quant are refused."""
    settings = {"depth": (depth, None), "dtype": (dtype, "auto"), "quant": (quant, "none")}
    for setting, (value, default) in settings.items():
        if value != default:
            raise ConfigError(
                f"{setting} must be {default!r} for a model behind an endpoint, but it is {value!r}. Leave it out "
                f"here, and set it where the server is started."
            )
    if name.startswith("random:"):
        raise ConfigError(
            "A model behind an endpoint has the weights that its server loaded, so it cannot be drawn at random. "
            "Give random: a Hugging Face id or a folder."
        )
    model: RemoteModel = importlib.import_module("st2llm.llm.endpoint.client").parse_endpoint(name)
    return model
