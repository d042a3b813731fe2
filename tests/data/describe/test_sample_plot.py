"""Every kind of sample has a page of plots: without a prediction, with one, and with one that could not be read."""

from dataclasses import replace

import numpy as np
import pytest
from support import five_kinds

from st2llm import tasks
from st2llm.data.describe.sample_plot import plot_predictions
from st2llm.data.windows.future import future_samples
from st2llm.errors import DataError
from st2llm.types import Prediction


def values(sample, value=3.0):
    quantiles = {level: np.full(sample.values.shape, value + level) for level in (0.05, 0.5, 0.95)}
    return Prediction(np.where(sample.wanted, value, np.nan), quantiles=quantiles)


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_series_show_at_most_six_places_with_their_interval():
    sample = five_kinds.field_samples(five_kinds.graph(3, nodes=9), 24, 6)[0]
    figure = values(sample).plot(sample)
    assert [axes.get_title() for axes in figure.axes] == [f"Gate {i}" for i in (0, 2, 3, 5, 6, 8)]
    assert legend(figure.axes[0]) == ["known", "true", "predicted", "5 to 95 %"]


SAMPLES = {
    "graph": five_kinds.field_samples(five_kinds.graph(3), 24, 6)[0],
    "grid": five_kinds.field_samples(five_kinds.grid(), 4, 2)[0],
    "video": five_kinds.clip_sample(five_kinds.clip()),
    "path": five_kinds.walk_sample(five_kinds.walk(), 8),
    "stays": five_kinds.stay_sample(five_kinds.stays()),
    "event": five_kinds.event_samples(five_kinds.events())[0],
}
TRUE = {
    "graph": ["known", "true"],
    "grid": ["known", "true"],
    "video": ["known"],
    "path": ["known", "true"],
    "stays": ["known", "true next place"],
    "event": ["events", "true"],
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_shows_what_is_known_and_true_and_no_truth_without_one(name):
    sample = SAMPLES[name]
    assert legend(sample.plot().axes[0]) == TRUE[name]
    assert legend(sample.without_truth().plot().axes[0]) == TRUE[name][:1]


@pytest.mark.parametrize(
    ("data", "task", "title"),
    [
        ([five_kinds.walk(6)], tasks.forecast(3, 2), "walker"),
        (five_kinds.events(20), tasks.next_event(5), "The next event of tiny-events"),
        ([five_kinds.clip(10)], tasks.forecast(4, 2), "r0c0"),
    ],
)
def test_each_kind_is_drawn_read_or_not(data, task, title):
    (sample,) = future_samples(data, task).samples
    read = values(sample).plot(sample)
    unread = Prediction(None, unread_reason="no number").plot(sample)
    assert title in read.axes[0].get_title() or read.axes[0].get_title() in sample.side.labels
    assert "not" in unread.axes[0].get_title()


def test_options_are_bars_with_their_probabilities_under_the_true_one():
    sample = five_kinds.clip_sample(five_kinds.clip())
    ranked = Prediction(None, ranking=("right", "left"), probabilities=(0.7, 0.3))
    (axes,) = ranked.plot(sample).axes
    assert [bar.get_width() for bar in axes.patches] == [0.7, 0.3]
    assert axes.get_yticklabels()[0].get_text().startswith("right")
    assert axes.get_title() == "tiny-video/left/0 (true: left)"


def test_draws_are_drawn_as_their_interval():
    sample = SAMPLES["graph"]
    draws = np.stack([np.where(sample.wanted, level, np.nan) for level in (0.0, 5.0, 10.0)])
    figure = Prediction(draws[1], samples=draws).plot(sample)
    assert legend(figure.axes[0])[-1] == "5 to 95 %"


def test_a_prediction_of_another_sample_is_refused():
    prediction = values(SAMPLES["graph"])
    with pytest.raises(DataError, match="has the shape .* Plot it with the sample"):
        prediction.plot(SAMPLES["path"])


def test_a_page_shows_the_last_sample_of_each_place_and_is_written_whole(tmp_path):
    samples = [replace(SAMPLES["path"], id=str(i)) for i in range(2)]
    file = tmp_path / "page.png"
    plot_predictions(samples, [values(sample) for sample in samples], file)
    assert file.read_bytes().startswith(b"\x89PNG") and list(tmp_path.iterdir()) == [file]
