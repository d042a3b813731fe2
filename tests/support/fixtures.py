"""Fixtures of the whole run: tiny language models, one tiny data set, and one finished run folder, each made once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from st2llm.types import Numbers, Prompt, Slot, TemplateId
from support import tiny_suite
from support.command_line import run_cli
from support.families import family
from support.tiny_llm import tiny

__all__ = ["card", "family", "finished", "llama", "prompt", "tiny", "whole_suite"]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test, and a fixture that is made for it, draws the same numbers alone and after others."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def prompt() -> Callable[..., Prompt]:
    """A prompt of plain words: prompt(text, grammar, messages=..., slots=...)."""

    def make(text: str, grammar: Numbers | None = None, messages=(), slots: tuple[Slot, ...] = ()) -> Prompt:
        identity = TemplateId("t", 1, "")
        return Prompt(messages=messages, parts=(text, *slots), truth="", template=identity, grammar=grammar)

    return make


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The card of three places, 80 days of hours."""
    return tiny_suite.write_card(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a language model of two layers."""
    return tiny_suite.write_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def whole_suite(card: Path, llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite file with every family, two seeds and both controls."""
    folder = tmp_path_factory.mktemp("suite")
    return tiny_suite.write_suite(folder / "everything.yaml", tiny_suite.everything(card, llama))


@pytest.fixture(scope="session")
def finished(whole_suite: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The run folder of that suite, made without interruption by the command line. Only to be read.

    All workers of a test run read one folder: the first that needs it makes it, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "finished-run"
    out = shared / "finished"
    with FileLock(shared.with_suffix(".lock")):
        if not (shared / "stdout.txt").exists():
            done = run_cli("compare", whole_suite, "--out", out, **tiny_suite.ENVIRONMENT)
            assert done.returncode == 0, done.stderr
            (shared / "stderr.txt").write_text(done.stderr)
            (shared / "stdout.txt").write_text(done.stdout)
    return out
