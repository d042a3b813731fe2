"""Checkpoint folders: weights as safetensors, everything else as text; a folder is written completely or not at
all.
"""

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
from st2llm.data.windows.fitted_on import FittedOn
from st2llm.errors import ConfigError, DataError, StorageError
from st2llm.files import sync, sync_folder
from st2llm.llm import load_llm
from st2llm.llm.architecture.base_model import base_of, base_prefix
from st2llm.llm.local import LanguageModel, require_local
from st2llm.model.adapter_card import adapter_section
from st2llm.model.checkpoint_folder import OLD_SUFFIX, find_checkpoint
from st2llm.types import Sample
from st2llm.types.axes import FIELD_KINDS, FieldAxes

ENCODER, HEAD, OPTIMISER = "encoder.safetensors", "head.safetensors", "optimiser.safetensors"
ADAPTER, LLM_WEIGHTS, BASE = "adapter", "llm.safetensors", "base.json"
_LLM_PREFIX = "backbone.base."
"""Prefix of the names of a language model's weights in arms and prompted models."""
_SETTINGS = ("config.yaml", "config.json", "scaler.json", "adapter_config.json")
"""Files beside the weights that predictions depend on: those of a checkpoint, of a model's folder and of peft."""
PLACE_EMBEDDINGS = "encoder.embed.node.weight"
"""The name of the embeddings of the places, a row each."""


@dataclass(frozen=True)
class BaseModel:
    """The language model that a checkpoint was trained on, and which of its weights were trained."""

    llm: LanguageModel
    adaptation: Adaptation

    def to_json(self) -> dict[str, Any]:
        llm = self.llm
        return {
            "id": llm.name,
            "revision": llm.revision,
            "sha256": llm.sha256,
            "config_sha256": llm.config_sha256,
            "depth": llm.depth,
            "depth_full": llm.depth_full,
            "dtype": str(llm.dtype).removeprefix("torch."),
            "quant": llm.quant,
            "prefix": base_prefix(llm.model),
        }


@dataclass(frozen=True)
class Checkpoint:
    """The settings and state in a checkpoint folder; `load_into` loads its weights.

    config: the settings of the run, with the shape of its module. state: step, rng, best, the learning curve so far,
    and what the run was fitted on.
    """

    folder: Path
    config: dict[str, Any]
    state: dict[str, Any]
    scaler: dict[str, Any]


def save_checkpoint(
    folder: Path,
    weights: Mapping[str, Tensor],
    *,
    config: Mapping[str, Any],
    state: Mapping[str, Any],
    scaler: Mapping[str, Any],
    card: str,
    optimiser: Mapping[str, Tensor] | None = None,
    base_model: BaseModel | None = None,
) -> None:
    """Writes a temporary folder and renames it to `folder`; an error or a kill leaves the earlier checkpoint
    intact.

    weights: by name; those of the encoder begin with `encoder.`. card: the text of the model card. base_model:
    the language model, of which only trained weights are written: adapters in peft's format. Raises
    StorageError where the disk is full or the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    previous = folder.with_name(f".{folder.name}{OLD_SUFFIX}")
    try:
        own_weights, llm_weights = _split_weights(weights)
        for name, part in own_weights.items():
            if part or not llm_weights:
                save_file(part, temporary / name)
        if base_model is not None:
            _save_base_model(temporary, llm_weights, base_model)
        if optimiser is not None:
            save_file(
                {name: t.detach().cpu().contiguous() for name, t in optimiser.items()}, temporary / OPTIMISER
            )
        (temporary / "config.yaml").write_text(
            yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8"
        )
        for name, content in (("state.json", state), ("scaler.json", scaler)):
            (temporary / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        with_adapter = base_model is not None and base_model.adaptation.method == "lora"
        usage = adapter_section(base_model.llm) if base_model is not None and with_adapter else ""
        (temporary / "README.md").write_text(card + usage, encoding="utf-8")
        temporary.chmod(0o755)
        sync_folder(temporary)
        shutil.rmtree(previous, ignore_errors=True)
        if folder.exists():
            folder.rename(previous)
        temporary.rename(folder)
        sync(folder.parent)
        shutil.rmtree(previous, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"The checkpoint {folder} could not be written: {getattr(error, 'strerror', None) or error}. The "
            f"earlier checkpoint is kept. Free space, then run again with --resume."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _split_weights(weights: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Weights by target file, and those of the language model."""
    by_file: dict[str, dict[str, Tensor]] = {ENCODER: {}, HEAD: {}}
    llm_weights = {}
    for name, tensor in weights.items():
        tensor_on_cpu = tensor.detach().cpu().contiguous()
        if name.startswith(_LLM_PREFIX):
            llm_weights[name.removeprefix(_LLM_PREFIX)] = tensor_on_cpu
            continue
        short_name = name.removeprefix("encoder.")
        by_file[ENCODER if short_name != name else HEAD][short_name] = tensor_on_cpu
    return by_file, llm_weights


