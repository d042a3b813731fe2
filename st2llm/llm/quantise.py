"""Quantised weights (int8, nf4) through bitsandbytes, with correct gradients through them.

Without `keep_in_training_mode`, `Linear4bit` in eval mode rewrites its weight to an inference layout at the
first input that needs no gradient (bitsandbytes 0.50, CPUs with AVX512-BF16). No gradient passes through that
layout, and `train()` does not restore it: after one validation pass QLoRA silently stops learning.
`Linear8bitLt` on a CPU computes something else in eval mode than in training mode: it also quantises
activations, for the whole batch at once, so that an answer depends on the other rows of the batch, and it is
many times slower.
"""

import functools
import importlib
import logging
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from st2llm.errors import AlignmentError, ConfigError, nearest

QUANTS = ("none", "int8", "nf4")
_QUANTISED_CLASSES = ("Linear4bit", "Linear8bitLt")


def quantisation_config(quant: str, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """The configuration with which transformers quantises while loading: every linear layer except the head; None
    for 'none'.

    dtype: the compute dtype of nf4 layers. Raises ConfigError for a value that is not in QUANTS.
    """
    if quant not in QUANTS:
        raise ConfigError(
            f"quant must be one of {', '.join(QUANTS)}, but it is {quant!r}. {nearest(quant, QUANTS)}"
        )
    if quant == "int8":
        # On a GPU every layer logs at every call that it casts bf16 to fp16 before int8.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    if quant == "nf4":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return None


def keep_in_training_mode(model: nn.Module) -> None:
    """Keeps every quantised layer of the model in training mode permanently, whatever `eval()` and `train()` set.

    These layers have no dropout, so nothing else depends on their mode. Calling it twice has no further effect.
    Raises AlignmentError where a layer was already rewritten for inference, which cannot be undone without
    loss.
    """
    for name, layer in quantised_layers(model):
        if getattr(getattr(layer.weight, "quant_state", None), "packing_format_for_cpu", False):
            raise AlignmentError(
                f"bitsandbytes has rewritten the nf4 weight of {name} for inference, and no gradient passes "
                f"through it any more. Load the model again and call keep_in_training_mode before the first "
                f"forward pass."
            )
        if not isinstance(layer, AlwaysTraining):
            layer.__class__ = _always_training_class(layer.__class__)


def quantised_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """The layers that bitsandbytes quantised, with their names."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if any(base.__name__ in _QUANTISED_CLASSES for base in type(module).__mro__)
    ]


def available_quantisations(device: torch.device) -> tuple[str, ...]:
    """The quantisations that work on this device; each is tested on one small layer."""
    return tuple(quant for quant in QUANTS[1:] if _works(quant, device))


def _works(quant: str, device: torch.device) -> bool:
    try:
        layers = importlib.import_module("bitsandbytes").nn
        if quant == "int8":
            layer = layers.Linear8bitLt(64, 64, has_fp16_weights=False)
        else:
            layer = layers.Linear4bit(64, 64, quant_type=quant, compute_dtype=torch.float32)
        out: torch.Tensor = layer.to(device)(torch.ones(1, 64, device=device))
    except (ImportError, AttributeError, OSError, RuntimeError):
        return False
    return bool(out.isfinite().all())


class AlwaysTraining:
    """A mixin for layer classes: `training` is True and cannot be changed."""

    @property
    def training(self) -> bool:
        return True

    @training.setter
    def training(self, mode: bool) -> None:
        """`eval()` on a module that holds the layer comes here, and is not followed."""


@functools.cache
def _always_training_class(layer: type) -> type:
    """The subclass of a layer class with AlwaysTraining, created when needed because importing bitsandbytes takes
    seconds.
    """
    return type(layer.__name__, (AlwaysTraining, layer), {})
