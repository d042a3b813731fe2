"""The amount of an effect is the smallest at which a perfect use of the note has the wanted gain."""

import pytest

from st2llm.errors import ConfigError
from st2llm.evaluate.controls.strength import find_amount


@pytest.mark.parametrize("strength", [0.01, 0.05, 0.4, 0.9])
def test_the_gain_at_the_amount_is_the_strength(strength):
    assert find_amount(strength, lambda amount: amount / (1 + amount)) == pytest.approx(
        strength / (1 - strength), rel=1e-4
    )


def test_no_strength_needs_no_effect():
    assert find_amount(0.0, lambda amount: -1.0) == 0.0


def test_an_impossible_strength_is_refused_with_the_possible_one():
    with pytest.raises(ConfigError, match=r"gain of 0.5 is not possible .* gains 0.2 at most"):
        find_amount(0.5, lambda amount: 0.2 * amount, most=1.0)
