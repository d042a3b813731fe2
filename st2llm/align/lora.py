"""Low-rank adapters through peft (LoRA, Hu et al. 2022)."""

from collections.abc import Sequence

from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from st2llm.errors import ConfigError, nearest


def add_lora(model: nn.Module, *, rank: int, targets: Sequence[str]) -> list[nn.Parameter]:
    """Puts trainable low-rank adapters beside the named linear layers, in place; all else stays frozen.

    Returns the adapters' parameters, in fp32 whatever the model's dtype. A fresh adapter changes nothing
    (its second factor is zero). Raises ConfigError for a target that the model does not have.
    """
    linear = _linear_layers(model)
    for target in targets:
        if not _named(target, linear):
            known = {name.rpartition(".")[2] for name in linear}
            raise ConfigError(
                f"The model has no linear layer {target!r}, which lora.targets names. {nearest(target, known)}"
            )
    # gpt2 keeps its linear layers transposed, which peft wants to be told.
    transposed = any(isinstance(layer, Conv1D) for target in targets for layer in _named(target, linear))
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=list(targets),
        fan_in_fan_out=transposed,
    )
    inject_adapter_in_model(config, model)
    adapters = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()
            adapters.append(parameter)
    return adapters


def _linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)}


def _named(target: str, layers: dict[str, nn.Module]) -> list[nn.Module]:
    """The layers that peft takes for the target: that is their name, or the end of it."""
    return [layer for name, layer in layers.items() if name == target or name.endswith(f".{target}")]
