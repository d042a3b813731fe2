"""Twelve planted leaks, each of another sort: the lint finds them all, and none in what they were planted into."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from support import five_kinds
from support.graph_samples import counts, forecast_sample
from support.text_samples import for_template, untimed

from st2llm.serialize.graph.text import GraphSerializer
from st2llm.serialize.lint.leaks import lint
from st2llm.serialize.template.template import Template, load_prompt, parse_template
from st2llm.types import Sample

DATASETS = {
    "queen-street": "Counters on a street in Auckland.",
    "los-loop": "Speeds of cars on highways of Los Angeles, measured by loop detectors in March.",
}


@dataclass(frozen=True)
class Planted:
    """A sound template on a sound sample, the same with a leak, and what the lint should say."""

    sound: tuple[Template, Sample]
    leaky: tuple[Template, Sample]
    finding: str
    examples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class HiddenMean(GraphSerializer):
    """Tells in words whether what is asked for is high."""

    def place_variables(self, sample):
        told = np.nan if sample.truth is None else np.nanmean(sample.truth)
        return super().place_variables(sample) | {"description": "busy" if told > 200 else "calm"}


def _graph() -> tuple[Template, Sample]:
    sample = forecast_sample(counts(192, 3))
    return load_prompt("graph/forecast"), sample.at(sample.place[0])


def _edited(template: Template, old: str, new: str) -> Template:
    head = (
        "---\nid: mine\nversion: 1\nkind: graph\ntask: forecast\nper: place\nanswer: {grammar: numbers}\n"
        "variables: [place, history, asked, description, notes]\n---\n"
    )
    body = (
        "{{ place }}: {{ description }}{% for note in notes %} {{ note }}{% endfor %}\n"
        "{% for line in history %}{{ line.label }}:{{ line.numbers }}\n{% endfor %}{{ asked }}:\n"
    )
    return parse_template(head + body.replace(old, new), "mine.md")


def _sided(sample: Sample, **side) -> Sample:
    return replace(sample, side=replace(sample.side, **side))


def _event() -> tuple[Template, Sample]:
    template = load_prompt("event/next-event")
    return template, for_template(template)["gap"]


def _truth_time(sample: Sample) -> int:
    return int(sample.time[-2]) + round(float(np.nansum(sample.truth)) * 3600)


def _value_in_words() -> Planted:
    template, sample = _graph()
    value = f"{sample.truth[170, 0, 0]:g}"
    return Planted(
        (template, sample), (_edited(template, "{{ place }}", f"About {value}."), sample), "a target value"
    )


def _statistic_in_words() -> Planted:
    template, sample = _graph()
    total = f"{np.nansum(sample.truth):g}"
    return Planted(
        (template, sample),
        (_edited(template, "{{ place }}", f"In all {total}."), sample),
        "the sum of the target",
    )


def _value_in_a_note() -> Planted:
    template, sample = _graph()
    leaky = _sided(sample, notes=(f"We expect {np.nanmax(sample.truth):g} people at noon.",))
    return Planted((template, sample), (template, leaky), "The note holds the number")


def _run_in_a_label() -> Planted:
    template, sample = _graph()
    run = " ".join(f"{v:g}" for v in sample.truth[170:174, 0, 0])
    leaky = _sided(sample, labels=(f"Queen Street {run}", "B", "C"))
    return Planted(
        (template, sample), (template, leaky), "The label of a place holds 3 or more target values in a row"
    )


def _hidden_statistic_by_code() -> Planted:
    template, sample = _graph()
    words = HiddenMean(template.serializer.notation, 2, 6)
    return Planted(
        (template, sample), (replace(template, serializer=words), sample), "changes with the future"
    )


def _visible_target() -> Planted:
    template, sample = _graph()
    values = np.where(sample.wanted, sample.truth, sample.values)
    leaky = replace(sample, visible=sample.visible | sample.wanted, values=values)
    return Planted((template, sample), (template, leaky), "overlap")


def _hidden_frames() -> Planted:
    template = load_prompt("video/forecast")
    sample = for_template(template)["left"]
    sample = sample.at(sample.place[sample.wanted_nodes[0]])
    frames = five_kinds.clip(step=-4).frames
    return Planted(
        (template, sample), (template, _sided(sample, frames=frames)), "hidden frames are included"
    )


def _class_in_a_name() -> Planted:
    template = load_prompt("video/classify")
    sound = for_template(template)["left"]
    told = _sided(sound, dataset="clips of left turns")
    body = "{{ dataset }}\nWhat is it? One of {{ options | join(', ') }}\n"
    head = (
        "---\nid: mine\nversion: 1\nkind: video\ntask: classify\nper: sample\nanswer: {grammar: choice}\n"
        "variables: [dataset, options]\n---\n"
    )
    mine = parse_template(head + body, "mine.md")
    return Planted((mine, sound), (mine, told), "The name of what is classified holds its label 'left'")


def _time_of_the_event() -> Planted:
    template, sample = _event()
    time = sample.time.copy()
    time[-1] = _truth_time(sample)
    return Planted(
        (template, sample),
        (template, replace(sample, time=time)),
        "asks for the next event, but holds its time",
    )


def _time_in_a_note() -> Planted:
    template, sample = _event()
    stamp = str(np.datetime64(_truth_time(sample), "s"))[:16].replace("T", " ")
    told = _sided(sample, notes=(f"The next report is of {stamp}.",), description=f"Last seen {stamp}.")
    return Planted((template, sample), (template, told), "the time")


def _calendar_of_the_next_place() -> Planted:
    template = load_prompt("trajectory/next-place.untimed")
    stay = five_kinds.stay_sample(five_kinds.stays())
    sound = untimed(stay)
    leaky = _sided(sound, calendar=stay.side.calendar)
    return Planted((template, sound), (template, leaky), "its calendar reveals it")


def _label_in_the_description() -> Planted:
    template = load_prompt("trajectory/next-place")
    sound = five_kinds.stay_sample(five_kinds.stays())
    leaky = _sided(sound, description=f"On its way to {sound.label}.")
    return Planted((template, sound), (template, leaky), "holds 'work', which is the answer")


def _example_of_the_future() -> Planted:
    template = load_prompt("graph/forecast.examples")
    _, sample = _graph()
    told = replace(sample, id="tomorrow", visible=np.ones_like(sample.visible))
    return Planted((template, sample), (template, sample), "The example tomorrow", (told,))


def _another_data_set() -> Planted:
    template, sample = _graph()
    words = "Speeds of cars on highways of Los Angeles, measured by loop detectors in March."
    return Planted(
        (template, sample),
        (_edited(template, "{{ place }}", words), sample),
        "description of the data set 'los-loop'",
    )


PLANTED = {
    "a target value in the template's words": _value_in_words,
    "a statistic of the target in the template's words": _statistic_in_words,
    "a target value in a note": _value_in_a_note,
    "target values in the label of a place": _run_in_a_label,
    "a variable computed from what is hidden": _hidden_statistic_by_code,
    "a target among the visible values": _visible_target,
    "frames of what is hidden": _hidden_frames,
    "the class in the name of the clip": _class_in_a_name,
    "the time of the event that is asked for": _time_of_the_event,
    "that time in words": _time_in_a_note,
    "the calendar of a time that is hidden": _calendar_of_the_next_place,
    "the label in the description": _label_in_the_description,
    "an example of the asked time": _example_of_the_future,
    "the description of another data set": _another_data_set,
}


def test_there_are_twelve_leaks_at_least():
    assert len(PLANTED) >= 12


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_is_found_and_what_it_was_planted_into_is_sound(name):
    planted = PLANTED[name]()
    assert lint(*planted.sound, DATASETS) == []
    found = lint(*planted.leaky, DATASETS, examples=planted.examples)
    assert any(planted.finding in finding for finding in found), found
