import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from st2llm.evaluate.report.figures.labels import label_lines, label_points


@pytest.fixture
def chart():
    figure = Figure(figsize=(5, 4))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_ylim(0, 100)
    axes.set_xlim(0, 10)
    return figure, axes


def test_names_of_close_points_do_not_overlap(chart):
    figure, axes = chart
    spots = np.array([[5.0, 50.0], [5.1, 51.0], [5.2, 49.0], [5.0, 52.0]])
    label_points(figure, axes, spots, ["one", "two", "three", "four"], ["#000000"] * 4)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def heights(ends):
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_ylim(0, 100)
    label_lines(axes, [(end, f"n{i}", "#000000", False) for i, end in enumerate(ends)], 100.0)
    return {text.get_text(): text.xy[1] for text in axes.texts}


@given(st.lists(st.floats(0, 300), min_size=1, max_size=12))
def test_names_of_lines_keep_apart_keep_their_order_and_stay_below_the_top(ends):
    placed = sorted(heights(ends).values())
    assert placed[-1] <= 100 + 1e-9
    assert all(after - before >= 100 / 21 - 1e-9 for before, after in itertools.pairwise(placed))


def test_a_line_that_ends_above_the_top_is_marked_by_an_arrow():
    assert set(heights([10.0, 300.0])) == {"n0", "n1 ↑"}


def test_a_point_without_a_name_is_kept_free_of_the_names_of_others(chart):
    figure, axes = chart
    spots = np.array([[5.0, 50.0], [5.6, 50.0]])
    label_points(figure, axes, spots, ["named", ""], ["#000000"] * 2)
    figure.canvas.draw()
    (text,) = axes.texts
    x, y = axes.transData.transform(spots[1])
    assert not text.get_window_extent().contains(x, y)
