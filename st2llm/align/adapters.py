"""How a language model is adapted: what of it is trained, and the adapters put beside its layers through peft."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from st2llm.align.weights import tensors
from st2llm.config.model import Adaptation
from st2llm.errors import ConfigError, nearest

_OWN = ("norms", "partial", "full")
"""Methods that train weights of the model's own: they want it in fp32, or small steps are rounded away."""
_POSITIONS = ("wpe", "embed_positions", "position_embeddings")
_PEFT = "base_model.model."


def peft_config(how: Adaptation, model: nn.Module) -> LoraConfig:
    """The settings as peft writes them, for this model. Raises ConfigError for a target that it does not have."""
    linear = {name: m for name, m in model.named_modules() if _is_linear(m)}
    for target in how.target_modules:
        if not _named(target, linear):
            known = {name.rpartition(".")[2] for name in linear}
            raise ConfigError(
                f"The model has no linear layer {target!r}, which target_modules names. {nearest(target, known)}"
            )
    # gpt2 keeps its linear layers transposed, which peft wants to be told.
    transposed = any(
        isinstance(layer, Conv1D) for target in how.target_modules for layer in _named(target, linear)
    )
    # Of some layers alone, each by its whole name: peft's own setting for layers wants names of the whole model.
    depth, targets = _depth(model), list(how.target_modules)
    if how.layers is not None:
        last = _last_layers(max(0, depth - how.layers), depth)
        targets = sorted(
            name
            for name, m in linear.items()
            if any(layer in name for layer in last)
            and any(name.endswith(f".{t}") for t in how.target_modules)
        )
    return LoraConfig(
        r=how.rank,
        lora_alpha=how.alpha or 2 * how.rank,  # type: ignore[arg-type]
        lora_dropout=0.0,
        target_modules=targets,
        fan_in_fan_out=transposed,
        use_dora=how.dora,
        use_rslora=how.rslora,
    )


def adapt(model: PreTrainedModel, how: Adaptation) -> list[nn.Parameter]:
    """Makes trainable what `how` says, in place, and freezes all else; returns what is trained.

    Adapters are fp32 whatever the model's dtype, and change nothing while they are fresh. Raises ConfigError for a
    target or a depth that the model does not have, and for a method that trains the model's own weights where these
    are not fp32 (or are quantised).
    """
    model.requires_grad_(False)
    if how.method == "lora":
        return _with_adapters(model, how)
    if how.method in _OWN:
        _refuse_small_numbers(model, how)
        for name in _own_names(model, how):
            model.get_parameter(name).requires_grad_(True)
    return [p for p in model.parameters() if p.requires_grad]


def _with_adapters(model: nn.Module, how: Adaptation) -> list[nn.Parameter]:
    inject_adapter_in_model(peft_config(how, model), model)
    adapters = []
    for name, parameter in model.named_parameters():
        own = is_adapter(name)
        parameter.requires_grad_(own)
        if own:
            parameter.data = parameter.data.float()
            adapters.append(parameter)
    return adapters


def _own_names(model: nn.Module, how: Adaptation) -> list[str]:
    names = [name for name, _ in model.named_parameters()]
    if how.method == "full":
        tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        return [name for name in names if id(model.get_parameter(name)) not in tables]
    norms = {f"{name}." for name, m in model.named_modules() if "norm" in type(m).__name__.lower()}
    found = [
        name
        for name in names
        if any(name.startswith(norm) for norm in norms) or any(f"{p}." in name for p in _POSITIONS)
    ]
    if how.method == "partial":
        depth = _depth(model)
        last = how.layers or depth
        if last > depth:
            raise ConfigError(f"adapt.layers is {last}, but this model has {depth} layers.")
        kept = _last_layers(depth - last, depth)
        found += [name for name in names if "attn" in name and any(layer in f".{name}" for layer in kept)]
    return found


def _refuse_small_numbers(model: PreTrainedModel, how: Adaptation) -> None:
    table = model.get_input_embeddings().weight
    packed = getattr(model, "is_quantized", False)
    if table.dtype != torch.float32 or packed:
        found = "quantised" if packed else str(table.dtype).removeprefix("torch.")
        raise ConfigError(
            f"adapt.method {how.method!r} trains the model's own weights, which must be fp32 for that, but they are "
            f"{found}. Set llm.dtype: fp32 and llm.quant: none, or take the method lora."
        )


def is_adapter(name: str) -> bool:
    """Whether a weight of this name is an adapter's."""
    return "lora_" in name


