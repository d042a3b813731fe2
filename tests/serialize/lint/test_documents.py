from dataclasses import replace

import numpy as np
import pytest
from support.graph_samples import counts, forecast_sample

from st2llm.serialize.lint.documents import count_documents
from st2llm.serialize.lint.leaks import lint
from st2llm.serialize.lint.numbers_in_text import stated_number
from st2llm.serialize.template.template import load_prompt
from st2llm.types import Document

TEMPLATE = load_prompt("graph/forecast")


def sample_with(*texts, published=None):
    plain = forecast_sample(counts(192, 3) * 7 + 1)
    at = plain.last_known_time if published is None else published
    documents = tuple(Document(text, at - 10, at, at, "", "news") for text in texts)
    return replace(plain, side=replace(plain.side, documents=documents)).at(plain.place[0])


def truth(sample):
    return sample.truth[np.isfinite(sample.truth)]


def test_a_document_that_states_the_target_is_found_and_others_are_not():
    value = int(truth(sample_with())[5])
    leak = f"The counter will show {value:,} people at five."
    assert lint(TEMPLATE, sample_with("It rained for 40 days.")) == []
    assert any("target value" in finding for finding in lint(TEMPLATE, sample_with("Rain.", leak)))
    counted = count_documents([sample_with("Rain.", leak), sample_with()])
    assert (counted.samples, counted.without, counted.shown, counted.distinct) == (2, 1, 2, 2)
    assert counted.stating == 1 and "The counter" in str(counted)


def test_a_document_of_the_future_that_a_window_attached_is_found():
    late = sample_with("Rain.", published=sample_with().last_known_time + 1)
    assert any("after the last known time" in finding for finding in lint(TEMPLATE, late))


def test_the_label_is_looked_for_in_documents_about_the_time_of_the_target_alone():
    old = replace(sample_with("The street is closed."), label="closed")
    steps = old.time[old.wanted_steps]
    about = replace(old.side.documents[0], end=int(steps[0]))
    now = replace(old, side=replace(old.side, documents=(about,)))
    assert not any("which is the answer" in finding for finding in lint(TEMPLATE, old))
    assert any(
        "The document 'The street is closed.' holds 'closed'" in finding for finding in lint(TEMPLATE, now)
    )


@pytest.mark.parametrize(
    ("text", "values", "number"),
    [
        ("travel was 275.5 billion miles", [275_496.0], "275.5"),
        ("a deficit of $93,221.5 million", [-93_221.5], "93221.5"),
        ("2.03 percent", [2.03183], "2.03"),
        ("about 2.0 percent", [2.03183], None),
        ("12 of 2019", [2.03183], None),
        ("code A123", [123.0], None),
        ("", [1.0], None),
    ],
)
def test_a_number_states_a_value_as_far_as_it_is_written(text, values, number):
    assert stated_number(text, values) == number
