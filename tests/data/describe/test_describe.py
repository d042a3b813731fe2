import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from support import five_kinds

from st2llm.data import load_data
from st2llm.data.describe import describe, plot, summary_rows
from st2llm.errors import DataError
from st2llm.types import MONTH_S

Make = Callable[..., Path]


def _walks():
    return [five_kinds.walk(name=f"w{i}", east=1.0, north=0.1 * i, steps=40) for i in range(5)]


def _clips():
    return [five_kinds.clip(name="left"), five_kinds.clip(step=4, name="right", cut=True)]


CONTAINERS = {
    "graph": five_kinds.graph,
    "grid": five_kinds.grid,
    "video": _clips,
    "trajectory": _walks,
    "stays": lambda: [five_kinds.stays("user-1"), five_kinds.stays("user-2")],
    "event": lambda: five_kinds.events(300),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_kind_has_shape_span_property_and_three_sorts_of_dependence_as_json(kind):
    facts = describe(CONTAINERS[kind]())
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["property"].startswith(facts["kind"])
    assert {"name", "shape", "unit", "missing_share", "licence", "split", "leakage"} <= set(facts)
    assert list(facts["dependence"]) == ["temporal", "spatial", "joint"]
    measured = [v for part in facts["dependence"].values() for v in part.values() if isinstance(v, float)]
    assert len(measured) >= 2 and np.isfinite(measured).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_kind_has_a_page_of_pictures(kind, tmp_path):
    plot(CONTAINERS[kind](), tmp_path / "page.png")
    picture = matplotlib.image.imread(tmp_path / "page.png")
    assert picture.shape[:2] > (800, 1000)
    assert picture[..., :3].std() > 0.05
    assert [path.name for path in tmp_path.iterdir()] == ["page.png"]


def test_a_page_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    with pytest.raises(FileNotFoundError):
        plot(five_kinds.graph(), tmp_path / "none" / "page.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError):
        plot(five_kinds.graph(), tmp_path / "folder.png")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_a_description_says_what_is_missing_where(make_card: Make) -> None:
    values = "stamp,Queen St,High St\n2024-01-01 00:00,1,2\n2024-01-01 01:00,,4\n2024-01-01 02:00,3,6\n"
    facts = describe(load_data(make_card(values=values)))
    assert facts["shape"] == {"time": 3, "node": 2, "channel": 1}
    assert facts["missing_share"] == pytest.approx(1 / 6)
    assert facts["missing_worst"] == {"queen-st": pytest.approx(1 / 3)}
    assert facts["first"] == "2024-01-01T00:00:00+13:00"
    assert facts["dependence"]["temporal"]["autocorrelation_week"] is None


def test_land_is_no_missing_reading():
    facts = describe(five_kinds.grid())
    assert facts["empty_cells_share"] == pytest.approx(1 / 12)
    assert facts["missing_share"] == 0.0


def test_monthly_data_are_held_against_the_year_before():
    data = five_kinds.grid(months=36)
    month = np.arange("2000-01", "2003-01", dtype="datetime64[M]").astype("datetime64[s]").astype(np.int64)
    wave = np.cos(np.arange(36) * 2 * np.pi / 12)[:, None, None, None] + np.zeros_like(data.values)
    facts = describe(replace(data, values=wave, time=month, freq_s=MONTH_S))
    assert facts["dependence"]["temporal"]["autocorrelation_year"] == pytest.approx(1.0)
    assert "autocorrelation_day" not in facts["dependence"]["temporal"]


def test_a_graph_without_edges_is_measured_among_its_nearest_places():
    data = five_kinds.graph(nodes=6)
    none = np.zeros(0, dtype=np.int64)
    bare = replace(data, edges=replace(data.edges, source=none, target=none, weight=np.zeros(0)))
    assert describe(bare)["dependence"]["spatial"]["neighbours"] == "the 4 nearest places"
    lost = describe(replace(bare, xy=None))["dependence"]
    assert lost["spatial"]["morans_i_of_means"] is None
    assert ("spatial.morans_i_of_means", "cannot be measured") in summary_rows({"dependence": lost})


def test_straight_walks_go_on_as_they_went_and_side_by_side_ones_agree():
    result = describe(_walks())["dependence"]
    assert result["temporal"]["step_autocorrelation"] == pytest.approx(1.0)
    assert result["joint"]["direction_agreement_nearest_and_simultaneous"] > 0.95


def test_events_of_one_spot_in_bursts_are_near_in_space_and_time():
    data = five_kinds.events(400)
    day = (data.time - data.time[0]) // (10 * five_kinds.DAY)
    data = replace(
        data, xy=np.column_stack([1000.0 * day, np.random.default_rng(0).normal(0, 5, 400)]), region=None
    )
    assert describe(data)["dependence"]["joint"]["knox_ratio"] > 1.5
    assert describe(data)["marks"] == {"theft": 266, "fire": 134}


def test_several_channels_have_levels_of_their_own():
    data = five_kinds.graph()
    two = replace(data, values=np.concatenate([data.values, 1 + data.values], axis=2), channels=("a", "b"))
    assert set(describe(two)["levels"]) == {"a", "b"}


@pytest.mark.parametrize("nodes", [True, False])
def test_a_graph_is_drawn_with_or_without_coordinates(make_card: Make, tmp_path: Path, nodes: bool) -> None:
    card = make_card() if nodes else make_card(nodes=None, edges=None)
    plot(load_data(card), tmp_path / "tiny.png")
    assert matplotlib.image.imread(tmp_path / "tiny.png")[..., :3].std() > 0.05


def test_rows_for_a_person_leave_out_what_is_empty_and_name_what_is_nested():
    rows = dict(summary_rows(describe(five_kinds.graph())))
    assert rows["shape"] == "time: 240, node: 3, channel: 1"
    assert "temporal.autocorrelation_day" in rows
    assert "licence" not in rows


def test_no_clips_at_all_are_refused():
    with pytest.raises(DataError, match="nothing to describe"):
        describe([])


@pytest.mark.parametrize("kind", ["graph", "grid", "trajectory", "event"])
def test_the_time_zone_and_what_is_split_are_named(kind):
    """A card without `timezone`, or with `split: {by: object}`, once looked like any other."""
    data = CONTAINERS[kind]()
    rows = dict(summary_rows(describe(data)))
    assert rows["timezone"] == (data[0] if isinstance(data, list) else data).timezone
    assert rows["split"].startswith("by: time, train: ")
