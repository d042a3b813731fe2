import pytest

from st2llm.evaluate.report import formats


@pytest.mark.parametrize(
    ("value", "said"),
    [(26.134, "26.13"), (0.12044, "0.1204"), (1234.5, "1,234"), (164.13, "164.1"), (3.0612, "3.061"), (0.0, "0.0000"),
     (None, "–"), (float("nan"), "–"), (-0.25, "−0.2500"), (0.00001234, "1.23e-05")],
)  # fmt: skip
def test_a_metric_is_said_with_three_to_four_digits(value, said):
    assert formats.format_number(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(-0.0314, "−3.1 %"), (0.05, "+5.0 %"), (0.0001, "0.0 %"), (-1.16, "−116.0 %"), (None, "–")],
)
def test_a_gain_is_a_signed_percent_with_one_decimal(value, said):
    assert formats.format_gain(value) == said


def test_a_gain_of_scores_is_a_signed_difference():
    assert formats.format_gain(0.0312, relative=False) == "+3.1 points"
    assert formats.format_gain_interval(-0.01, 0.02) == "[−1.0, +2.0]"


def test_the_interval_of_a_gain_is_in_percent_and_empty_without_ends():
    assert formats.format_gain_interval(-0.050, -0.012) == "[−5.0, −1.2]"
    assert formats.format_gain_interval(None, None) == ""


def test_the_size_of_a_gain_has_no_sign():
    assert (formats.format_gain_size(-0.031), formats.format_gain_size(0.031)) == ("3.1 %", "3.1 %")


def test_counts_set_thousands_apart():
    assert (formats.format_count(50400), formats.format_large(134_515_008), formats.format_large(None)) == (
        "50,400",
        "134.5 M",
        "–",
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0004, "0.4 ms"), (2.1, "2.1 s"), (122.0, "2 min"), (7200.0, "2.0 h"), (0.0, "0 s"), (None, "–")],
)
def test_durations_come_in_the_unit_one_would_say(seconds, said):
    assert formats.format_duration(seconds) == said


def test_only_one_thing_is_singular():
    assert (formats.pluralize(1, "seed"), formats.pluralize(3, "seed")) == ("1 seed", "3 seeds")
