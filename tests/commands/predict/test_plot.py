"""Every kind of prediction has a page of plots, also one that could not be read."""

import numpy as np
import pytest
from support import five_kinds

from st2llm import tasks
from st2llm.commands.predict import plot
from st2llm.data.windows.future import future_samples
from st2llm.types import Prediction


def drawn(samples, predictions, monkeypatch):
    """The figure that would be written."""
    pages = []

    def keep(draw, data, file):
        figure = plot.Figure()
        draw(figure, data)
        pages.append(figure)

    monkeypatch.setattr(plot, "save_page", keep)
    plot.plot_predictions(samples, predictions, None)
    return pages[0]


def values(sample, value=3.0):
    quantiles = {level: np.full(sample.values.shape, value + level) for level in (0.05, 0.5, 0.95)}
    return Prediction(np.where(sample.wanted, value, np.nan), quantiles=quantiles)


def test_series_show_at_most_six_places_with_their_interval(monkeypatch):
    sample = five_kinds.field_samples(five_kinds.graph(3, nodes=9), 24, 6)[0]
    figure = drawn([sample], [values(sample)], monkeypatch)
    assert [axes.get_title() for axes in figure.axes] == [f"Gate {i}" for i in (0, 2, 3, 5, 6, 8)]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "known",
        "true",
        "predicted",
        "5 to 95 %",
    ]


@pytest.mark.parametrize(
    ("data", "task", "title"),
    [
        ([five_kinds.walk(6)], tasks.forecast(3, 2), "walker"),
        (five_kinds.events(20), tasks.next_event(5), "The next event of tiny-events"),
        ([five_kinds.clip(10)], tasks.forecast(4, 2), "r0c0"),
    ],
)
def test_each_kind_is_drawn_read_or_not(data, task, title, monkeypatch):
    (sample,) = future_samples(data, task).samples
    read = drawn([sample], [values(sample)], monkeypatch)
    unread = drawn([sample], [Prediction(None, unread_reason="no number")], monkeypatch)
    assert title in read.axes[0].get_title() or read.axes[0].get_title() in sample.side.labels
    assert "not" in unread.axes[0].get_title()


def test_options_are_bars_with_their_probabilities(monkeypatch):
    sample = five_kinds.clip_sample(five_kinds.clip()).without_truth()
    ranked = Prediction(None, ranking=("right", "left"), probabilities=(0.7, 0.3))
    (axes,) = drawn([sample], [ranked], monkeypatch).axes
    assert [bar.get_width() for bar in axes.patches] == [0.7, 0.3]
    assert axes.get_yticklabels()[0].get_text().startswith("right")
