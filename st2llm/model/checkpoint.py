"""Checkpoint folders: weights as safetensors, all else as text; a folder is whole or not there."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from st2llm import config as settings
from st2llm.align.adapters import merge_adapter, read_adapter, save_adapter
from st2llm.align.weights import load_tensors
from st2llm.config.model import Adaptation
from st2llm.errors import ConfigError, StorageError
from st2llm.llm import load_llm
from st2llm.llm.local import LanguageModel, require_local

ENCODER, HEAD, OPTIMISER = "encoder.safetensors", "head.safetensors", "optimiser.safetensors"
ADAPTER, TUNED, BASE = "adapter", "llm.safetensors", "base.json"
_LLM = "backbone.base."
"""How the names of a language model's weights begin in arms and speakers."""
_OLD = ".old"


@dataclass(frozen=True)
class Beneath:
    """The language model that a checkpoint stands on, and what of it was trained."""

    llm: LanguageModel
    how: Adaptation

    def to_json(self) -> dict[str, Any]:
        llm = self.llm
        return {
            "id": llm.name,
            "revision": llm.revision,
            "sha256": llm.sha256,
            "depth": llm.depth,
            "depth_full": llm.depth_full,
            "dtype": str(llm.dtype).removeprefix("torch."),
            "quant": llm.quant,
            "prefix": llm.model.base_model_prefix,
        }


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder says in words and numbers; its weights are loaded by `load_into`.

    config: what the run was made from, with the shape of its module. state: step, rng, best and the curve so far.
    """

    folder: Path
    config: dict[str, Any]
    state: dict[str, Any]
    scaler: dict[str, Any]


def save(
    folder: Path,
    weights: Mapping[str, Tensor],
    *,
    config: Mapping[str, Any],
    state: Mapping[str, Any],
    scaler: Mapping[str, Any],
    card: str,
    optimiser: Mapping[str, Tensor] | None = None,
    beneath: Beneath | None = None,
) -> None:
    """Writes a folder beside `folder`, then puts it in its place: a fault or a kill leaves the earlier one.

    weights: by name, those of the encoder beginning with `encoder.`. card: the text of the model card. beneath: the
    language model, of which the trained weights alone are kept: adapters as peft writes them.
    Raises StorageError where the disk is full or the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    old = folder.with_name(f".{folder.name}{_OLD}")
    try:
        own, llms = _parted(weights)
        for name, part in own.items():
            if part or not llms:
                save_file(part, made / name)
        if beneath is not None:
            _save_beneath(made, llms, beneath)
        if optimiser is not None:
            save_file(
                {name: t.detach().cpu().contiguous() for name, t in optimiser.items()}, made / OPTIMISER
            )
        (made / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
        for name, content in (("state.json", state), ("scaler.json", scaler)):
            (made / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (made / "README.md").write_text(card, encoding="utf-8")
        made.chmod(0o755)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        made.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(made, ignore_errors=True)
        raise StorageError(
            f"The checkpoint {folder} could not be written: {getattr(error, 'strerror', None) or error}. What was "
            f"saved before is kept. Free space, then run again with --resume."
        ) from error


def _parted(weights: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Weights by the file that they go into, and those of the language model."""
    parts: dict[str, dict[str, Tensor]] = {ENCODER: {}, HEAD: {}}
    llms = {}
    for name, tensor in weights.items():
        plain = tensor.detach().cpu().contiguous()
        if name.startswith(_LLM):
            llms[name.removeprefix(_LLM)] = plain
            continue
        own = name.removeprefix("encoder.")
        parts[ENCODER if own != name else HEAD][own] = plain
    return parts, llms


def _save_beneath(folder: Path, weights: Mapping[str, Tensor], beneath: Beneath) -> None:
    (folder / BASE).write_text(json.dumps(beneath.to_json(), indent=1) + "\n", encoding="utf-8")
    if beneath.how.method == "lora":
        save_adapter(folder / ADAPTER, weights, beneath.how, beneath.llm.model, base=beneath.llm.name)
    elif weights:
        save_file(dict(weights), folder / TUNED)


def read(folder: Path) -> Checkpoint:
    """What a checkpoint folder says. A run's folder stands for its `best`. Raises ConfigError where it is none."""
    for place in (folder, folder / "best"):
        old = place.with_name(f".{place.name}{_OLD}")
        if not place.exists() and old.exists():  # killed between the two renames of `save`
            old.rename(place)
        if (place / "config.yaml").is_file():
            return Checkpoint(
                place, _yaml(place / "config.yaml"), _json(place / "state.json"), _json(place / "scaler.json")
            )
    raise ConfigError(
        f"{folder} is no checkpoint: neither it nor its `best` holds a config.yaml. Give the folder that "
        f"`st2llm pretrain --out` wrote."
    )


def weights_of(folder: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint folder by the names that `save` was given."""
    base = _json(folder / BASE) if (folder / BASE).exists() else None
    found: dict[str, Tensor] = {}
    if base is None or (folder / HEAD).exists() or (folder / ENCODER).exists():
        found = {f"encoder.{name}": tensor for name, tensor in load_tensors(folder / ENCODER).items()}
        found |= load_tensors(folder / HEAD)
    if base is not None and (folder / ADAPTER).exists():
        adapters = read_adapter(folder / ADAPTER, prefix=str(base["prefix"]))
        found |= {_LLM + name: tensor for name, tensor in adapters.items()}
    if (folder / TUNED).exists():
        found |= {_LLM + name: tensor for name, tensor in load_tensors(folder / TUNED).items()}
    return found


def check_base(folder: Path, llm: LanguageModel) -> None:
    """Raises ConfigError where the checkpoint was trained on another language model than this one."""
    if not (folder / BASE).exists():
        return
    base = _json(folder / BASE)
    for key, own in (("sha256", llm.sha256), ("depth", llm.depth)):
        if base.get(key) != own:
            raise ConfigError(
                f"{folder} was trained on {base.get('id')} ({key} {str(base.get(key))[:12]}), but the language model "
                f"is {llm.name} ({key} {str(own)[:12]}). Load the one that base.json names."
            )


def load_into(module: nn.Module, weights: Mapping[str, Tensor], *, where: str, only: str = "") -> None:
    """Puts trained weights into a module. only: those whose names begin so. ConfigError where they do not fit."""
    own = {name: p for name, p in module.named_parameters() if p.requires_grad and name.startswith(only)}
    lost = sorted(set(own) - set(weights))
    wrong = [n for n, p in own.items() if n in weights and weights[n].shape != p.shape]
    if lost or wrong:
        name = wrong[0] if wrong else lost[0]
        came = f"{tuple(weights[name].shape)}" if name in weights else "nothing"
        raise ConfigError(
            f"{where} does not fit: {name} should have the shape {tuple(own[name].shape)}, but {came} came, and so for "
            f"{len(lost) + len(wrong)} weights. Take the data, task and encoder that it was trained with."
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def start_from(module: nn.Module, folder: Path, *, heads: bool = False) -> None:
    """Puts in the encoder of another checkpoint; with `heads` also its heads, where they are of the same shapes.

    Raises ConfigError where there is no checkpoint, or its encoder does not fit.
    """
    place = read(folder).folder
    weights = weights_of(place)
    load_into(module, weights, where=str(place), only="encoder.")
    if heads:
        load_heads(module, weights)


def load_heads(module: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Puts in the weights of heads (up, down, head) that are there with the same shape; returns their names."""
    own = dict(module.named_parameters())
    heads = ("up.", "down.", "head.")
    fit = [n for n, t in weights.items() if n.startswith(heads) and n in own and own[n].shape == t.shape]
    with torch.no_grad():
        for name in fit:
            own[name].copy_(weights[name])
    return fit


def tuned(folder: Path, *, dtype: str = "auto") -> LanguageModel:
    """The language model of a checkpoint with what was trained of it in its weights: one without adapters.

    A model that was trained quantised is loaded without quantisation, since adapters cannot be merged into it. Raises
    ConfigError for a folder without a language model, and where the base model is not the one it was trained on.
    """
    place = read(folder).folder
    if not (place / BASE).exists():
        raise ConfigError(f"{folder} holds no {BASE}: it was trained without a language model.")
    base = _json(place / BASE)
    llm = require_local(load_llm(str(base["id"]), depth=int(base["depth"]), dtype=dtype))
    check_base(place, llm)
    if (place / ADAPTER).exists():
        merge_adapter(llm.model, place / ADAPTER)
    if (place / TUNED).exists():
        names = dict(llm.model.base_model.named_parameters())
        with torch.no_grad():
            for name, tensor in load_tensors(place / TUNED).items():
                names[name].copy_(tensor)
    llm.sha256 = f"{llm.sha256}+{sha256_of(place)}"
    return llm


def _yaml(path: Path) -> dict[str, Any]:
    content = settings.read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} should hold `key: value` lines. The checkpoint is damaged: get it again.")
    return content


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Train the checkpoint again.") from error
    return found


def sha256_of(folder: Path) -> str:
    """Hash of the weights of a checkpoint folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*.safetensors") if p.name != OPTIMISER):
        digest.update(path.read_bytes())
    return digest.hexdigest()
