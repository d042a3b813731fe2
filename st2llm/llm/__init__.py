"""Language models: load, freeze, embed, answer under a grammar. Importing this package imports no torch."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from st2llm.llm.local import LanguageModel


def load_llm(
    name: str, *, depth: int | None = None, dtype: str = "auto", quant: str = "none", seed: int = 0
) -> "LanguageModel":
    """A frozen language model: `smollm2-135m`, a Hugging Face id, a local folder, or `random:<one of these>`.

    depth: the first so many layers and the final norm; None keeps all. dtype: 'fp32', 'bf16', or 'auto' for bf16
    where the hardware multiplies it natively. seed: of the weights drawn for `random:`. Raises ConfigError for a
    name or setting that does not exist, ArtefactError where a known model cannot be had.
    """
    loaded: LanguageModel = importlib.import_module("st2llm.llm.local").load(
        name, depth=depth, dtype=dtype, quant=quant, seed=seed
    )
    return loaded
