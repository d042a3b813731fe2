"""Claims: read from words, matched to their last digit, and set against the effects."""

import pytest

from st2llm.errors import ConfigError
from st2llm.evaluate.audit.choices import Choice
from st2llm.evaluate.audit.claims import parse_claims


def test_claims_are_read_with_the_precision_that_they_are_given_in():
    mae, rmse = parse_claims(["MAE=3.10,RMSE=6"], 3.25)
    assert (mae.metric, mae.value, mae.tolerance, mae.margin) == ("mae", 3.1, 0.005, pytest.approx(0.15))
    assert (rmse.metric, rmse.tolerance, rmse.rival) == ("rmse", 0.5, None)
    assert [mae.matches(score) for score in (3.095, 3.105, 3.106)] == [True, True, False]


def test_a_higher_r2_is_the_better_one():
    (claim,) = parse_claims(["r2=0.91"], 0.90)
    assert claim.margin == pytest.approx(0.01)


@pytest.mark.parametrize("effect", [-0.2, 0.2])
def test_a_choice_is_enough_whichever_side_took_it(effect):
    (claim,) = parse_claims(["MAE=3.10"], 3.25)
    assert claim.enough(Choice("a", "a", "", {"mae": 3.2 + effect}, {"mae": 3.2}))
    assert not claim.enough(Choice("a", "a", "", {"mae": 3.2 + effect / 2}, {"mae": 3.2}))
    assert not claim.enough(Choice("a", "a", "", {"mae": 0.3}, {"mae": 3.2}, comparable=False))


@pytest.mark.parametrize(
    ("words", "rival", "message"),
    [
        (["MEA=3"], None, "METRIC=VALUE.*mae"),
        (["MAE"], None, "METRIC=VALUE"),
        (["MAE=low"], None, "METRIC=VALUE"),
        ([], 3.0, "Add --claims"),
    ],
)
def test_other_claims_are_refused(words, rival, message):
    with pytest.raises(ConfigError, match=message):
        parse_claims(words, rival)
