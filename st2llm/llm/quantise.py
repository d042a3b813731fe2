"""Weights in int8 or nf4 through bitsandbytes, with gradients through them that stay true.

Without the guard, `Linear4bit` in eval mode rewrites its weight, at the first input that needs no gradient, into a
layout for inference (bitsandbytes 0.50, CPUs with AVX512-BF16). No gradient passes through that layout, and
`train()` does not undo it: one validation pass, and QLoRA learns nothing more, without a word. `Linear8bitLt` on a
CPU computes something else in eval mode than in training: it rounds activations too, in one go for the whole batch,
so that an answer depends on what else is in the batch, and it is many times slower.
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
    """What transformers needs to quantise while it loads: every linear layer but the head; None for 'none'.

    dtype: that nf4 weights are multiplied in. Raises ConfigError for a word that is not in QUANTS.
    """
    if quant not in QUANTS:
        raise ConfigError(
            f"quant must be one of {', '.join(QUANTS)}, but it is {quant!r}. {nearest(quant, QUANTS)}"
        )
    if quant == "int8":
        # On a GPU every layer says at every call that it rounds bf16 to fp16 on the way to int8.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    if quant == "nf4":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return None


def keep_in_training_mode(model: nn.Module) -> None:
    """Keeps every quantised layer of the model in training mode for good, whatever `eval()` and `train()` say.

    Such a layer has no dropout, so that nothing else depends on its mode. Guarding twice changes nothing. Raises
    AlignmentError where a layer was rewritten for inference before: that cannot be undone without loss.
    """
    for name, layer in quantised_layers(model):
        if getattr(getattr(layer.weight, "quant_state", None), "packing_format_for_cpu", False):
            raise AlignmentError(
                f"bitsandbytes has rewritten the nf4 weight of {name} for inference, and no gradient passes "
                f"through it any more. Load the model again, and guard it before it reads anything."
            )
        if not isinstance(layer, AlwaysTraining):
            layer.__class__ = _always_training_class(layer.__class__)


def quantised_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """The layers that bitsandbytes quantised, by name."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if any(base.__name__ in _QUANTISED_CLASSES for base in type(module).__mro__)
    ]


def available_quantisations(device: torch.device) -> tuple[str, ...]:
    """The quantisations that work on this device, each tried on one small layer."""
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
    """Mixed into a layer's class: `training` is True and cannot be set."""

    @property
    def training(self) -> bool:
        return True

    @training.setter
    def training(self, mode: bool) -> None:
        """`eval()` on a module that holds the layer comes here, and is not followed."""


@functools.cache
def _always_training_class(layer: type) -> type:
    """The guarded twin of a layer's class, made at need: importing bitsandbytes takes seconds."""
    return type(layer.__name__, (AlwaysTraining, layer), {})