def _save_base_model(folder: Path, weights: Mapping[str, Tensor], base_model: BaseModel) -> None:
    (folder / BASE).write_text(json.dumps(base_model.to_json(), indent=1) + "\n", encoding="utf-8")
    if base_model.adaptation.method == "lora":
        llm = base_model.llm
        save_adapter(
            folder / ADAPTER,
            weights,
            base_model.adaptation,
            llm.model,
            base=llm.source,
            revision=llm.revision,
        )
    elif weights:
        save_file(dict(weights), folder / LLM_WEIGHTS)


def read_checkpoint(name: str | Path) -> Checkpoint:
    """Reads the settings and state of a checkpoint folder, the `best` of a run's folder, or a repository of the hub.

    Raises ConfigError and ArtefactError as `find_checkpoint` does.
    """
    folder = find_checkpoint(name)
    return Checkpoint(
        folder,
        _read_yaml(folder / "config.yaml"),
        _read_json(folder / "state.json"),
        _read_json(folder / "scaler.json"),
    )


def checkpoint_fitted_on(checkpoint: Checkpoint) -> FittedOn:
    """What a checkpoint was fitted on, with all that it was initialised from; unknown for one of an earlier version."""
    if "fitted_on" in checkpoint.state:
        return FittedOn.from_json(checkpoint.state["fitted_on"])
    return FittedOn(unknown=(f"the checkpoint {checkpoint.folder}",))


