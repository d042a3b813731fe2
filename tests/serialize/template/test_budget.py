from dataclasses import replace

import numpy as np
import pytest
from support.graph_samples import counts, forecast_sample
from support.text_samples import grids, masked

from st2llm import tasks
from st2llm.errors import DataError
from st2llm.serialize.template.budget import plan_budget
from st2llm.serialize.template.template import load_prompt


class Letters:
    """A tokenizer with one token a character."""

    def encode(self, text):
        return [ord(char) for char in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


def questions(count=3):
    found = []
    for i in range(count):
        sample = forecast_sample(counts(96 + 24 * i, 3))
        found.append(sample.at(sample.place[0]))
    return found


def test_a_plan_says_what_each_prompt_costs_before_any_model_runs():
    template = load_prompt("graph/forecast")
    made = plan_budget(template, questions(), Letters())
    whole = [template.render(sample, tokenizer=Letters()).tokens for sample in questions()]
    assert [cost.full_tokens for cost in made.costs] == whole
    assert made.tokens == (min(whole), sorted(whole)[1], max(whole))
    assert made.complete == 3 and made.dropped == {}
    assert str(made) == f"3 prompts of {whole[0]} to {whole[2]} tokens, median {whole[1]}."


def test_a_plan_says_for_how_many_prompts_what_must_go():
    template = load_prompt("graph/forecast")
    costs = plan_budget(template, questions(), Letters()).costs
    made = plan_budget(template, questions(), Letters(), budget=costs[0].full_tokens)
    assert made.complete == 1 and made.dropped == {"neighbour": 2, "description": 1, "history": 1}
    assert all(cost.fitted_tokens <= costs[0].full_tokens for cost in made.costs)
    rendered = [
        template.render(s, budget=costs[0].full_tokens, tokenizer=Letters()).dropped for s in questions()
    ]
    assert [cost.dropped for cost in made.costs] == rendered


def test_a_prompt_that_cannot_fit_is_named_with_its_reason():
    made = plan_budget(load_prompt("graph/forecast"), questions(1), Letters(), budget=50)
    (cost,) = made.impossible
    assert cost.fitted_tokens is None and "even without" in cost.error
    assert "1 cannot fit" in str(made)


def test_examples_go_first_from_the_first_on():
    template, (sample, *solved) = load_prompt("graph/forecast.examples"), questions()
    solved = [replace(one, id=f"train/{i}") for i, one in enumerate(solved)]
    whole = template.render(sample, tokenizer=Letters(), examples=solved)
    made = plan_budget(template, [sample], Letters(), budget=whole.tokens - 1, examples=lambda _: solved)
    assert made.costs[0].dropped == ("example 1",)
    bare = template.render(sample, tokenizer=Letters())
    prompt = template.render(sample, budget=bare.tokens, tokenizer=Letters(), examples=solved)
    assert prompt.dropped == ("example 1", "example 2") and "Example" not in prompt.text


def test_a_line_with_an_entry_that_is_asked_for_never_goes():
    sample = masked(forecast_sample(counts(192, 3)), tasks.impute(192, 0.02))
    sample = sample.at(sample.place[sample.wanted_nodes[0]])
    template = load_prompt("graph/impute")
    whole = template.render(sample, tokenizer=Letters())
    prompt = None
    for budget in range(whole.tokens - 1, 0, -40):
        try:
            prompt = template.render(sample, budget=budget, tokenizer=Letters())
        except DataError:
            break
    assert prompt is not None and any(gone.startswith("history") for gone in prompt.dropped)
    assert prompt.text.count("?") == whole.text.count("?")


def test_a_place_that_nobody_measures_keeps_a_neighbour():
    for kind, base in (("graph", forecast_sample(counts(48, 3))), ("grid", grids()["sea"])):
        sample = masked(base, tasks.krige(len(base.time)))
        sample = sample.at(sample.place[sample.wanted_nodes[0]])
        words = load_prompt(f"{kind}/krige").serializer
        shown = {name: value for name, value in words.variables(sample).items() if name != "history"}
        *_, (_, left) = words.drop_order(shown)
        assert len(left["neighbours"]) == 1


def test_no_sample_is_no_plan():
    with pytest.raises(DataError, match="no sample"):
        plan_budget(load_prompt("graph/forecast"), [], Letters())


def test_the_parts_of_a_map_go_in_the_stated_order():
    sample = grids()["sea"]
    template = load_prompt("grid/forecast")
    asked = sample.at(sample.place[sample.wanted_nodes[0]])
    shown = {k: v for k, v in template.serializer.variables(asked).items() if k in template.body.variables}
    gone = [name.split()[0] for name, _ in template.serializer.drop_order(shown)]
    assert list(dict.fromkeys(gone)) == ["top", "table", "description", "neighbour"]
    assert np.isfinite(asked.truth[asked.wanted]).all()
