from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import five_kinds, weather
from support.text_samples import grids

from st2llm import tasks
from st2llm.data.windows import split
from st2llm.errors import ConfigError, DataError
from st2llm.serialize.grid import raster
from st2llm.serialize.grid.variables import PLACE_VARIABLES, SAMPLE_VARIABLES, TABLE_VARIABLES
from st2llm.serialize.template.template import load_prompt, parse_template
from st2llm.types import Layout

SEA = grids()["sea"]
COUNTS = grids()["counts"]


def cell(sample=SEA, place="r1c1"):
    return sample.at(place)


def test_the_words_are_those_that_templates_may_use():
    assert set(load_prompt("grid/forecast").serializer.variables(cell())) == set(PLACE_VARIABLES)
    assert set(load_prompt("grid/forecast.regions").serializer.variables(SEA)) == set(SAMPLE_VARIABLES)
    assert set(TABLE_VARIABLES) <= set(load_prompt("grid/describe").serializer.variables(SEA))


def test_a_table_has_north_on_top_whatever_way_the_rows_run_and_dashes_for_land():
    values = np.arange(12.0)
    values[0] = np.nan
    made = raster.coarse_table(SEA, values, 8)
    assert [line.label for line in made.rows] == ["60°N", "50°N", "40°N", "30°N"]
    assert made.columns == ("0°E", "10°E", "20°E") and made.each == "the value of a cell"
    assert made.rows[0].numbers == "-- 1 2" and made.rows[3].numbers == "9 10 11"
    layout = SEA.side.layout
    turned = replace(
        SEA, side=replace(SEA.side, layout=Layout(layout.rows[::-1].copy(), layout.cols, "degrees"))
    )
    assert [line.numbers for line in raster.coarse_table(turned, values, 8).rows] == [
        "9 10 11",
        "6 7 8",
        "3 4 5",
        "-- 1 2",
    ]


def test_a_coarse_table_averages_what_is_read():
    values = np.arange(12.0)
    values[0] = np.nan
    made = raster.coarse_table(SEA, values, 2)
    assert made.each == "the mean of 2 x 2 cells"
    assert made.rows[0].numbers.split() == [f"{np.mean([1, 3, 4]):.2f}", f"{np.mean([2, 5]):.2f}"]


def test_columns_beyond_180_degrees_are_west():
    layout = Layout(np.array([0.0]), np.array([170.0, 190.0, 359.0]), "degrees")
    sample = replace(
        SEA,
        values=SEA.values[:, :3],
        visible=SEA.visible[:, :3],
        wanted=SEA.wanted[:, :3],
        truth=SEA.truth[:, :3],
        place=SEA.place[:3],
        side=replace(SEA.side, layout=layout),
    )
    assert raster.coarse_table(sample, np.zeros(3), 0).columns == ("170°E", "170°W", "1°W")
    assert raster.cell_direction(sample, 0, 1) == "east" and raster.cell_direction(sample, 2, 0) == "east"


def test_the_greatest_cells_are_named_with_their_values():
    values = np.where(np.arange(12) == 7, 9.5, 1.0)
    assert raster.top_cells(SEA, values, 2) == ("40°N 10°E: 9.50", "60°N 0°E: 1.00")


def test_regions_are_named_by_compass_and_leave_out_land():
    names = [region.name for region in raster.compass_regions(SEA, 2)]
    assert names == ["north-west", "north-east", "south-west", "south-east"]
    (first, *_) = raster.compass_regions(SEA, 2)
    assert 0 not in first.nodes.tolist()
    assert [region.name for region in raster.compass_regions(SEA, 3)][:3] == [
        "north-west",
        "north",
        "north-east",
    ]
    assert raster.compass_regions(COUNTS, 2)[0].name == "rows 0-1, columns 0-1"


def test_a_cell_is_asked_like_a_place_with_the_cells_beside_it():
    words = load_prompt("grid/forecast").serializer.variables(cell())
    assert words["place"] == "50°N 10°E" and words["count"] == 3
    assert [line.where for line in words["neighbours"]] == ["north", "south", "west", "east"]


