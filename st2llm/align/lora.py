"""Low-rank adapters through peft (LoRA, Hu et al. 2022)."""

from collections.abc import Sequence

from peft import LoraConfig, inject_adapter_in_model
from torch import nn


def add_lora(model: nn.Module, *, rank: int, targets: Sequence[str]) -> list[nn.Parameter]:
    """Puts trainable low-rank adapters beside the named linear layers, in place; all else stays frozen.

    Returns the adapters' parameters, in fp32 whatever the model's dtype. A fresh adapter changes nothing
    (its second factor is zero).
    """
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=list(targets))
    inject_adapter_in_model(config, model)
    adapters = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()
            adapters.append(parameter)
    return adapters
