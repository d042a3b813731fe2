import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from st2llm.evaluate.report.figures import charts

GAINS = pd.DataFrame(
    {"label": ["lora vs best", "text vs best"], "value": [-0.03, -1.2], "low": [-0.05, np.nan], "high": [-0.01, np.nan],
     "role": ["soft", "text"]}
)  # fmt: skip
POINTS = pd.DataFrame(
    {"predictor": ["ridge", "lora", "last"], "role": ["baseline", "soft", "baseline"], "cost_s": [0.0, 120.0, 0.01],
     "value": [39.0, 40.0, 900.0], "low": [37.0, np.nan, 800.0], "high": [42.0, np.nan, 1000.0]}
)  # fmt: skip
STEPS = pd.concat(
    pd.DataFrame({"predictor": name, "role": role, "step": range(24), "error": np.linspace(low, 2 * low, 24),
                  "dashed": role == "text", "strong": role == "soft"})
    for name, role, low in (("ridge", "baseline", 10.0), ("lora", "soft", 10.2), ("text", "text", 90.0))
)  # fmt: skip
RUNS = pd.DataFrame(
    {"run": [0] * 6, "lr": 1e-3, "chosen": True, "part": ["train", "validation"] * 3, "step": [0, 0, 10, 10, 20, 20],
     "loss": [1.0, 1.1, 0.5, 0.6, 0.4, 0.5]}
)  # fmt: skip
LINES = pd.DataFrame(
    {"predictor": "text", "step": range(24), "value": 3.0, "truth": 4.0, "q05": 2.0, "q95": 5.0}
)
PLACES = pd.DataFrame(
    {
        "label": ["A & B", "C"],
        "lon": [174.76, 174.77],
        "lat": [-36.84, -36.85],
        "error": [3.0, 9.0],
        "side": ["better", "worse"],
    }
)
EDGES = pd.DataFrame({"i": [0, 1, 0], "j": [1, 0, 0], "weight": [0.5, 0.4, 1.0]})
HOURS = [f"{h:02d}h" for h in range(24)]

DRAW = {
    "gains": lambda name: charts.gains(GAINS, name=name),
    "cost": lambda name: charts.accuracy_cost(POINTS, metric="MAE", name=name),
    "horizon": lambda name: charts.error_by_step(STEPS, unit="mph", name=name),
    "curve": lambda name: charts.learning_curve(RUNS, role="soft", state="not converged", name=name),
    "forecast": lambda name: charts.forecast(LINES, roles={"text": "text"}, hours=HOURS, unit="", name=name),
    "map": lambda name: charts.sensor_map(PLACES, EDGES, unit="mph", name=name),
}


def drawn(svg):
    return ElementTree.fromstring(svg)


def words(svg):
    return [text.text for text in drawn(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("kind", DRAW)
def test_the_same_data_give_the_same_bytes(kind):
    assert DRAW[kind]("x") == DRAW[kind]("x")


@pytest.mark.parametrize("kind", DRAW)
def test_a_figure_is_well_formed_speaks_and_scales(kind):
    root = drawn(DRAW[kind]("x"))
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert root.get("viewBox")
    assert root.get("width") is None


@pytest.mark.parametrize("kind", DRAW)
def test_a_figure_asks_for_nothing_outside_itself(kind):
    svg = DRAW[kind]("x").replace("http://www.w3.org/2000/svg", "")
    assert "http" not in svg
    assert "@import" not in svg


@pytest.mark.parametrize("kind", DRAW)
def test_two_figures_on_one_page_share_no_id(kind):
    ids = [{e.get("id") for e in drawn(DRAW[kind](name)).iter() if e.get("id")} for name in ("a", "b")]
    assert ids[0] and not ids[0] & ids[1]


@pytest.mark.parametrize("kind", DRAW)
def test_every_reference_in_a_figure_is_to_an_id_that_is_there(kind):
    root = drawn(DRAW[kind]("x"))
    ids = {e.get("id") for e in root.iter()}
    used = {e.get("href", "#")[1:] for e in root.iter()} | {
        e.get("clip-path", "url(#)")[5:-1] for e in root.iter()
    }
    assert used - {""} <= ids


def test_a_gain_far_off_the_others_stands_at_the_edge_with_its_number():
    assert "← −120.0 %" in words(DRAW["gains"]("x"))


def test_an_arm_far_worse_than_the_others_stands_at_the_edge_with_its_number():
    assert "last ↑ 900" in words(DRAW["cost"]("x"))


def test_a_line_that_ends_above_the_chart_is_marked():
    assert "text ↑" in words(DRAW["horizon"]("x"))


@pytest.mark.parametrize(
    ("state", "drawn"),
    [("not converged", True), ("stuck at start", True), ("converged", False), ("", False)],
)
def test_the_end_of_training_is_drawn_on_the_curve_only_where_it_is_no_plateau(state, drawn):
    svg = charts.learning_curve(RUNS, role="soft", state=state, name="x")
    assert (bool(state) and state in words(svg)) is drawn


def test_a_name_with_markup_cannot_leave_the_figure():
    places = PLACES.assign(label=["<script>alert(1)</script>", '"><b>'])
    svg = charts.sensor_map(places, EDGES, unit="", name="x")
    assert "<script" not in svg
    assert "<script>alert(1)</script>" in words(svg)


def test_a_name_with_dollars_is_not_read_as_mathematics():
    svg = charts.sensor_map(PLACES.assign(label=["$5 and $6", r"$\frac{$"]), EDGES, unit="", name="x")
    assert "$5 and $6" in words(svg)


def test_a_forecast_that_could_not_be_read_leaves_the_truth_alone():
    lost = LINES.assign(value=np.nan, q05=np.nan, q95=np.nan)
    assert "text" not in words(charts.forecast(lost, roles={"text": "text"}, hours=HOURS, unit="", name="x"))


def test_one_place_without_edges_can_be_drawn():
    assert "C" in words(charts.sensor_map(PLACES.iloc[[1]], EDGES.iloc[:0], unit="", name="x"))


def test_two_forecasts_of_one_role_are_drawn_with_different_lines():
    both = pd.concat([LINES.assign(predictor="a"), LINES.assign(predictor="b", value=5.0)])
    svg = charts.forecast(both, roles={"a": "baseline", "b": "baseline"}, hours=HOURS, unit="", name="x")
    assert len(set(re.findall(r"stroke-dasharray: ([\d., ]+)", svg))) == 2


def test_an_interval_far_from_the_others_is_drawn_at_the_edge_and_does_not_compress_them():
    near = pd.DataFrame({"label": list("abc"), "value": 0.0, "low": -0.04, "high": 0.04, "role": "soft"})
    far = pd.DataFrame({"label": ["far"], "value": [-2.0], "low": [-3.6], "high": [-0.4], "role": ["text"]})
    with charts.chart(4.6, 2.0) as (_, axes):
        charts.draw_gains(axes, pd.concat([near, far]))
        assert axes.get_xlim()[0] > -0.1
        assert any("200.0 %" in text.get_text() for text in axes.texts)
