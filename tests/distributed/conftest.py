"""Fixtures of the tests of comparisons that several processes run."""

import pytest
from support import tiny_suite

from st2llm.evaluate.run.compare import compare


@pytest.fixture(scope="session")
def small_suite(card, tmp_path_factory):
    """The file of a suite of rules and one trained arm with a warmed-up encoder."""
    return tiny_suite.write_suite(tmp_path_factory.mktemp("shared") / "small.yaml", tiny_suite.small(card))


@pytest.fixture(scope="session")
def small_run(small_suite, tmp_path_factory):
    """Its run folder, made in this process. Only to be read."""
    out = tmp_path_factory.mktemp("shared-run") / "run"
    compare(small_suite, out=out, progress=False)
    return out


@pytest.fixture(scope="session")
def two_rules(card, tmp_path_factory):
    """The file of a suite of two rules."""
    predictors = tiny_suite.rules(card)["predictors"][:2]
    suite = tiny_suite.rules(card, predictors=predictors)
    return tiny_suite.write_suite(tmp_path_factory.mktemp("rules") / "rules.yaml", suite)
