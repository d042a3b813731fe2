import numpy as np
import pytest
from support import five_kinds

from st2llm.data.describe.dependence import (
    autocorrelation,
    cell_edges,
    clark_evans,
    entropy,
    knox_ratio,
    morans_i,
    mutual_information,
    nearest_edges,
    space_time_i,
)
from st2llm.types import Edges

NONE = Edges(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))


def test_a_perfect_daily_cycle_has_a_day_autocorrelation_of_one():
    wave = np.sin(np.arange(24 * 10) * 2 * np.pi / 24)[:, None, None]
    assert autocorrelation(wave, 24) == pytest.approx(1.0)
    assert autocorrelation(wave, 12) == pytest.approx(-1.0)


def test_nothing_that_varies_has_no_autocorrelation():
    assert autocorrelation(np.ones((10, 2, 1)), 1) is None
    assert autocorrelation(np.ones((10, 2, 1)), 10) is None


def test_a_loud_channel_does_not_drown_a_quiet_one():
    wave = np.sin(np.arange(400) * 2 * np.pi / 24)
    noise = np.random.default_rng(0).normal(size=400)
    both = np.stack([wave, 1e6 * noise], axis=1)[:, None, :]
    assert autocorrelation(both, 24) == pytest.approx(0.5, abs=0.1)


def test_two_opposed_neighbours_have_a_morans_i_of_minus_one():
    pair = Edges(np.array([0, 1]), np.array([1, 0]), np.ones(2))
    assert morans_i(np.array([1.0, 5.0]), pair) == pytest.approx(-1.0)
    assert morans_i(np.array([1.0, 5.0]), NONE) is None
    assert morans_i(np.array([2.0, 2.0]), pair) is None


def test_places_in_two_alike_pairs_have_a_morans_i_of_one_whatever_a_place_without_a_value():
    edges = Edges(np.array([0, 1, 2, 3, 4]), np.array([1, 0, 3, 2, 0]), np.ones(5))
    assert morans_i(np.array([1.0, 1.0, 5.0, 5.0, np.nan]), edges) == pytest.approx(1.0)


def test_a_wave_that_runs_from_place_to_place_is_seen_one_step_later():
    time, place = np.arange(600), np.arange(12)
    noise = np.random.default_rng(1).normal(size=700)
    values = noise[time[:, None] - place[None, :] + 20][
        :, :, None
    ]  # place i shows what place i - 1 showed before
    edges = Edges(place[:-1].astype(np.int64), place[1:].astype(np.int64), np.ones(11))
    assert space_time_i(values, edges, 1) == pytest.approx(1.0, abs=0.1)
    assert space_time_i(values, edges, 0) == pytest.approx(0.0, abs=0.1)


def test_readings_that_are_missing_take_no_part_in_space_time():
    rng = np.random.default_rng(2)
    level = rng.normal(size=(300, 1, 1))
    values = np.repeat(level, 4, axis=1)
    values[rng.random(values.shape) < 0.3] = np.nan
    assert space_time_i(values, nearest_edges(rng.normal(size=(4, 2))), 0) == pytest.approx(1.0, abs=0.1)


def test_space_time_needs_edges_pairs_and_variation():
    edges = cell_edges(2, 2)
    assert space_time_i(np.ones((5, 4, 1)), edges, 1) is None
    assert space_time_i(np.random.default_rng(0).normal(size=(5, 4, 1)), edges, 5) is None
    assert space_time_i(np.random.default_rng(0).normal(size=(5, 4, 1)), NONE, 1) is None


def test_cells_of_a_raster_have_two_to_four_neighbours():
    counts = np.bincount(cell_edges(3, 4).target, minlength=12).reshape(3, 4)
    assert counts.tolist() == [[2, 3, 3, 2], [3, 4, 4, 3], [2, 3, 3, 2]]


def test_events_that_cluster_in_space_and_time_have_a_knox_ratio_above_one_and_unrelated_ones_about_one():
    rng = np.random.default_rng(3)
    centre = rng.uniform(0, 1e4, (60, 2)), rng.integers(0, 10**7, 60)
    pick = rng.integers(0, 60, 600)
    xy = centre[0][pick] + rng.normal(0, 50, (600, 2))
    time = np.sort(centre[1][pick])
    order = np.argsort(centre[1][pick], kind="stable")
    clustered = knox_ratio(time, xy[order])
    random = knox_ratio(time, rng.uniform(0, 1e4, (600, 2)))
    assert clustered is not None and clustered[0] > 5
    assert random is not None and random[0] == pytest.approx(1.0, abs=0.15)
    assert knox_ratio(time[:10], xy[:10]) is None


def test_clark_evans_tells_clusters_from_a_lattice():
    rng = np.random.default_rng(4)
    lattice = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), axis=-1).reshape(-1, 2)
    clusters = np.repeat(rng.uniform(0, 30, (30, 2)), 30, axis=0) + rng.normal(0, 0.1, (900, 2))
    assert clark_evans(lattice, 900.0) == pytest.approx(2.0)
    assert clark_evans(clusters, 900.0) < 0.4
    assert clark_evans(rng.uniform(0, 30, (900, 2)), 900.0) == pytest.approx(1.0, abs=0.1)
    assert clark_evans(lattice[:1], 900.0) is None


def test_a_code_that_says_all_of_another_has_its_entropy_in_bits():
    code = np.tile(np.arange(4), 200).astype(np.int64)
    assert mutual_information(code, (code + 1) % 4) == pytest.approx(2.0, abs=0.02)
    drawn = np.random.default_rng(5).integers(0, 4, 800)
    assert mutual_information(code, drawn) == pytest.approx(0.0, abs=0.02)
    assert entropy(np.array([1, 1, 0])) == pytest.approx(1.0)


def test_the_graph_of_nearest_places_is_empty_for_one_place():
    assert len(nearest_edges(np.zeros((1, 2))).weight) == 0
    assert len(nearest_edges(five_kinds.graph(nodes=3).xy).weight) == 6