def load_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint folder by the names that `save_checkpoint` was given."""
    base = _read_json(folder / BASE) if (folder / BASE).exists() else None
    weights: dict[str, Tensor] = {}
    if base is None or (folder / HEAD).exists() or (folder / ENCODER).exists():
        weights = {f"encoder.{name}": tensor for name, tensor in load_tensors(folder / ENCODER).items()}
        weights |= load_tensors(folder / HEAD)
    if base is not None and (folder / ADAPTER).exists():
        adapters = read_adapter(folder / ADAPTER, prefix=str(base["prefix"]))
        weights |= {_LLM_PREFIX + name: tensor for name, tensor in adapters.items()}
    if (folder / LLM_WEIGHTS).exists():
        weights |= {_LLM_PREFIX + name: tensor for name, tensor in load_tensors(folder / LLM_WEIGHTS).items()}
    return weights


def read_base(folder: Path) -> dict[str, Any]:
    """The language model that base.json of a checkpoint folder names. Raises ConfigError where there is none."""
    if not (folder / BASE).exists():
        raise ConfigError(f"{folder} holds no {BASE}: it was trained without a language model.")
    return _read_json(folder / BASE)


def check_base_model(folder: Path, llm: LanguageModel) -> None:
    """Raises ConfigError where the checkpoint was trained on another language model than this one."""
    if not (folder / BASE).exists():
        return
    base = _read_json(folder / BASE)
    base.setdefault("config_sha256", llm.config_sha256)  # earlier versions did not record it
    for key in ("sha256", "config_sha256", "depth"):
        if base.get(key) != (expected := getattr(llm, key)):
            raise ConfigError(
                f"{folder} was trained on {base.get('id')} ({key} {str(base.get(key))[:12]}), but the language model "
                f"is {llm.name} ({key} {str(expected)[:12]}). Load the one that base.json names."
            )


def load_into(module: nn.Module, weights: Mapping[str, Tensor], *, source: str, prefix: str = "") -> None:
    """Loads trained weights into a module. prefix: only names that begin so. Raises ConfigError where they do not
    fit.
    """
    own = {name: p for name, p in module.named_parameters() if p.requires_grad and name.startswith(prefix)}
    missing = sorted(set(own) - set(weights))
    mismatched = [n for n, p in own.items() if n in weights and weights[n].shape != p.shape]
    if missing or mismatched:
        name = mismatched[0] if mismatched else missing[0]
        received = f"{tuple(weights[name].shape)}" if name in weights else "nothing"
        raise ConfigError(
            f"{source} does not fit: {name} should have the shape {tuple(own[name].shape)}, but {received} "
            f"came; {len(missing) + len(mismatched)} weights differ. Take the data, task and encoder "
            f"that it was trained with."
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def field_axes(source: Checkpoint) -> FieldAxes:
    """The places and channels that a checkpoint of a field knows. Raises DataError where it does not name them."""
    axes = FieldAxes.from_json(source.config)
    if axes is None:
        raise DataError(
            f"{source.folder / 'config.yaml'} does not name the places and channels that the checkpoint knows, so they "
            f"cannot be matched. Add the lists `places` and `channels` in the order of its training data, or train it "
            f"again."
        )
    return axes


def load_encoder(module: nn.Module, folder: Path, sample: Sample, *, heads: bool = False) -> None:
    """Loads the encoder of another checkpoint; with `heads` also its heads, where their shapes are equal.

    sample: one that the module will read; the embeddings of its places are matched by id. Raises ConfigError where
    there is no checkpoint, or its encoder does not fit, and DataError where it knows other places.
    """
    source = read_checkpoint(folder)
    checkpoint_folder = source.folder
    weights = load_weights(checkpoint_folder)
    own = dict(module.named_parameters()).get(PLACE_EMBEDDINGS)
    if own is not None and own.requires_grad and PLACE_EMBEDDINGS in weights and sample.kind in FIELD_KINDS:
        rows = field_axes(source).positions(sample, str(checkpoint_folder))
        weights[PLACE_EMBEDDINGS] = weights[PLACE_EMBEDDINGS][torch.from_numpy(rows)]
    load_into(module, weights, source=str(checkpoint_folder), prefix="encoder.")
    if heads:
        load_heads(module, weights)


def load_heads(module: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Loads the weights of up, down and head that exist with the same shape; returns their names."""
    own = dict(module.named_parameters())
    heads = ("up.", "down.", "head.")
    matching = [n for n, t in weights.items() if n.startswith(heads) and n in own and own[n].shape == t.shape]
    with torch.no_grad():
        for name in matching:
            own[name].copy_(weights[name])
    return matching


def base_model_id(folder: Path) -> str:
    """The name of the language model that a checkpoint was trained on. Raises ConfigError where there is none."""
    return str(read_base(read_checkpoint(folder).folder)["id"])


def load_finetuned_llm(folder: Path, *, dtype: str = "auto") -> LanguageModel:
    """The language model of a checkpoint with its trained weights merged, without adapters.

    A model that was trained quantised is loaded without quantisation, since adapters cannot be merged into
    quantised weights. Raises ConfigError for a folder without a language model, and where the base model is not
    the one it was trained on.
    """
    checkpoint_folder = read_checkpoint(folder).folder
    base = read_base(checkpoint_folder)
    llm = require_local(load_llm(str(base["id"]), depth=int(base["depth"]), dtype=dtype))
    check_base_model(checkpoint_folder, llm)
    if (checkpoint_folder / ADAPTER).exists():
        merge_adapter(llm.model, checkpoint_folder / ADAPTER)
    if (checkpoint_folder / LLM_WEIGHTS).exists():
        names = dict(base_of(llm.model).named_parameters())
        with torch.no_grad():
            for name, tensor in load_tensors(checkpoint_folder / LLM_WEIGHTS).items():
                names[name].copy_(tensor)
    llm.sha256 = f"{llm.sha256}+{sha256_of(checkpoint_folder)}"
    return llm


def _read_yaml(path: Path) -> dict[str, Any]:
    content = settings.read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} should hold `key: value` lines. The checkpoint is damaged: get it again.")
    return content


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Train the checkpoint again.") from error
    return content


def sha256_of(folder: Path) -> str:
    """A hash of all that a checkpoint predicts from: its weights, settings and scaler."""
    digest = hashlib.sha256()
    weights = (path for path in folder.rglob("*.safetensors") if path.name != OPTIMISER)
    settings = (path for path in folder.rglob("*") if path.name in _SETTINGS)
    for path in sorted([*weights, *settings]):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
