"""Code blocks of a Markdown page: how they are marked, and how they are run."""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from st2llm.cli import main

ROOT = Path(__file__).resolve().parents[2]
RUN = {"python", "bash"}  # languages that are executed
PARSED = {"yaml": yaml.safe_load, "json": json.loads, "toml": tomllib.loads}
UNCHECKED = {"text", "csv", "markdown", "bibtex"}
MARKERS = {"slow", "skip", "output", "file", "fails"}

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)(?: .*)?$")
_MARKER = re.compile(r"^ *<!-- test: (?P<name>[a-z]+)(?: (?P<rest>.*?))? -->$")
_SHELL = re.compile(r"[|><;&$`*]")
_PORT = "8123"  # of servers in pages; in a test a free port stands in its place
_CLONE = ("prompts", "alignment", "evaluation", "examples")  # what a page may name, as in a clone


@dataclass(frozen=True)
class Block:
    """A fenced code block. line: where its code starts, from 1. markers: name to argument."""

    language: str
    code: str
    line: int
    markers: dict[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        return self.language in RUN and "skip" not in self.markers


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in order. A marker counts for the block that follows it directly."""
    found: list[Block] = []
    markers: dict[str, str] = {}
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), start=1))
    for number, line in lines:
        if marker := _MARKER.match(line):
            markers[marker["name"]] = marker["rest"] or ""
        elif fence := _FENCE.match(line):
            code = _until_the_fence_closes(lines, fence["indent"])
            found.append(Block(fence["language"], code, number + 1, markers))
            markers = {}
        elif line.strip():
            markers = {}
    return found


def _until_the_fence_closes(lines: Iterator[tuple[int, str]], indent: str) -> str:
    code = []
    for _, line in lines:
        if line.rstrip() == f"{indent}```":
            return textwrap.dedent("\n".join(code)) + "\n"
        code.append(line)
    raise AssertionError("A code block is not closed.")


class Session:
    """Runs the blocks of one page in one folder and one namespace, and remembers the last output."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.page, self.folder = page, folder
        self.namespace: dict[str, object] = {"__name__": "__main__"}
        self.output: str | None = None
        self.port = _free_port()
        for name in _CLONE:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("reports"))

    def run(self, block: Block, *, slow: bool) -> None:
        """Runs, writes, parses or compares a block, as its language and markers say."""
        block = replace(block, code=block.code.replace(_PORT, self.port))
        if block.runs:
            left_out = "slow" in block.markers and not slow
            self.output = None if left_out else self._execute(block)
        elif block.language in RUN:
            self.output = None
        elif "file" in block.markers:
            path = self.folder / block.markers["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")
        elif block.language in PARSED:
            PARSED[block.language](block.code)
        elif "output" in block.markers and self.output is not None:
            assert_same_output(self.output, block.code, f"{self.page.name}:{block.line}")

    def _execute(self, block: Block) -> str:
        if block.language == "python":
            return self._execute_python(block)
        return "".join(self._execute_command(line, block) for line in _commands(block.code))

    def _execute_python(self, block: Block) -> str:
        # Empty lines before the code give tracebacks the line numbers of the page.
        code = compile("\n" * (block.line - 1) + block.code, str(self.page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, self.namespace)
        return printed.getvalue()

    def _execute_command(self, line: str, block: Block) -> str:
        if line.startswith("st2llm ") and not _SHELL.search(line):
            code, printed = _call_st2llm(shlex.split(line)[1:])
        else:
            code, printed = _call_shell(line, self.folder)
        failed = code != 0
        assert failed == ("fails" in block.markers), f"{line!r} ended with {code}:\n{printed}"
        return printed


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _commands(code: str) -> list[str]:
    joined = code.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def _call_st2llm(arguments: list[str]) -> tuple[int, str]:
    """The command line in this process: torch is imported once for all pages."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as leaving:
            code = leaving.code or 0
    assert isinstance(code, int)
    return code, out.getvalue() + (err.getvalue() if code else "")


def _call_shell(line: str, folder: Path) -> tuple[int, str]:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, "PATH": programs, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


def assert_same_output(printed: str, expected: str, where: str) -> None:
    """Compares word by word; `...` in what is expected stands for anything."""
    pieces = [r"\s+".join(map(re.escape, piece.split())) for piece in expected.split("...")]
    pattern = r"\s*" + r".*?".join(rf"\s*{piece}\s*" for piece in pieces)
    assert re.fullmatch(pattern, printed, re.DOTALL), f"{where} shows\n{expected}\nbut it printed\n{printed}"
