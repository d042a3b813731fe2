"""Resolves the name of a language model to a local folder of safetensors, tokenizer and config, without importing
torch.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from filelock import FileLock
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of whichever client the installed version uses
)
from rich.console import Console
from rich.status import Status

import st2llm
from st2llm.data.fetch import cache_dir, is_verified, run_module, sha256_of
from st2llm.errors import ArtefactError, ConfigError, nearest
from st2llm.hub import PREFIX, offline
from st2llm.llm.gguf.licence import is_accepted, require_accepted
from st2llm.llm.gguf.packaged import PACKAGED_MODELS, PackagedModel, fetch_gguf

RANDOM = "random:"
MANIFEST = "manifest.json"
LAYOUT_VERSION = "v1"
"""Part of a converted folder's name; raised whenever the conversion changes what it writes."""


_ACCEPTED_NAMES = (
    f"a packaged model ({', '.join(PACKAGED_MODELS)}), a Hugging Face id (org/name or hub:org/name), a folder with "
    f"config.json, tokenizer.json and safetensors, a .gguf file, or random:<one of these>."
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SETTINGS_FILES = ["*.json", "*.jinja", "*.txt"]
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_CONFIG_FILES = ("config.json", "generation_config.json")
_BOOKKEEPING = ("_name_or_path", "transformers_version")
"""Keys of configs that say where and with what a model was saved; nothing is computed from them."""
GGUF_MAGIC = b"GGUF"
REFUSED_EXIT_CODE = 3
"""Exit code of a conversion whose last line says what is wrong with the GGUF."""
STAGE = "stage: "
"""Before the name of what a conversion does next, in its output."""


@dataclass(frozen=True)
class ModelFiles:
    """The folder of a model. pretrained: False where the weights are drawn at random (`random:<id>`)."""

    name: str
    folder: Path
    pretrained: bool

    @property
    def revision(self) -> str | None:
        """The commit in the Hugging Face repository of the name; None for a model from elsewhere."""
        from_hub = _HUB_ID.fullmatch(self.name) and not Path(self.name).is_dir()
        return self.folder.name if from_hub and self.folder.parent.name == "snapshots" else None

    @property
    def source(self) -> str:
        """What transformers' `from_pretrained` takes: the id in the hub (with `revision`), or the folder.

        The name itself for random weights, which lie nowhere.
        """
        return self.name if self.revision or not self.pretrained else str(self.folder.resolve())

    def weights(self) -> list[Path]:
        """The safetensors files of the folder, in order of name."""
        return sorted(self.folder.glob("*.safetensors"))

    def sha256(self) -> str:
        """The hash of the weights on disk: that of the single file, or a hash over the hashes of all shards."""
        digests = _read_manifest(self.folder) if (self.folder / MANIFEST).is_file() else {}
        shards = [digests.get(path.name) or sha256_of(path) for path in self.weights()]
        return shards[0] if len(shards) == 1 else _combined_digest(shards)


def tokenizer_sha256(folder: Path) -> str:
    """The hash of everything that turns a prompt into tokens: vocabulary, special tokens and chat template."""
    files = [folder / name for name in _TOKENIZER_FILES]
    return _combined_digest([f"{path.name}:{sha256_of(path)}\n" for path in files if path.is_file()])


def config_sha256(folder: Path) -> str:
    """The hash of the settings that a model computes with beside its weights (rotary embeddings, scales, norms) and of
    the tokens at which it stops.
    """
    configs = [_without_bookkeeping(folder / name) for name in _CONFIG_FILES]
    return hashlib.sha256(json.dumps(configs, sort_keys=True).encode()).hexdigest()


def _without_bookkeeping(path: Path) -> dict[str, object]:
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {key: value for key, value in content.items() if key not in _BOOKKEEPING}


def resolve(name: str) -> ModelFiles:
    """Finds, downloads or converts the model that `name` stands for.

    `hub:org/name` is the Hugging Face id org/name, also where there is a folder of that name. Raises ConfigError for a
    name that is no model, ArtefactError where a known model cannot be obtained.
    """
    pretrained = not name.startswith(RANDOM)
    plain_name = name.removeprefix(RANDOM)
    if plain_name.startswith(PREFIX) and _HUB_ID.fullmatch(plain_name.removeprefix(PREFIX)):
        plain_name = plain_name.removeprefix(PREFIX)
        folder = _checked_folder(_download(plain_name, weights=pretrained), weights=pretrained)
        return ModelFiles(plain_name if pretrained else f"{RANDOM}{plain_name}", folder, pretrained)
    return ModelFiles(name=name, folder=_model_folder(plain_name, weights=pretrained), pretrained=pretrained)


def _model_folder(name: str, *, weights: bool) -> Path:
    if name in PACKAGED_MODELS:
        return packaged_folder(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return _checked_folder(path, weights=weights)
    if path.suffix.lower() == ".gguf":
        return gguf_folder(path)
    if _HUB_ID.fullmatch(name):
        return _checked_folder(_download(name, weights=weights), weights=weights)
    raise ConfigError(
        f"{name!r} is not a language model that can be loaded here. {nearest(name, PACKAGED_MODELS)} "
        f"Give {_ACCEPTED_NAMES}"
    )


def _checked_folder(folder: Path, *, weights: bool) -> Path:
    for filename in ("config.json", "tokenizer.json"):
        if not (folder / filename).is_file():
            gguf = next(iter(sorted(folder.glob("*.gguf"))), None)
            raise ConfigError(
                f"The model folder {folder} has no {filename}. Save the model there with transformers' "
                f"`save_pretrained`, with its fast tokenizer"
                + (f", or give the GGUF in it by its own path: {gguf}." if gguf else ".")
            )
    if weights and not list(folder.glob("*.safetensors")):
        raise ConfigError(
            f"The model folder {folder} has no *.safetensors; pickled weights are not read. Save the model "
            f"there with transformers' `save_pretrained`, or ask for {RANDOM}{folder}."
        )
    return folder


def _download(name: str, *, weights: bool) -> Path:
    patterns = [*_SETTINGS_FILES, *(["*.safetensors"] if weights else [])]
    try:
        folder = huggingface_hub.snapshot_download(name, allow_patterns=patterns, local_files_only=offline())
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        if offline():
            raise ArtefactError(
                f"There is no folder {name!r}, the model of that name is not in the Hugging Face cache, and "
                f"ST2LLM_OFFLINE forbids fetching it. With the network on, run `hf download {name}`."
            ) from error
        raise ArtefactError(
            f"There is no folder {name!r}, and the Hugging Face model of that name could not be fetched: "
            f"{reason}. Check the name and the network. {nearest(name, PACKAGED_MODELS)}"
        ) from error
    return Path(folder)


def packaged_path(name: str) -> Path:
    """Where the converted folder of a packaged model is, or will be."""
    return cache_dir() / "llm" / f"{name}-{PACKAGED_MODELS[name].sha256[:12]}-{LAYOUT_VERSION}"


def is_packaged_here(name: str) -> bool:
    """Whether a packaged model has been converted on this machine, and its terms, if it has any, were accepted."""
    terms = PACKAGED_MODELS[name].terms
    return (packaged_path(name) / MANIFEST).is_file() and (terms is None or is_accepted(name, terms))


def packaged_folder(name: str) -> Path:
    """The folder of a packaged model, converted from its GGUF at first use; safe for concurrent processes.

    A damaged or incomplete folder is never returned; it is converted again. Raises ArtefactError where its terms were
    not accepted.
    """
    model, folder = PACKAGED_MODELS[name], packaged_path(name)
    if model.terms is not None:
        require_accepted(name, model.terms)
    if _is_intact(folder):
        return folder
    return _convert_once(folder, name, _fetch_gguf(name, model, damaged=folder.is_dir()))


def gguf_folder(path: Path) -> Path:
    """The folder of a local GGUF file, converted as packaged models are, once for each content.

    Raises ConfigError where there is no such file, ArtefactError where it is not a GGUF, is damaged, or holds a
    model that transformers cannot read.
    """
    if not path.is_file():
        raise ConfigError(
            f"There is no file {path}. GGUF files are read from disk: fetch it with `hf download`, or "
            f"correct the path."
        )
    with path.open("rb") as stream:
        magic = stream.read(len(GGUF_MAGIC))
    if magic != GGUF_MAGIC:
        raise ArtefactError(
            f"{path} is not a GGUF: it begins with {magic!r}, not {GGUF_MAGIC!r}. Perhaps a web page or a Git LFS "
            f"pointer was saved in its place; download it again."
        )
    folder = cache_dir() / "llm" / f"gguf-{sha256_of(path)[:16]}-{LAYOUT_VERSION}"
    return folder if _is_intact(folder) else _convert_once(folder, path.name, path)


def _convert_once(folder: Path, name: str, gguf: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if not _is_intact(folder):
            _build_atomically(folder, lambda target: _convert(name, gguf, target))
    return folder


def _fetch_gguf(name: str, model: PackagedModel, *, damaged: bool) -> Path:
    try:
        return fetch_gguf(name, model)
    except ArtefactError as error:
        if not damaged:
            raise
        raise ArtefactError(
            f"The cached weights of {name} are damaged (a file's sha256 differs from {MANIFEST}), and cannot "
            f"be converted anew: {error}"
        ) from error


def _is_intact(folder: Path) -> bool:
    """Whether every file that the manifest lists exists with the recorded sha256."""
    try:
        return all(is_verified(folder / name, digest) for name, digest in _read_manifest(folder).items())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return False


def _read_manifest(folder: Path) -> dict[str, str]:
    digests: dict[str, str] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return digests


def _build_atomically(folder: Path, build: Callable[[Path], None]) -> None:
    """Builds a folder in a temporary place and renames it, so that no process sees an incomplete folder."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-") as temporary:
        building = Path(temporary) / folder.name
        building.mkdir()
        build(building)
        digests = {path.name: sha256_of(path) for path in sorted(building.iterdir())}
        (building / MANIFEST).write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.move(folder, Path(temporary) / "damaged")
        building.rename(folder)
    _is_intact(folder)


def _convert(name: str, gguf: Path, target: Path) -> None:
    """Runs `st2llm.llm.gguf.convert` in a subprocess, so that this process does not import torch."""
    package_root = Path(st2llm.__file__).resolve().parents[1]
    title = f"Converting {name} to safetensors, once"
    with Console(stderr=True).status(title) as status:
        process = run_module(
            "st2llm.llm.gguf.convert",
            str(gguf.resolve()),
            str(target.resolve()),
            cwd=target.parent,
            search=[package_root],
            on_line=lambda line: _show_stage(status, title, line),
        )
    if not process.returncode:
        return
    stderr_lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
    if process.returncode == REFUSED_EXIT_CODE:
        raise ArtefactError(stderr_lines[-1])
    raise ArtefactError(
        f"{gguf} could not be converted to safetensors in {target.parent}: {stderr_lines[-1]}. Check the free space "
        f"there and the installed transformers and gguf, then try again."
    )


def _show_stage(status: Status, title: str, line: str) -> None:
    if line.startswith(STAGE):
        status.update(f"{title}: {line.removeprefix(STAGE)}")


def _combined_digest(digests: list[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def weight_mib(folder: Path) -> float:
    """The size of the weights in a model's folder."""
    files = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".bin", ".gguf")]
    return sum(path.stat().st_size for path in files) / 2**20
