"""Every kind of data can be named, described and hashed for the run card."""

from dataclasses import replace

import numpy as np
import pytest
from support import five_kinds, handmade

from st2llm.data.calendar import calendar_of
from st2llm.errors import DataError
from st2llm.evaluate.run.data_summary import data_sha256, first_object, side_sha256, summarize, timezone_of
from st2llm.types import Covariate, Events, Grid, Layout, SplitPlan, Trajectory, Video

TIME = handmade.MONDAY + 3600 * np.arange(4, dtype=np.int64)
GRID = Grid(
    "g", "mm", "Asia/Tokyo", 3600, np.arange(24.0).reshape(4, 2, 3, 1), TIME, Layout(np.arange(2.0), np.arange(3.0)),
    ("rain",), calendar_of(TIME, "Asia/Tokyo", freq_s=3600), SplitPlan(0.7, 0.1, 0.2),
)  # fmt: skip
WALKS = [
    Trajectory(
        "w", name, "UTC", TIME, xy=np.arange(8.0).reshape(4, 2) + i, attributes={"wind_kn": np.ones(4)}
    )
    for i, name in enumerate("ab")
]
STAYS = [Trajectory("s", "u", "UTC", TIME, place=("a", "b", "a", "c"))]
QUAKES = Events("q", "UTC", TIME, (0, 2 * 10**9), mark=np.array([0, 1, 0, 0]), marks=("small", "large"))
CLIPS = [Video("v", "c1", np.zeros((3, 4, 4, 3), np.uint8), np.arange(3.0), 1.0, label="wave")]
EVERY = {"grid": GRID, "walks": WALKS, "stays": STAYS, "quakes": QUAKES, "clips": CLIPS}


@pytest.mark.parametrize(
    ("name", "holds", "unit", "timezone"),
    [
        ("grid", "2 x 3 cells, 4 steps", "mm", "Asia/Tokyo"),
        ("walks", "2 objects, 8 fixes", "m", "UTC"),
        ("stays", "1 objects, 4 fixes", "", "UTC"),
        ("quakes", "4 events of 2 sorts", "hours", "UTC"),
        ("clips", "1 clips, 3 frames", "", "UTC"),
    ],
)
def test_a_portrait_says_what_there_is_and_in_which_unit(name, holds, unit, timezone):
    found = summarize(EVERY[name])
    assert (found["holds"], found["unit"], found["timezone"]) == (holds, unit, timezone)
    assert found["name"] == first_object(EVERY[name]).name
    assert timezone_of(EVERY[name]) == timezone
    assert found["places"] == []


def test_a_summary_says_what_language_models_may_know_of_the_data():
    known = replace(GRID, provenance=replace(GRID.provenance, leakage="in the corpus of 2023"))
    assert summarize(known)["leakage"] == "in the corpus of 2023"


def test_a_summary_names_the_whole_object_of_each_trip():
    trips = [replace(WALKS[0], id="a/1", cut_from="a"), WALKS[1]]
    assert summarize(trips)["cut_from"] == {"a/1": "a"}
    assert "cut_from" not in summarize(WALKS)


CHANGES = {
    "a value": ("grid", lambda g: replace(g, values=g.values + 1)),
    "a cell": ("grid", lambda g: replace(g, time=g.time + 3600)),
    "a position": ("walks", lambda w: [replace(w[0], xy=w[0].xy + 1), w[1]]),
    "an attribute": ("walks", lambda w: [replace(w[0], attributes={"wind_kn": np.zeros(4)}), w[1]]),
    "an object's id": ("walks", lambda w: [replace(w[0], id="z"), w[1]]),
    "an object less": ("walks", lambda w: w[:1]),
    "a place": ("stays", lambda s: [replace(s[0], place=("a", "b", "a", "d"))]),
    "a mark": ("quakes", lambda q: replace(q, mark=1 - q.mark)),
    "a mark's name": ("quakes", lambda q: replace(q, marks=("small", "huge"))),
    "a stamp": ("quakes", lambda q: replace(q, time=q.time + 1)),
    "a frame": ("clips", lambda c: [replace(c[0], frames=c[0].frames + 1)]),
    "a class": ("clips", lambda c: [replace(c[0], label="walk")]),
}


@pytest.mark.parametrize(("name", "change"), CHANGES.values(), ids=CHANGES)
def test_the_hash_changes_with_all_that_samples_are_made_of(name, change):
    data = EVERY[name]
    assert data_sha256(change(data)) != data_sha256(data)
    assert data_sha256(data) == data_sha256(data)


TOWN = five_kinds.graph()
SIDE_CHANGES = {
    "an edge's weight": (TOWN, lambda g: replace(g, edges=replace(g.edges, weight=g.edges.weight + 1))),
    "an edge's end": (TOWN, lambda g: replace(g, edges=replace(g.edges, target=g.edges.target[::-1].copy()))),
    "positions": (TOWN, lambda g: replace(g, lonlat=np.zeros((3, 2)) if g.lonlat is None else g.lonlat + 1)),
    "labels": (TOWN, lambda g: replace(g, labels=tuple(reversed(g.labels)))),
    "a channel's name": (TOWN, lambda g: replace(g, channels=("other",))),
    "texts of places": (TOWN, lambda g: replace(g, place_texts=("a", "b", "c"))),
    "weather": (TOWN, lambda g: replace(g, covariates=(Covariate("rain", np.zeros(len(g.time))),))),
    "rows": (GRID, lambda g: replace(g, layout=replace(g.layout, rows=g.layout.rows[::-1].copy()))),
    "an attribute's name": (WALKS, lambda w: [replace(w[0], attributes={"wind_m_s": np.ones(4)}), w[1]]),
}


@pytest.mark.parametrize(("data", "change"), SIDE_CHANGES.values(), ids=SIDE_CHANGES)
def test_another_hash_changes_with_what_samples_get_besides_values(data, change):
    assert side_sha256(change(data)) != side_sha256(data)
    assert side_sha256(data) == side_sha256(data)


def test_a_data_set_without_objects_is_refused():
    with pytest.raises(DataError, match="holds no object and no clip"):
        summarize([])