def save_adapter(
    folder: Path, weights: Mapping[str, Tensor], how: Adaptation, model: PreTrainedModel, *, base: str
) -> None:
    """Writes adapters as peft does, so that `PeftModel.from_pretrained(model, folder)` takes them.

    weights: by their names in `model.base_model`. base: what adapter_config.json names as the base model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = peft_config(how, model)
    settings.base_model_name_or_path = base
    settings.task_type = "CAUSAL_LM"
    settings.inference_mode = True
    settings.save_pretrained(str(folder))
    adapters = {
        _to_peft(name, model.base_model_prefix): t.detach().cpu().contiguous()
        for name, t in weights.items()
        if is_adapter(name)
    }
    save_file(adapters, folder / "adapter_model.safetensors")


def read_adapter(folder: Path, *, prefix: str) -> dict[str, Tensor]:
    """Adapter weights that peft (or `save_adapter`) wrote, by their names in the base model.

    prefix: what a causal model calls its base model: `model`, `transformer`. Raises ConfigError where the file is
    missing, cut short or something else.
    """
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise ConfigError(
            f"{folder} holds no adapter_model.safetensors. Give the `adapter` folder of a checkpoint that "
            f"`st2llm finetune` wrote; other formats can run code and are not opened."
        )
    return {_from_peft(name, prefix): tensor for name, tensor in tensors(path).items()}


def merge(model: PreTrainedModel, folder: Path) -> None:
    """Adds a saved adapter to the weights themselves, in place: the model is then one without adapters.

    Raises ConfigError for a quantised model, and for an adapter that was made for another one.
    """
    if getattr(model, "is_quantized", False):
        raise ConfigError(
            "An adapter cannot be merged into quantised weights without loss. Load the model with quant: none."
        )
    weights = read_adapter(folder, prefix=model.base_model_prefix)
    settings = LoraConfig.from_pretrained(str(folder))
    injected = inject_adapter_in_model(settings, model)
    own = {name: p for name, p in injected.base_model.named_parameters() if is_adapter(name)}
    wrong = sorted(
        name
        for name in {*own, *weights}
        if getattr(own.get(name), "shape", 0) != getattr(weights.get(name), "shape", 1)
    )
    if wrong:
        raise ConfigError(
            f"The adapter in {folder} was made for another model: {wrong[0]} is "
            f"{_size(weights.get(wrong[0]))} there and {_size(own.get(wrong[0]))} here, and so for {len(wrong)} "
            f"weights. Take the base model that adapter_config.json names ({settings.base_model_name_or_path})."
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.data = weights[name].to(parameter.device, torch.float32)
    _fold(model)


def _fold(model: nn.Module) -> None:
    """Puts each adapted layer's sum in its place."""
    for name, layer in list(model.named_modules()):
        if hasattr(layer, "merge") and hasattr(layer, "get_base_layer"):
            layer.merge()
            above, _, last = name.rpartition(".")
            setattr(model.get_submodule(above), last, layer.get_base_layer())
    model.requires_grad_(False)


def _size(tensor: Tensor | None) -> str:
    return "not there" if tensor is None else f"of shape {tuple(tensor.shape)}"


def _to_peft(name: str, prefix: str) -> str:
    """`layers.0.self_attn.q_proj.lora_A.default.weight` as peft's files have it."""
    plain = name.replace(".default", "")
    if "lora_magnitude_vector" in plain:
        plain = plain.removesuffix(".weight")
    return f"{_PEFT}{prefix}.{plain}"


def _from_peft(name: str, prefix: str) -> str:
    own = name.removeprefix(_PEFT).removeprefix(f"{prefix}.")
    for part in ("lora_A", "lora_B"):
        own = own.replace(f".{part}.weight", f".{part}.default.weight")
    if own.endswith("lora_magnitude_vector"):
        own += ".default.weight"
    return own


def _last_layers(begin: int, depth: int) -> set[str]:
    """What names of weights hold that lie in a layer from `begin` on."""
    return {f".{i}." for i in range(begin, depth)}


def _depth(model: nn.Module) -> int:
    config = model.config.get_text_config()  # type: ignore[union-attr,operator]
    return int(config.num_hidden_layers)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D) or hasattr(module, "get_base_layer")


def _named(target: str, layers: Mapping[str, nn.Module]) -> Sequence[nn.Module]:
    """The layers that peft takes for the target: that is their name, or the end of it."""
    found = [m for name, m in layers.items() if name == target or name.endswith(f".{target}")]
    return [layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer for layer in found]  # type: ignore[operator]
