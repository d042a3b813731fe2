"""What tests of the comparison share: one tiny data set, one tiny language model, one finished run."""

import os
from pathlib import Path

import pytest
import tiny_suite

# Nothing that a test is told comes from an answer of an earlier one, and none is left in the user's own file.
os.environ["ST2LLM_ANSWERS"] = "off"


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
def finished(whole_suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of that suite, made without interruption by the command line. Only to be read."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    done = tiny_suite.st2llm("compare", whole_suite, "--out", out)
    assert done.returncode == 0, done.stderr
    (out.parent / "stdout.txt").write_text(done.stdout)
    (out.parent / "stderr.txt").write_text(done.stderr)
    return out
