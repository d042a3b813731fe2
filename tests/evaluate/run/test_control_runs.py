"""A control is the suite's own comparison: only the truths, the note and what the suite asks for differ."""

from dataclasses import replace

import numpy as np
import pytest
from support import tiny_suite

from st2llm import recipes
from st2llm.config.suite import Suite, load_suites
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.errors import ConfigError
from st2llm.evaluate.run import control_runs
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.progress import NO_PROGRESS
from st2llm.serialize.template.template import load_prompt

SUITES = [
    *(f"five-kinds-{kind}" for kind in ("graph", "grid", "video", "trajectory", "place", "event")),
    "graph-forecast",
    "demo",
]
ASKED_FOR = {"id", "instruction", "predictors", "controls"}


def inputs_of(card, **changes):
    predictors = [
        *tiny_suite.rules(card)["predictors"],
        {"name": "none", "family": "primitive", "backbone": "none"},
    ]
    content = tiny_suite.small(card, predictors=predictors, controls={"predictors": ["none"]}) | changes
    suite = Suite.model_validate(content)
    data, (task,) = load_data(suite.data), suite.tasks
    return Inputs(suite, TaskData(data, task, split(data, task, stride=24)), NO_PROGRESS)


def test_a_control_keeps_the_pipeline_of_its_suite(card):
    suite = inputs_of(card).suite
    control = control_runs.control_suite(suite, "negative")
    changed = {name for name in type(suite).model_fields if getattr(control, name) != getattr(suite, name)}
    assert changed <= ASKED_FOR
    assert [p.name for p in control.predictors] == ["none"]
    assert control.seeds == suite.seeds == [0, 1]


def test_a_control_has_as_many_windows_and_seeds_as_the_suite_asks_for(card):
    suite = inputs_of(card, controls={"predictors": ["none"], "windows": 21, "seeds": [1]}).suite
    control = control_runs.control_suite(suite, "negative")
    assert (control.windows.count, control.seeds) == (21, [1])


@pytest.mark.parametrize(
    "name", ["graph/forecast", "grid/forecast", "video/forecast", "trajectory/forecast", "trajectory/next-place",
             "event/next-event"],
)  # fmt: skip
def test_the_note_is_all_that_is_added_to_the_usual_instruction(name):
    soft = load_prompt(f"{name}.soft")
    texts = [
        recipes.locate(f"prompts/{name}.{ending}.md").read_text().split("---")[2]
        for ending in ("soft", "note")
    ]
    loop = "{% for note in notes %}\n{{ note }}\n{% endfor %}\n"
    if "notes" in soft.head.variables:
        assert loop in texts[0]
    else:
        assert texts[1].replace(loop, "") == texts[0]


@pytest.mark.parametrize("suite", SUITES)
def test_committed_suites_have_controls_with_every_part(suite):
    (found,) = load_suites(suite)
    arms = {"llm-random", "llm-frozen"}
    if not found.demo:
        arms |= {"llm-random-lora", "llm-lora"}
    assert arms <= set(found.controls.predictors)
    assert 0 in found.controls.strengths and max(found.controls.strengths) > 0
    assert control_runs.instruction_with_notes(found)
    names = {p.name for p in found.predictors}
    assert {"matched", "llm-random-lora"} <= names


def test_an_instruction_of_ones_own_must_show_notes(card):
    suite = inputs_of(card, instruction="graph/krige.soft").suite
    with pytest.raises(ConfigError, match="does not show notes"):
        control_runs.instruction_with_notes(suite)


@pytest.mark.parametrize("strength", [0.02, 0.4])
def test_a_perfect_use_of_the_note_gains_the_strength(card, strength):
    inputs = inputs_of(card)
    planting = control_runs._planting(inputs, strength)
    found = control_runs._planted_json(inputs, planting, strength)
    assert found["rule"] == "mean"
    assert found["gain"] == pytest.approx(strength, abs=0.1)
    samples = control_runs._windows_for_size(inputs)
    forecasts = [planting.forecast(sample) for sample in samples]
    errors = control_runs._errors(inputs, planting, samples, forecasts)
    assert control_runs._gain(inputs, *errors) == pytest.approx(strength, abs=1e-3)


def test_the_size_of_an_effect_is_found_on_many_windows_where_each_asks_for_few_values(card, monkeypatch):
    """Five validation windows alone had decided it here, and sixty at most."""
    inputs = inputs_of(card)
    parts = [len(inputs.validation), len(inputs.train)]
    assert len(control_runs._windows_for_size(inputs)) == sum(parts) > 40
    monkeypatch.setattr(control_runs, "_FEWEST_WINDOWS", 8)
    monkeypatch.setattr(control_runs, "_MOST_VALUES", 10 * int(inputs.train[0].wanted.sum()))
    chosen = control_runs._windows_for_size(inputs)
    assert len(chosen) == 10
    assert {sample.id for sample in chosen} <= {sample.id for sample in inputs.validation}


def test_a_negative_control_plants_the_same_effect_whatever_the_notes_say(card):
    """Without anything to learn, no arm moves, and a control of unequal budgets would pass."""
    inputs = inputs_of(card)
    planting = control_runs._planting(inputs, 0.0)
    samples = inputs.validation_samples()
    planted = [planting.plant(sample, "validation") for sample in samples]
    bare = [replace(planting, amount=0.0).plant(sample, "validation") for sample in samples]
    effect = planting.amount * planting.effect.unit
    assert effect.min() > 0
    for one, other in zip(planted, bare, strict=True):
        known = np.isfinite(other.truth)
        assert known.any()
        np.testing.assert_allclose(
            (one.truth - other.truth)[known], np.broadcast_to(effect, known.shape)[known]
        )
    assert len({sample.side.notes for sample in planted}) > 1
    assert [s.side.notes for s in planted] == [s.side.notes for s in bare]
    samples = control_runs._windows_for_size(inputs)
    errors = control_runs._errors(inputs, planting, samples, [planting.forecast(s) for s in samples])
    assert control_runs._gain(inputs, *errors) == pytest.approx(control_runs._COMMON_GAIN, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [({"skip": "ridge"}, "ridge-deviation"), ({"skip": "last"}, "last-value"), ({}, "mean"),
     ({"encoder": {"center_on": "slot"}}, "hour-of-week")],
)  # fmt: skip
def test_the_truth_is_made_from_the_forecast_of_untrained_arms(card, changes, rule):
    assert control_runs.untrained_rule(inputs_of(card, **changes).suite) == rule