def test_regional_means_are_read_back_and_laid_over_the_cells():
    template = load_prompt("grid/forecast.regions")
    prompt = template.render(SEA)
    prediction = template.read(prompt.truth, SEA)
    asked = SEA.wanted
    assert np.isfinite(prediction.value[asked]).all() and np.isnan(prediction.value[~asked]).all()
    for region in raster.compass_regions(SEA, 2):
        want = raster.region_means(SEA, region, 0, SEA.truth)[SEA.first_wanted_step :]
        got = raster.region_means(SEA, region, 0, prediction.value)[SEA.first_wanted_step :]
        np.testing.assert_allclose(got, want, atol=0.005 + 1e-9)
    last = SEA.values[SEA.first_wanted_step - 1, :, 0]
    first, *_ = raster.compass_regions(SEA, 2)
    gaps = np.diff(prediction.value[SEA.first_wanted_step, first.nodes, 0])
    np.testing.assert_allclose(gaps, np.diff(last[first.nodes]))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(arrays(np.float64, (11, 12, 1), elements=st.floats(-1e5, 1e5) | st.integers(0, 900).map(float)))
def test_a_cell_is_read_back_within_the_precision(values):
    shown = np.where(SEA.visible, values, np.nan)
    sample = replace(SEA, values=shown, truth=np.where(SEA.wanted, values, np.nan)).at("r2c2")
    text = load_prompt("grid/forecast").serializer
    (one,) = text.cell._series.series(sample)
    want = np.clip(sample.truth[sample.wanted], *one.numbers.limits)
    read = text.read(text.truth(sample), sample).value[sample.wanted]
    assert np.abs(read - want).max() <= text.precision(sample) * (1 + 1e-9)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.text() | st.text(alphabet="0123456789,x.-: \n"))
def test_no_words_of_a_model_raise(text):
    for name, sample in (("grid/forecast", cell()), ("grid/forecast.regions", SEA), ("grid/describe", SEA)):
        prediction = load_prompt(name).read(text, sample)
        assert (prediction.unread_reason is None) == (
            prediction.value is not None or prediction.ranking is not None
        )


def test_questions_show_the_cells_that_they_name_in_full():
    sample = replace(COUNTS, question="Which is higher, row 2, column 1 or row 2, column 2?")
    named = load_prompt("grid/question-answer").serializer.variables(sample)["named"]
    assert [block.label for block in named] == ["row 2, column 1", "row 2, column 2"]


def test_masks_are_asked_cell_by_cell_and_words_of_the_whole_raster():
    head = "---\nid: m\nversion: 1\nkind: grid\ntask: {}\nper: {}\nanswer: {{grammar: {}}}\n---\nwords"
    with pytest.raises(ConfigError, match="cell by cell"):
        parse_template(head.format("impute", "sample", "numbers"), "m.md")
    with pytest.raises(ConfigError, match="whole raster"):
        parse_template(head.format("describe", "place", "text"), "m.md")


def test_a_sample_that_does_not_say_how_its_cells_lie_is_refused():
    with pytest.raises(DataError, match="does not say how its 12 cells lie"):
        load_prompt("grid/forecast.regions").render(replace(SEA, side=replace(SEA.side, layout=None)))


def _air(humidity):
    """A forecast of the temperature of a grid with its humidity as a covariate."""
    data = five_kinds.grid(24)
    data = replace(
        data,
        values=np.concatenate([data.values, 40 + data.values], axis=3),
        channels=("temperature", "humidity"),
        channel_details=(weather.TEMPERATURE, humidity),
    )
    return split(data, tasks.forecast(3, 2)).test[0]


@pytest.mark.parametrize("name", ["grid/forecast", "grid/forecast.regions"])
def test_covariates_are_shown_and_the_target_alone_is_asked_for(name):
    template, counts = load_prompt(name), []
    for humidity in (weather.COVARIATE, weather.KNOWN):
        sample = _air(humidity)
        sample = sample if name.endswith("regions") else sample.at("r1c1")
        prompt = template.render(sample)
        lines = [line for line in prompt.text.splitlines() if ":" in line and "relative humidity (%)" in line]
        counts.append(sum(len(line.split(":")[1].split(",")) for line in lines))
        assert "2 of" in prompt.text and "air temperature (degrees Celsius)" in prompt.text
        answer = template.read(prompt.truth, sample)
        assert np.isfinite(answer.value[sample.wanted]).all() and not np.isfinite(answer.value[..., 1]).any()
    assert 5 * counts[0] == 3 * counts[1] > 0  # three steps before the forecast, and two of it
