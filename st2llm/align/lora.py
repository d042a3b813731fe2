"""Low-rank adapters through peft (LoRA, Hu et al. 2022)."""

from collections.abc import Sequence

from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from st2llm.errors import ConfigError, nearest


def add_lora(model: nn.Module, *, rank: int, targets: Sequence[str]) -> list[nn.Parameter]:
    """Puts trainable low-rank adapters beside the named linear layers, in place; all else stays frozen.

    Returns the adapters' parameters, in fp32 whatever the model's dtype. A fresh adapter changes nothing
    (its second factor is zero). Raises ConfigError for a target that the model does not have.
    """
    named = [name for name, _ in model.named_modules()]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in named):
            known = {name.rpartition(".")[2] for name, module in model.named_modules() if _is_linear(module)}
            raise ConfigError(f"The model has no layer {target!r} for lora.targets. {nearest(target, known)}")
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=list(targets))
    inject_adapter_in_model(config, model)
    adapters = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()
            adapters.append(parameter)
    return adapters


def _is_linear(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.ndim == 2 and not isinstance(module, nn.Embedding)
