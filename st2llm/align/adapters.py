"""Adaptation of a language model: which of its weights are trained, and LoRA adapters through peft."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from st2llm.align.mixed_precision import keep_in_fp32
from st2llm.align.weights import load_tensors
from st2llm.config.model import Adaptation
from st2llm.errors import ConfigError, nearest
from st2llm.llm.architecture.base_model import base_of, base_prefix
from st2llm.llm.local import decoder_layers

_WEIGHT_METHODS = ("norms", "partial", "full")
"""Methods that train the model's own weights, which are then fp32 so that small steps are not rounded away."""
_POSITION_TABLES = ("wpe", "embed_positions", "position_embeddings", "positions_embed")
_ATTENTION_TYPES = ("attention", "attn")
"""Parts of the class names of attention modules; modules are named `attn`, `attention`, `self_attention`, ..."""
_PEFT_PREFIX = "base_model.model."


def peft_config(adaptation: Adaptation, model: nn.Module) -> LoraConfig:
    """The adaptation as a peft config for this model. Raises ConfigError for a target module that it does not
    have.
    """
    linear = {name: m for name, m in model.named_modules() if _is_linear(m)}
    for target in adaptation.target_modules:
        if not _matching_layers(target, linear):
            known_layers = {name.rpartition(".")[2] for name in linear}
            raise ConfigError(
                f"The model has no linear layer {target!r}, which target_modules names. {nearest(target, known_layers)}"
            )
    # gpt2 stores its linear layers transposed; peft needs fan_in_fan_out for them.
    transposed = any(
        isinstance(layer, Conv1D)
        for target in adaptation.target_modules
        for layer in _matching_layers(target, linear)
    )
    targets = list(adaptation.target_modules)
    if adaptation.layers is not None:
        targets = _targets_in_last_layers(model, adaptation, linear)
    settings = LoraConfig(
        r=adaptation.rank,
        lora_alpha=adaptation.alpha or 2 * adaptation.rank,  # type: ignore[arg-type]
        lora_dropout=0.0,
        target_modules=targets,
        fan_in_fan_out=transposed,
        use_dora=adaptation.dora,
        use_rslora=adaptation.rslora,
    )
    settings.target_modules = sorted(targets)  # peft makes a set, whose order differs from process to process
    return settings


def _targets_in_last_layers(
    model: nn.Module, adaptation: Adaptation, linear: Mapping[str, nn.Module]
) -> list[str]:
    """Full names of the target modules in the last layers: peft's own setting needs names of the whole causal model."""
    last = _last_layers(model, min(adaptation.layers or 0, _layer_count(model)))
    targets = [
        name
        for name in linear
        if name.startswith(last) and any(name.endswith(f".{t}") for t in adaptation.target_modules)
    ]
    if not targets:
        raise ConfigError(
            f"The last {adaptation.layers} layers have no linear layer {' or '.join(adaptation.target_modules)}, "
            f"which target_modules names. Raise adapt.layers, or name layers of theirs."
        )
    return targets


def adapt(model: PreTrainedModel, adaptation: Adaptation) -> list[nn.Parameter]:
    """Makes the parameters of `adaptation` trainable, in place, and freezes all others; returns the trained ones.

    What is trained is fp32 whatever the model's dtype (`keep_in_fp32`), and adapters change nothing before training.
    Raises ConfigError for a target or a depth that the model does not have, and for a method that trains the model's
    own weights where these are quantised.
    """
    model.requires_grad_(False)
    if adaptation.method == "lora":
        return _inject_adapters(model, adaptation)
    if adaptation.method in _WEIGHT_METHODS:
        _refuse_quantised(model, adaptation)
        names = _trained_names(model, adaptation)
        for owner in sorted({name.rpartition(".")[0] for name in names}):
            keep_in_fp32(model.get_submodule(owner))
        for name in names:
            model.get_parameter(name).requires_grad_(True)
    return [p for p in model.parameters() if p.requires_grad]


def _inject_adapters(model: nn.Module, adaptation: Adaptation) -> list[nn.Parameter]:
    inject_adapter_in_model(peft_config(adaptation, model), model)
    adapters = []
    for name, parameter in model.named_parameters():
        is_own = is_adapter(name)
        parameter.requires_grad_(is_own)
        if is_own:
            parameter.data = parameter.data.float()
            adapters.append(parameter)
    return adapters


def _trained_names(model: PreTrainedModel, adaptation: Adaptation) -> list[str]:
    names = [name for name, _ in model.named_parameters()]
    if adaptation.method == "full":
        tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        return [name for name in names if id(model.get_parameter(name)) not in tables]
    norms = _parameter_prefixes(model, "norm")
    trained = {
        name for name in names if name.startswith(norms) or any(f"{p}." in name for p in _POSITION_TABLES)
    }
    if not norms:
        raise ConfigError(
            f"{type(model).__name__} has no norm layers to train. Take the method lora or full."
        )
    if adaptation.method == "partial":
        trained |= _attention_names(model, adaptation.layers)
    return [name for name in names if name in trained]


def _attention_names(model: PreTrainedModel, layers: int | None) -> set[str]:
    """The parameters of the attention modules in the last `layers` layers; None for all."""
    depth = _layer_count(model)
    if (last := layers or depth) > depth:
        raise ConfigError(f"adapt.layers is {last}, but this model has {depth} layers.")
    attention, kept = _parameter_prefixes(model, *_ATTENTION_TYPES), _last_layers(model, last)
    names = {
        name for name, _ in model.named_parameters() if name.startswith(attention) and name.startswith(kept)
    }
    if not names:
        raise ConfigError(
            f"The last {last} layers of {type(model).__name__} have no attention to train, which the method partial "
            f"trains. Raise adapt.layers, or take the method lora or full."
        )
    return names


