"""Points of sequences: the question sees nothing of the answer, padding is nothing, paths are told from the walker."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import five_kinds

from st2llm import tasks
from st2llm.data.windows import split
from st2llm.encode.point_batch import (
    fit_point_scaler,
    local_coordinates,
    log_gap,
    points_from_sample,
    stack_points,
)
from st2llm.types import Sample, SplitPlan, Trajectory

PLAN = SplitPlan(0.6, 0.2, 0.2)


def paths(**way) -> list[Sample]:
    walks = [replace(five_kinds.walk(40, name=f"w{i}", **way), split=PLAN) for i in range(3)]
    part = split(walks, tasks.forecast(4, 3)).train
    return [part[i] for i in range(len(part))]


def stays() -> list[Sample]:
    return [five_kinds.stay_sample(five_kinds.stays(f"user-{i}")) for i in range(3)]


def events() -> list[Sample]:
    return five_kinds.event_samples(five_kinds.events(), 3)


@pytest.mark.parametrize("make", [paths, stays, events])
def test_without_the_truth_all_is_the_same_but_the_target(make):
    for sample in make():
        known, blind = points_from_sample(sample), points_from_sample(sample.without_truth())
        for name in ("numbers", "codes", "calendar", "position", "base"):
            np.testing.assert_array_equal(getattr(known, name), getattr(blind, name))
        assert np.isnan(blind.target).all()
        assert np.isfinite(known.target).any()


def test_missing_fixes_are_left_out_and_the_base_goes_on_at_the_speed_between_the_last_two_seen():
    time = 1_704_067_200 + 60 * np.arange(12)
    xy = np.column_stack([np.arange(12.0), np.zeros(12)])
    east = Trajectory("tiny", "w", "UTC", time, xy=xy, split=SplitPlan(1.0, 0.0, 0.0))
    for share in (0.0, 0.4, 0.8):
        sample = split([east], tasks.forecast(8, 3, missing=share)).train[0]
        points = points_from_sample(sample)
        assert len(points.numbers) == len(points.codes) == sample.visible[:, 0, 0].sum()
        assert len(points.calendar) == len(points.position) == len(points.codes) + 1
        assert np.isfinite(points.numbers).all()
        if len(points.codes) > 1:
            np.testing.assert_allclose(points.base, points.target, atol=1e-9)


@pytest.mark.parametrize("make", [paths, stays, events])
def test_padding_is_on_the_left_and_holds_nothing(make):
    rows = [points_from_sample(sample) for sample in make()]
    batch = stack_points(rows, fit_point_scaler(rows), points=9)
    for i, row in enumerate(rows):
        count = len(row.numbers)
        assert batch.real[i].tolist() == [False] * (9 - count) + [True] * count
        assert not batch.numbers[i, : 9 - count].any()
        assert not batch.codes[i, : 9 - count].any()
    assert torch.isfinite(batch.numbers).all()


def test_only_the_last_points_are_read_where_there_are_more():
    rows = [points_from_sample(sample) for sample in paths()]
    whole = stack_points(rows, fit_point_scaler(rows), points=4)
    short = stack_points(rows, fit_point_scaler(rows), points=2)
    assert torch.equal(short.numbers, whole.numbers[:, 2:])
    assert torch.equal(short.position, whole.position[:, 2:])


def test_walks_in_all_directions_look_alike_from_where_one_stands():
    east, north = paths(east=1.0, north=0.0), paths(east=0.0, north=1.0)
    for one, other in zip(east, north, strict=True):
        a, b = points_from_sample(one), points_from_sample(other)
        np.testing.assert_allclose(a.numbers, b.numbers, atol=1e-9)
        np.testing.assert_allclose(a.target, b.target, atol=1e-9)
        np.testing.assert_allclose(a.base, a.target, atol=1e-9)  # straight on at constant speed


def test_a_local_frame_leads_back_to_where_it_came_from():
    xy = np.random.default_rng(0).normal(size=(7, 2))
    frame = local_coordinates(paths(east=0.3, north=-0.8)[0])
    np.testing.assert_allclose(frame.to_global(frame.to_local(xy)), xy)
    np.testing.assert_allclose(frame.rotation @ frame.rotation.T, np.eye(2), atol=1e-12)


def test_who_stands_still_has_a_frame_too():
    sample = paths(east=0.0, north=0.0)[0]
    assert np.isfinite(points_from_sample(sample).numbers).all()


def test_a_gap_of_none_is_half_a_second():
    assert float(log_gap(0.0)) == pytest.approx(np.log(0.5 / 3600))
    assert float(log_gap(2.0)) == pytest.approx(np.log(2))


def test_features_that_never_change_stay_finite():
    rows = [points_from_sample(sample) for sample in paths()]
    scaler = fit_point_scaler(rows)
    assert (scaler.std > 0).all()
    assert scaler.metres > 0


def test_the_unit_of_a_path_does_not_depend_on_the_unit_of_the_data():
    """A floor of 0.1 m changed paths whose steps are a few centimetres, or given in kilometres."""

    def units(scale):
        made = [path for east in (0.004, 1.0, 1.5) for path in paths(east=scale * east, north=0.0)]
        rows = [points_from_sample(path) for path in [*made, *paths(east=0.0, north=0.0)]]
        return stack_points(rows, fit_point_scaler(rows), points=4).mean_step_m.double() / scale

    torch.testing.assert_close(units(1e-4), units(1.0), rtol=1e-5, atol=0.0)
    torch.testing.assert_close(units(1e4), units(1.0), rtol=1e-5, atol=0.0)
    assert units(1.0).min() > 0
