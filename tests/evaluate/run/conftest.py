"""Fixtures of the tests of runs."""

import shutil

import pytest
from support import tiny_suite

from st2llm.evaluate.run.compare import compare


@pytest.fixture
def rules(card, tmp_path):
    """The file of a suite without any training."""
    return tiny_suite.write_suite(tmp_path / "rules.yaml", tiny_suite.rules(card))


@pytest.fixture(scope="session")
def finished_rules(card, tmp_path_factory):
    """The run folder of that suite. Only to be read."""
    folder = tmp_path_factory.mktemp("rules")
    suite = tiny_suite.write_suite(folder / "rules.yaml", tiny_suite.rules(card))
    compare(suite, out=folder / "run", progress=False)
    return folder / "run"


@pytest.fixture
def rules_run(finished_rules, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(finished_rules, tmp_path / "run")