def _parameter_prefixes(model: nn.Module, *types: str) -> tuple[str, ...]:
    """What the names of parameters begin with in modules whose class name holds one of `types`."""
    return tuple(
        f"{name}."
        for name, module in model.named_modules()
        if name and any(kind in type(module).__name__.lower() for kind in types)
    )


def _refuse_quantised(model: PreTrainedModel, adaptation: Adaptation) -> None:
    if not all(p.is_floating_point() for p in model.parameters()):
        raise ConfigError(
            f"adapt.method {adaptation.method!r} trains the model's own weights, but they are quantised. Set "
            f"llm.quant: none, or take the method lora."
        )


def is_adapter(name: str) -> bool:
    """Whether a weight of this name belongs to an adapter."""
    return "lora_" in name


def save_adapter(
    folder: Path,
    weights: Mapping[str, Tensor],
    adaptation: Adaptation,
    model: PreTrainedModel,
    *,
    base: str,
    revision: str | None = None,
) -> None:
    """Writes adapters as peft does, so that `AutoPeftModelForCausalLM.from_pretrained(folder)` loads them.

    weights: by their names in `model.base_model`. base, revision: the base model that adapter_config.json names, as
    transformers' `from_pretrained` takes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = peft_config(adaptation, model)
    settings.base_model_name_or_path, settings.revision = base, revision
    settings.task_type = "CAUSAL_LM"
    settings.inference_mode = True
    settings.save_pretrained(str(folder))
    adapters = {
        _peft_name(name, base_prefix(model)): t.detach().cpu().contiguous()
        for name, t in weights.items()
        if is_adapter(name)
    }
    save_file(adapters, folder / "adapter_model.safetensors")


def read_adapter(folder: Path, *, prefix: str) -> dict[str, Tensor]:
    """Adapter weights written by peft (or `save_adapter`), by their names in the base model.

    prefix: the attribute of a causal model that holds its base model: `model`, `transformer`. Raises
    ConfigError where the file is missing, truncated or of another format.
    """
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise ConfigError(
            f"{folder} holds no adapter_model.safetensors. Give the `adapter` folder of a checkpoint that "
            f"`st2llm finetune` wrote; other formats can run code and are not opened."
        )
    return {_model_name(name, prefix): tensor for name, tensor in load_tensors(path).items()}


def merge_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Merges a saved adapter into the weights, in place; the model then has no adapters.

    Raises ConfigError for a quantised model, and for an adapter that was made for another model.
    """
    if getattr(model, "is_quantized", False):
        raise ConfigError(
            "An adapter cannot be merged into quantised weights without loss. Load the model with quant: none."
        )
    weights = read_adapter(folder, prefix=base_prefix(model))
    settings = LoraConfig.from_pretrained(str(folder))
    injected = inject_adapter_in_model(settings, model)
    own = {name: p for name, p in base_of(injected).named_parameters() if is_adapter(name)}
    wrong = sorted(
        name
        for name in {*own, *weights}
        if getattr(own.get(name), "shape", 0) != getattr(weights.get(name), "shape", 1)
    )
    if wrong:
        raise ConfigError(
            f"The adapter in {folder} was made for another model: {wrong[0]} is "
            f"{_describe_shape(weights.get(wrong[0]))} there and {_describe_shape(own.get(wrong[0]))} here; "
            f"{len(wrong)} weights differ. Take the base model that adapter_config.json names "
            f"({settings.base_model_name_or_path})."
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.data = weights[name].to(parameter.device, torch.float32)
    _merge_layers(model)


def _merge_layers(model: nn.Module) -> None:
    """Replaces each adapted layer by its merged base layer."""
    for name, layer in list(model.named_modules()):
        if hasattr(layer, "merge") and hasattr(layer, "get_base_layer"):
            layer.merge()
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer.get_base_layer())
    model.requires_grad_(False)


def _describe_shape(tensor: Tensor | None) -> str:
    return "not there" if tensor is None else f"of shape {tuple(tensor.shape)}"


def _peft_name(name: str, prefix: str) -> str:
    """`layers.0.self_attn.q_proj.lora_A.default.weight` as named in peft's files."""
    plain = name.replace(".default", "")
    if "lora_magnitude_vector" in plain:
        plain = plain.removesuffix(".weight")
    return f"{_PEFT_PREFIX}{prefix}.{plain}"


def _model_name(name: str, prefix: str) -> str:
    own = name.removeprefix(_PEFT_PREFIX).removeprefix(f"{prefix}.")
    for part in ("lora_A", "lora_B"):
        own = own.replace(f".{part}.weight", f".{part}.default.weight")
    if own.endswith("lora_magnitude_vector"):
        own += ".default.weight"
    return own


def _last_layers(model: nn.Module, count: int) -> tuple[str, ...]:
    """What the names of modules and parameters begin with in the last `count` layers."""
    last = {id(layer) for layer in decoder_layers(model)[-count:]}  # type: ignore[arg-type]
    return tuple(f"{name}." for name, module in model.named_modules() if id(module) in last)


def _layer_count(model: nn.Module) -> int:
    config = model.config.get_text_config()  # type: ignore[union-attr,operator]
    return int(config.num_hidden_layers)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D) or hasattr(module, "get_base_layer")


def _matching_layers(target: str, layers: Mapping[str, nn.Module]) -> Sequence[nn.Module]:
    """The layers that peft matches: those whose name is the target or ends with it."""
    matching = [m for name, m in layers.items() if name == target or name.endswith(f".{target}")]
    return [layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer for layer in matching]  # type: ignore[operator]
