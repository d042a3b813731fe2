"""Instructions of many samples are those of each sample, however few are rendered."""

from dataclasses import replace

import pytest

from st2llm.predict.preprocess.instruction import render_instruction, render_instructions
from st2llm.serialize.template.template import Template, load_prompt
from tests.support.graph_samples import forecast_sample
from tests.support.movement_samples import event_sample

SLOTS = 5


@pytest.fixture
def rendered(monkeypatch):
    """The ids of samples whose prompt was rendered."""
    ids, render = [], Template.render

    def counting(self, sample, **settings):
        ids.append(sample.id)
        return render(self, sample, **settings)

    monkeypatch.setattr(Template, "render", counting)
    return ids


def of_another_city(sample):
    return replace(sample, id="other", side=replace(sample.side, quantity="thefts"))


def test_what_only_names_the_data_set_is_rendered_once_for_each(rendered):
    sample = event_sample()
    samples = [sample, replace(sample, id="later"), of_another_city(sample), sample]
    template = load_prompt("event/next-event.soft")
    texts = render_instructions(template, samples, SLOTS)
    assert rendered == [sample.id, "other"]
    assert list(texts) == [render_instruction(template, each, SLOTS) for each in samples]
    assert len(set(texts)) == 2


def test_what_tells_the_days_of_a_sample_is_rendered_for_each(rendered):
    sample = forecast_sample()
    later = replace(sample, id="later", time=sample.time + 42 * 86_400)
    first, second = render_instructions(load_prompt("graph/forecast.soft"), [sample, later], SLOTS)
    assert rendered == [sample.id, "later"]
    assert first != second


def test_without_a_template_each_instruction_is_empty():
    assert render_instructions(None, [event_sample()] * 2, SLOTS) == ("", "")
