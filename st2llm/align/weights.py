"""Reads weights from safetensors files, which cannot run code."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from st2llm.errors import ConfigError


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises ConfigError where it is missing, truncated or of another format."""
    try:
        loaded: dict[str, Tensor] = load_file(path)
    except FileNotFoundError as error:
        raise ConfigError(f"The checkpoint lacks {path.name}: there is no {path}. Train it again.") from error
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"{path} cannot be read as safetensors ({error}): it was cut short, or is another kind of file. Files "
            f"that can run code (pickles) are never opened. Train it again, or take another checkpoint."
        ) from error
    return loaded
