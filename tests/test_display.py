"""Data, splits, samples, prompts, templates, models and predictions are shown in a line or a small table."""

import html
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from support import five_kinds, weather

import st2llm
from st2llm.display import ContainerList, span_text, step_text
from st2llm.errors import DataError
from st2llm.types import Prediction, TrainingWindows

DATA = {
    "graph": five_kinds.graph(60),
    "grid": five_kinds.grid(40),
    "clips": ContainerList([five_kinds.clip(60)] * 3),
    "walks": ContainerList([five_kinds.walk(900)] * 3),
    "stays": five_kinds.stays(),
    "events": five_kinds.events(900),
}
SHOWN = {
    "graph": "SensorGraph(name=tiny-graph, places=3, edges=4, channels=count, steps=1,440, step=1 h, "
    "time=2024-01-01 00:00 to 2024-02-29 23:00 (UTC), quantity=people an hour, unit=people)",
    "grid": "Grid(name=tiny-grid, cells=4 x 3, channels=sst, steps=40, step=1 day, "
    "time=2024-01-01 00:00 to 2024-02-09 00:00 (UTC), quantity=sea surface temperature, unit=°C)",
    "clips": "ContainerList(name=tiny-video, clips=3, frames=180, fps=10, classes=left, right)",
    "walks": "ContainerList(name=tiny-walks, trajectories=3, fixes=2,700, "
    "time=2024-01-01 00:00 to 2024-01-01 14:59 (UTC), quantity=positions)",
    "stays": "Trajectory(name=tiny-stays, id=user-1, fixes=6, "
    "time=2024-01-01 00:00 to 2024-01-02 18:00 (UTC), places=3)",
}


@pytest.mark.parametrize("name", SHOWN)
def test_data_are_shown_by_their_size_their_time_and_their_unit(name):
    assert repr(DATA[name]) == SHOWN[name]


def test_channels_of_different_units_are_shown_with_the_unit_and_role_of_each():
    shown = repr(weather.stations(weather.COVARIATE))
    assert "channels=temperature (degrees Celsius), humidity (%, covariate), steps" in shown
    assert "unit=" not in shown


def samples():
    sample = five_kinds.field_samples(DATA["graph"], 24, 6)[0]
    prompt = st2llm.load_prompt("graph/forecast").render(sample.at("gate-1"))
    prediction = Prediction(np.where(sample.wanted, 3.0, np.nan), quantiles={0.5: sample.values})
    unread = Prediction(None, raw="I cannot say.", unread_reason="no number")
    splits = st2llm.split(DATA["graph"], st2llm.tasks.forecast(24, 6))
    return [sample, prompt, prediction, unread, splits, splits.train, st2llm.load_prompt("graph/forecast")]


@pytest.mark.parametrize("shown", [*DATA.values(), *samples()], ids=lambda shown: type(shown).__name__)
def test_nothing_fills_a_terminal_or_a_notebook(shown):
    assert len(repr(shown)) < 600 and "\n" not in repr(shown)
    assert len(shown._repr_html_()) < 8_000
    opened = re.findall(r"<(\w+)", shown._repr_html_())
    assert sorted(opened) == sorted(re.findall(r"</(\w+)", shown._repr_html_()))


def test_names_and_texts_of_others_are_escaped_in_notebooks():
    wicked = "<script>alert(1)</script>"
    shown = [
        replace(DATA["graph"], name=wicked, unit=wicked),
        ContainerList([replace(five_kinds.walk(), name=wicked)]),
        Prediction(None, raw=wicked, unread_reason=wicked),
        replace(samples()[1], parts=(wicked,)),
    ]
    for one in shown:
        assert "<script" not in one._repr_html_() and html.escape(wicked) in one._repr_html_()


def test_a_long_text_is_shortened_in_notebooks_and_left_out_of_a_line():
    shown = Prediction(None, raw="word " * 10_000, unread_reason="too long")
    assert repr(shown) == "Prediction(unread_reason=too long)"
    assert "more characters]" in shown._repr_html_() and len(shown._repr_html_()) < 21_000


def test_windows_and_splits_count_their_samples():
    splits = st2llm.split(DATA["graph"], st2llm.tasks.forecast(24, 6))
    counts = [len(part) for part in (splits.train, splits.validation, splits.test)]
    assert repr(splits) == "Splits(train={:,}, validation={:,}, test={:,})".format(*counts)
    assert repr(TrainingWindows([])) == "TrainingWindows(samples=0)"


@pytest.mark.parametrize("name", DATA)
def test_data_of_every_kind_plot_themselves(name):
    page = DATA[name].plot()
    assert page.axes and page.get_suptitle().startswith("tiny-")


def test_a_figure_is_shown_by_notebooks_without_pyplot():
    assert DATA["stays"].plot()._repr_png_().startswith(b"\x89PNG")


def test_a_list_of_objects_stays_one_when_it_is_cut_and_an_empty_one_is_not_drawn():
    walks = DATA["walks"]
    assert type(walks[:2]) is ContainerList and walks[0] is next(iter(walks))
    assert repr(walks[:0]) == "ContainerList(length=0)"
    with pytest.raises(DataError, match="no clip or object"):
        walks[:0].plot()


def test_steps_and_times_are_those_of_the_local_clock():
    assert [*map(step_text, (300, 3600, 86_400, 2_629_746, 90))] == [
        "5 min",
        "1 h",
        "1 day",
        "1 month",
        "90 s",
    ]
    span = partial(span_text, timezone="Pacific/Auckland")
    assert span(0, 0) == "1970-01-01 12:00 to 1970-01-01 12:00 (Pacific/Auckland)"
