"""Plants each mistake of mutations.yaml in a copy of the package and runs the tests meant for it, which must fail.

make mutations, or: python tests/mutations/run.py [NAME...] [--workers N]

Prints `caught` or `NOT CAUGHT` for each mistake, and the seconds that its tests took. Exit status 1 where a mistake is
not caught, where its tests fail without it, or where the text that it replaces is no longer in the file.
"""

import argparse
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
FILE = HERE / "mutations.yaml"
COPIED = ("st2llm", "tests")
"""Folders that a workspace copies; it links all others."""
LIMIT_S = 300
FORK = multiprocessing.get_context("fork")
PRELOADED = (
    "accelerate",
    "hypothesis",
    "pandas",
    "peft",
    "scipy.stats",
    "sklearn.linear_model",
    "torch",
    "transformers",
)
"""Modules that most tests import; loaded once, before processes are forked."""
OPTIONS = ("-q", "-x", "--tb=no", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
_FAILED, _PASSED, _NOT_RUN = 1, 0, 70


@dataclass(frozen=True)
class Change:
    """A replacement in one file, whose old text occurs once."""

    file: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Raises ValueError where the old text does not occur exactly once."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.file} should hold {self.old!r} once, but holds it {count} times.")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True)
class Mutation:
    """A mistake, the changes that make it, and the tests of which at least one must fail. pitfall: its number."""

    name: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]
    pitfall: int | None


@dataclass(frozen=True)
class Result:
    """What became of a mutation: `caught`, or what went wrong."""

    name: str
    outcome: str
    seconds: float

    @property
    def caught(self) -> bool:
        return self.outcome == "caught"


def load() -> list[Mutation]:
    """All mutations, in the order of the file."""
    rows = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return [
        Mutation(
            row["name"],
            tuple(Change(c["file"], c["old"], c["new"]) for c in (row, *row.get("also", ()))),
            tuple(row["tests"]),
            row.get("pitfall"),
        )
        for row in rows
    ]


def make_workspace(folder: Path) -> Path:
    """A copy of the package and its tests in `folder`, with links to the other files of the repository."""
    for path in ROOT.iterdir():
        if path.name in COPIED:
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.name not in (".git", ".venv", "runs"):
            (folder / path.name).symlink_to(path)
    return folder


def run_tests(workspace: Path, tests: Sequence[str]) -> int:
    """The exit status of pytest on these tests, with the package of the workspace, in a process of its own."""
    child = FORK.Process(target=_run_pytest, args=(workspace, tests))
    child.start()
    child.join(LIMIT_S)
    if child.exitcode is None:
        child.kill()
        child.join()
    return int(child.exitcode or 0)


def _run_pytest(workspace: Path, tests: Sequence[str]) -> None:
    """Ends the process with the status of pytest, which is not 1 where pytest itself cannot run."""
    status = _NOT_RUN
    os.chdir(workspace)
    sys.path[:] = [str(workspace), *(path for path in sys.path if Path(path).resolve() not in (ROOT, HERE))]
    os.environ["PYTHONPATH"] = str(workspace)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            status = int(pytest.main([*OPTIONS, *tests]))
        finally:
            os._exit(status)


def plant(mutation: Mutation, workspace: Path) -> Result:
    """Plants one mistake, runs its tests, and takes it out again."""
    began = time.perf_counter()
    originals = {c.file: (workspace / c.file).read_bytes() for c in mutation.changes}
    try:
        for change in mutation.changes:
            change.apply(workspace)
        status = run_tests(workspace, mutation.tests)
        outcome = {_FAILED: "caught", _PASSED: "NOT CAUGHT"}.get(status, f"pytest ended with {status}")
    except ValueError as error:
        outcome = f"not tried: {error}"
    finally:
        for name, content in originals.items():
            (workspace / name).write_bytes(content)
    return Result(mutation.name, outcome, time.perf_counter() - began)


def run_all(mutations: Sequence[Mutation], folder: Path, workers: int) -> list[Result]:
    """Runs the tests without a mistake, then tries each mutation; each worker has a workspace of its own."""
    for name in PRELOADED:
        importlib.import_module(name)
    tests = tuple(dict.fromkeys(test for mutation in mutations for test in mutation.tests))
    jobs = [None, *mutations]
    with ProcessPoolExecutor(workers, mp_context=FORK) as pool:
        results = []
        for result in pool.map(_attempt, jobs, [tests] * len(jobs), [folder] * len(jobs)):
            print(f"{result.outcome:12s} {result.seconds:6.1f} s  {result.name}", flush=True)
            results.append(result)
    return results


def _attempt(mutation: Mutation | None, tests: Sequence[str], folder: Path) -> Result:
    workspace = folder / str(os.getpid())
    if not workspace.exists():
        workspace.mkdir()
        make_workspace(workspace)
    return sound(tests, workspace) if mutation is None else plant(mutation, workspace)


def sound(tests: Sequence[str], workspace: Path) -> Result:
    """Runs all tests without a mistake: those that fail anyway would catch everything."""
    began = time.perf_counter()
    status = run_tests(workspace, tests)
    outcome = "caught" if status == _PASSED else f"pytest ended with {status}"
    return Result("(all tests pass without a mistake)", outcome, time.perf_counter() - began)


def main() -> int:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    reader.add_argument("names", nargs="*", help="mutations to try; all without a name")
    reader.add_argument("--workers", type=int, default=2, help="mutations that are tried at a time")
    given = reader.parse_args()
    mutations = [m for m in load() if not given.names or m.name in given.names]
    if missing := set(given.names) - {m.name for m in mutations}:
        reader.error(f"unknown: {', '.join(sorted(missing))}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("ST2LLM_DATA", str(ROOT.parent / "shared" / "data"))
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as folder:
        results = run_all(mutations, Path(folder), given.workers)
    failed = [result.name for result in results if not result.caught]
    print(
        f"{len(results) - len(failed)} of {len(results)} as they should be"
        + "".join(f"\n  {n}" for n in failed)
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
