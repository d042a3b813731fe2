"""What a prompt states of the visible values, counted by hand and by changing them."""

from dataclasses import replace

import numpy as np
import pytest
from support.graph_samples import counts, forecast_sample
from support.text_samples import for_template, narrowed

from st2llm.serialize.template.template import load_prompt
from st2llm.serialize.text.told import count_told, told_entries
from st2llm.types import ToldValues

HISTORY, RECENT = 168, 6


class Words:
    """A tokenizer with one token a character."""

    def encode(self, text):
        return list(text)


def test_a_forecast_of_one_place_tells_its_history_and_the_latest_values_of_its_neighbours():
    sample = forecast_sample().at("7-queen-street")
    template = load_prompt("graph/forecast")
    recent = template.head.settings["recent"]
    neighbours = min(
        template.head.settings["neighbours"], len(sample.side.neighbours[sample.wanted_nodes[0]])
    )
    told = template.render(sample).told
    assert told == ToldValues(HISTORY + neighbours * recent, HISTORY * len(sample.place))
    assert told.share == pytest.approx(told.values / told.visible)


def test_missing_values_are_neither_visible_nor_told():
    gone = np.arange(192) % 50 == 7
    sample = forecast_sample(np.where(gone[:, None], np.nan, counts(192, 3))).at("7-queen-street")
    told = load_prompt("graph/forecast").render(sample).told
    assert told.visible == 3 * (HISTORY - gone[:HISTORY].sum())
    assert told.values <= HISTORY - gone[:HISTORY].sum() + 2 * RECENT


def test_what_a_budget_drops_is_not_told():
    template, sample = load_prompt("graph/forecast"), forecast_sample().at("7-queen-street")
    whole = template.render(sample, tokenizer=Words())
    shorter = template.render(sample, tokenizer=Words(), budget=whole.tokens - 200)
    assert shorter.dropped
    assert shorter.told.values < whole.told.values
    assert shorter.told.visible == whole.told.visible


def test_the_grid_prompt_without_its_table_tells_fewer_values_than_with_it():
    template = load_prompt("grid/forecast")
    sample = narrowed(template, for_template(template)["counts"])
    whole = template.render(sample, tokenizer=Words())
    shorter = template.render(sample, tokenizer=Words(), budget=whole.tokens - 300)
    assert any("table" in part or "cell" in part for part in shorter.dropped)
    assert shorter.told.values < whole.told.values < whole.told.visible


def test_a_path_is_told_with_both_coordinates_of_each_fix_and_examples_do_not_count():
    template = load_prompt("trajectory/forecast.examples")
    sample = next(iter(for_template(template).values()))
    known = int((sample.visible & np.isfinite(sample.values)).sum())
    solved = replace(sample, id="another")
    assert template.render(sample, examples=[solved]).told == ToldValues(known, known)


def test_means_of_regions_tell_no_value():
    variables = {"regions": load_prompt("grid/forecast").serializer.variables(grid())["regions"]}
    assert variables["regions"]
    assert count_told(grid(), variables).values == 0


def grid():
    template = load_prompt("grid/forecast")
    return narrowed(template, for_template(template)["counts"])


@pytest.mark.parametrize("name", ["graph/forecast", "graph/anomaly", "grid/forecast", "video/forecast"])
def test_each_told_value_changes_the_prompt_and_the_others_are_not_stated(name):
    template = load_prompt(name)
    sample = narrowed(template, next(iter(for_template(template).values())))
    variables = template.serializer.variables(sample)
    used = {key: value for key, value in variables.items() if key in template.body.variables}
    entries = np.flatnonzero(told_entries(sample, used, template.body.attributes))
    assert len(entries) == template.render(sample).told.values > 0
    before = template.render(sample).text
    for entry in np.random.default_rng(0).choice(entries, 8, replace=False):
        values = sample.values.copy()
        values.ravel()[entry] += 0.4 * np.ptp(values[sample.visible])
        assert template.render(replace(sample, values=values)).text != before
