import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from st2llm.data import load_data
from st2llm.data.describe import autocorrelation, describe, morans_i, plot
from st2llm.types import Edges

Make = Callable[..., Path]


def test_a_description_is_json_and_says_what_is_missing_where(make_card: Make) -> None:
    values = "stamp,Queen St,High St\n2024-01-01 00:00,1,2\n2024-01-01 01:00,,4\n2024-01-01 02:00,3,6\n"
    facts = describe(load_data(make_card(values=values)))
    assert json.loads(json.dumps(facts)) == facts
    assert facts["shape"] == {"time": 3, "node": 2, "channel": 1}
    assert facts["missing_share"] == pytest.approx(1 / 6)
    assert facts["missing_worst"] == {"queen-st": pytest.approx(1 / 3)}
    assert facts["first"] == "2024-01-01T00:00:00+13:00"
    assert facts["autocorrelation"]["week"] is None


def test_a_perfect_daily_cycle_has_a_day_autocorrelation_of_one() -> None:
    wave = np.sin(np.arange(24 * 10) * 2 * np.pi / 24)[:, None, None]
    assert autocorrelation(wave, 24) == pytest.approx(1.0)
    assert autocorrelation(wave, 12) == pytest.approx(-1.0)


def test_nothing_that_varies_has_no_autocorrelation() -> None:
    assert autocorrelation(np.ones((10, 2, 1)), 1) is None
    assert autocorrelation(np.ones((10, 2, 1)), 10) is None


def test_two_opposed_neighbours_have_a_morans_i_of_minus_one(make_card: Make) -> None:
    data = load_data(make_card())
    assert morans_i(data) == pytest.approx(-1.0)
    none = np.zeros(0, dtype=np.int64)
    assert morans_i(replace(data, edges=Edges(none, none, np.zeros(0)))) is None


def test_places_in_two_alike_pairs_have_a_morans_i_of_one(make_card: Make) -> None:
    values = "stamp,a,b,c,d\n2024-01-01 00:00,1,1,5,5\n"
    path = make_card(values=values, nodes=None, edges={"list": "edges.csv"})
    (path.parent / "edges.csv").write_text("source,target\na,b\nb,a\nc,d\nd,c\n", encoding="utf-8")
    assert morans_i(load_data(path)) == pytest.approx(1.0)


@pytest.mark.parametrize("nodes", [True, False])
def test_a_plot_is_a_picture_with_or_without_coordinates(
    make_card: Make, tmp_path: Path, nodes: bool
) -> None:
    card = make_card() if nodes else make_card(nodes=None, edges=None)
    plot(load_data(card), tmp_path / "tiny.png")
    picture = matplotlib.image.imread(tmp_path / "tiny.png")
    assert picture.shape[:2] > (800, 1000)
    assert picture[..., :3].std() > 0.05
    assert not list(tmp_path.glob("*.part"))
