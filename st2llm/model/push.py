"""Copies a checkpoint to a folder or to a repository of a hub, as it is or merged into a plain model."""

import json
import shutil
import tempfile
from pathlib import Path

from st2llm.errors import ConfigError, StorageError
from st2llm.hub import PREFIX, require_network, upload
from st2llm.llm.model_files import resolve
from st2llm.model import checkpoint
from st2llm.model.adapter_card import merged_card

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")


def push_checkpoint(folder: Path, target: str, *, merged: bool = False) -> str:
    """Copies a checkpoint (a run's best state) to `target` and returns its location.

    target: a folder that does not exist yet, written as a path (./tuned, /data/tuned), or a repository of a
    hub, written `hub:owner/name`. merged: write the language model with its trained weights merged, in
    transformers' format, instead of the adapters. Raises ConfigError for a folder that is not a checkpoint, an
    existing target, a merge without trained language model weights, or a link in the checkpoint to a file outside of
    it; StorageError where the hub or the disk
    refuses.
    """
    loaded = checkpoint.read_checkpoint(folder)
    _refuse_links_outside(loaded.folder)
    is_folder = not target.startswith(PREFIX)
    if not is_folder:
        require_network(target)
    if is_folder and Path(target).exists():
        raise ConfigError(f"{target} exists already. Name a new folder, or remove this one first.")
    with tempfile.TemporaryDirectory(dir=Path(target).absolute().parent if is_folder else None) as temporary:
        prepared = Path(temporary) / "made"
        try:
            _merge(loaded.folder, prepared) if merged else shutil.copytree(loaded.folder, prepared)
            if is_folder:
                prepared.rename(target)
                return target
            _name_base_by_id(prepared)
            return upload(prepared, target.removeprefix(PREFIX))
        except OSError as error:
            raise StorageError(
                f"{target} could not be written: {error.strerror or error}. Nothing of it is left."
            ) from error


def _name_base_by_id(folder: Path) -> None:
    """Names the base model of an adapter by its id instead of a folder of this machine, which nobody else has."""
    path = folder / checkpoint.ADAPTER / "adapter_config.json"
    if not path.is_file():
        return
    settings, base = json.loads(path.read_text(encoding="utf-8")), checkpoint.read_base(folder)
    local = settings["base_model_name_or_path"]
    if Path(local).is_absolute():
        settings["base_model_name_or_path"] = base["id"]
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        card = folder / "README.md"
        card.write_text(card.read_text(encoding="utf-8").replace(local, str(base["id"])), encoding="utf-8")


def _refuse_links_outside(folder: Path) -> None:
    """Raises ConfigError for a link to a file outside the folder: pushing would publish that file.

    The cache of the hub keeps the files of a checkpoint as links into its own folder of blobs; these are allowed.
    """
    whole = folder.resolve()
    inside = [whole]
    if "snapshots" in whole.parts:
        inside.append(Path(*whole.parts[: whole.parts.index("snapshots")], "blobs"))
    for path in folder.rglob("*"):
        if path.is_symlink() and not any(path.resolve().is_relative_to(place) for place in inside):
            raise ConfigError(
                f"{path} is a link to {path.resolve()}, outside the checkpoint, and would be copied with it. Remove "
                f"the link, or put the file itself there."
            )


def _merge(folder: Path, out: Path) -> None:
    llm = checkpoint.load_finetuned_llm(folder, dtype="fp32")
    if not (folder / checkpoint.ADAPTER).exists() and not (folder / checkpoint.LLM_WEIGHTS).exists():
        raise ConfigError(f"{folder} has no trained language model weights, so there is nothing to merge.")
    llm.model.save_pretrained(out)
    source = resolve(llm.name).folder
    for name in _TOKENIZER:
        if (source / name).is_file():
            shutil.copy(source / name, out / name)
    card = merged_card(
        (folder / "README.md").read_text(encoding="utf-8"),
        checkpoint.read_base(folder),
        has_encoder=(folder / checkpoint.ENCODER).exists(),
    )
    (out / "README.md").write_text(card, encoding="utf-8")
