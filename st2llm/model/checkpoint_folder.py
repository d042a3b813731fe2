"""Where a checkpoint is: a folder, a run's folder, or a repository of the Hugging Face hub. It works without torch."""

import re
from pathlib import Path

from st2llm import hub
from st2llm.errors import ConfigError

OLD_SUFFIX = ".old"
"""The end of the name of the earlier state of a checkpoint while it is replaced."""
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def find_checkpoint(name: str | Path) -> Path:
    """The folder with the files of a checkpoint.

    name: such a folder, or a run's folder, which stands for its `best`; or a repository of the hub, written
    `hub:owner/name[@revision]`, or `owner/name` where there is no folder `owner`. Repositories are downloaded into the
    cache of the Hugging Face hub. Raises ConfigError for a folder or repository without a checkpoint, ArtefactError
    where a repository cannot be had.
    """
    if (found := _in_folder(Path(name))) is not None:
        return found
    repository = _repository(str(name))
    if repository is None:
        raise ConfigError(
            f"{name} is not a checkpoint: neither it nor its `best` has a config.yaml. Give the folder that "
            f"`st2llm pretrain --out` wrote, or a repository of the hub: hub:owner/name."
        )
    identifier, revision = repository
    if (found := _in_folder(hub.local_folder(hub.PREFIX + identifier, revision=revision))) is not None:
        return found
    raise ConfigError(
        f"The repository {name} is not a checkpoint: it has no config.yaml. Give one that `st2llm push` wrote."
    )


def is_checkpoint(name: str | Path) -> bool:
    """Whether a name stands for a checkpoint: a folder as `find_checkpoint` takes it, or `hub:owner/name` with one.

    An id without `hub:` is that of a language model. Raises ArtefactError where the repository cannot be had.
    """
    if not str(name).startswith(hub.PREFIX):
        return _in_folder(Path(name)) is not None
    repository = _repository(str(name))
    return repository is not None and hub.has_file(repository[0], "config.yaml", revision=repository[1])


def _in_folder(folder: Path) -> Path | None:
    """The folder itself or its `best`, whichever is a checkpoint; None where neither is."""
    for candidate in (folder, folder / "best"):
        previous = candidate.with_name(f".{candidate.name}{OLD_SUFFIX}")
        if (
            not candidate.exists() and previous.exists()
        ):  # killed between the two renames of `save_checkpoint`
            previous.rename(candidate)
        if (candidate / "config.yaml").is_file():
            return candidate
    return None


def _repository(name: str) -> tuple[str, str | None] | None:
    """The id and the revision of a repository; None for a name that is a path."""
    identifier = name.removeprefix(hub.PREFIX)
    if not _REPOSITORY.fullmatch(identifier):
        if name.startswith(hub.PREFIX):
            raise ConfigError(f"{name} should be written hub:owner/name or hub:owner/name@revision.")
        return None
    if not name.startswith(hub.PREFIX) and Path(name).parent.exists():
        return None
    repository, _, revision = identifier.partition("@")
    return repository, revision or None
