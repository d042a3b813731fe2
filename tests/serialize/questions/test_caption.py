"""Descriptions say what the visible values say, always the same of the same sample, and nothing of what is asked."""

from dataclasses import replace

import numpy as np
import pytest
from support import five_kinds

from st2llm.serialize.questions.caption import caption

SAMPLES = {
    "graph": five_kinds.field_samples(five_kinds.graph(), 48, 6)[3],
    "grid": five_kinds.field_samples(five_kinds.grid(30), 8, 1)[2],
    "trajectory": five_kinds.walk_sample(five_kinds.walk(12), 8),
    "stays": five_kinds.stay_sample(five_kinds.stays()),
    "event": five_kinds.event_samples(five_kinds.events(40), 12)[0],
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_has_one_caption_that_does_not_depend_on_what_is_asked(name):
    sample = SAMPLES[name]
    said = caption(sample)
    assert said.endswith(".") and ": " in said
    assert caption(sample) == said
    assert caption(sample.without_truth()) == said
    if sample.truth is not None:
        assert caption(replace(sample, truth=sample.truth + 100)) == said


def test_the_whole_field_is_told_with_its_day():
    said = caption(SAMPLES["graph"])
    day = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    sample = SAMPLES["graph"]
    last = int(sample.side.calendar.day_of_week[sample.first_wanted_step - 1])
    assert said.startswith(f"last day: {day[last]}; ")
    assert "highest place of all: Gate 2" in said
    assert "later half against earlier: about the same" in said


def test_a_rise_of_all_places_is_told():
    sample = SAMPLES["graph"]
    values = sample.values.copy()
    values[24:48] *= 1.5
    assert "later half against earlier: higher" in caption(replace(sample, values=values))
    values[24:48] *= 0.3
    assert "later half against earlier: lower" in caption(replace(sample, values=values))


def test_a_sample_of_which_nothing_can_be_told_says_so():
    sample = SAMPLES["trajectory"]
    still = replace(sample, values=np.where(sample.visible, 0.0, np.nan))
    assert caption(still).endswith(".")
