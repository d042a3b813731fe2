"""Fixtures of the tests of runs."""

import pytest
from support import tiny_suite


@pytest.fixture
def rules(card, tmp_path):
    """The file of a suite without any training."""
    return tiny_suite.write_suite(tmp_path / "rules.yaml", tiny_suite.rules(card))
