"""Folders in repositories of the Hugging Face hub: downloaded and uploaded."""

import os
import re
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of whichever client the installed version uses
)

from st2llm.errors import ArtefactError, ConfigError, StorageError

PREFIX = "hub:"
_ID = re.compile(r"[\w.-]+/[\w.-]+")


def local_folder(source: str | Path, *, revision: str | None = None) -> Path:
    """A folder as it is, or the local copy of a repository of the hub: `owner/name`, also written `hub:owner/name`.

    revision: a branch, tag or commit of the repository. Raises ConfigError for what is neither, ArtefactError where the
    repository cannot be had.
    """
    if Path(source).is_dir():
        return Path(source)
    name = str(source).removeprefix(PREFIX)
    if not _ID.fullmatch(name):
        raise ConfigError(
            f"There is no folder {source}, and it is no repository of a hub. Give an existing folder, or owner/name."
        )
    local_only = offline()
    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=local_only))
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtefactError(
            f"There is no folder {source}, and the repository {name} of the hub could not be had: {reason}. Check the "
            f"name and the network"
            + (
                ", or unset ST2LLM_OFFLINE."
                if local_only
                else ", and log in where it is private (hf auth login)."
            )
        ) from error


def has_file(repository: str, name: str, *, revision: str | None = None) -> bool:
    """Whether a repository, owner/name, has a file of this name; offline, whether its local copy has.

    Raises ArtefactError where the repository cannot be had.
    """
    try:
        hf_hub_download(repository, name, revision=revision, local_files_only=offline())
    except EntryNotFoundError:
        return False
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtefactError(
            f"The repository {repository} of the hub could not be had: {reason}. Check the name and the network, and "
            f"log in where it is private (hf auth login)."
        ) from error
    return True


def upload(folder: Path, repository: str) -> str:
    """Uploads a folder to a repository, which is made private where it does not exist; returns its address.

    repository: owner/name. Raises StorageError where the hub refuses, or cannot be reached.
    """
    require_network(f"{PREFIX}{repository}")
    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True, private=True)
        return str(api.upload_folder(repo_id=repository, folder_path=str(folder)))
    except (HfHubHTTPError, HFValidationError) as error:
        raise StorageError(
            f"The hub refused {PREFIX}{repository}: {error}. Log in (hf auth login), or check the name."
        ) from error
    except (HTTPError, ConnectionError, TimeoutError) as error:
        raise StorageError(
            f"The hub could not be reached for {PREFIX}{repository}: {error}. Check the network, or name a folder."
        ) from error


def require_network(target: str) -> None:
    """Raises StorageError where the network must not be used. target: what would be written, for the message."""
    if offline():
        raise StorageError(
            f"{target} is on the hub, but ST2LLM_OFFLINE forbids to use the network. Unset it, or name a folder."
        )


def offline() -> bool:
    """Whether the network must not be used: `$ST2LLM_OFFLINE` is set to anything but 0."""
    return os.environ.get("ST2LLM_OFFLINE", "0") not in ("", "0")
