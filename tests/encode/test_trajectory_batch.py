"""Whole paths: what is hidden is never seen, straight lines stand in for it, and a mask is a task."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import handmade

from st2llm.encode.point_scaler import typical_step
from st2llm.encode.trajectory_batch import path_origin, path_step, stack_trajectories, with_visibility
from st2llm.errors import DataError

NAN = np.nan
READ = ("numbers", "codes", "calendar", "position", "base", "mean_step_m")
BEND = [(10, 0), (11, 0), (13, 1), (16, 1), (17, 5), (20, 5)]


def walk(asked=slice(2, 4), task="recover", xy=BEND):
    return handmade.path(xy, asked, task=task)


def masks(batch, points, part):
    """Hides this part (0 the place, 1 the time) of the points of all paths."""
    mask = torch.zeros_like(batch.known)
    mask[:, points, part] = True
    return batch.mask_out(mask)


def test_a_recovery_starts_from_a_straight_line_between_the_fixes_around():
    batch = stack_trajectories([walk()], points=6)
    assert batch.base[0, :, :2].tolist() == [
        [0, 0],
        [1, 0],
        pytest.approx([3, 5 / 3]),
        pytest.approx([5, 10 / 3]),
        [7, 5],
        [10, 5],
    ]
    assert batch.target[0, 2:4, :2].tolist() == [[3, 1], [6, 1]]
    assert batch.valid[0, :, 0].tolist() == [False, False, True, True, False, False]
    assert not batch.valid[..., 2].any()  # the times are told
    assert path_origin(walk()).tolist() == [10, 0]


def test_a_forecast_starts_from_constant_velocity():
    batch = stack_trajectories([walk(slice(3, 6), "forecast")], points=6)
    assert batch.base[0, 3:, :2].tolist() == [[5, 2], [7, 3], [9, 4]]


def test_of_a_path_of_which_one_fix_is_seen_the_object_stands_still():
    batch = stack_trajectories([walk(slice(1, 6), "forecast")], points=6)
    assert not batch.base[0, :, :2].any()


def test_noise_moves_what_is_told_of_the_points_it_is_on():
    batch = stack_trajectories([walk()], points=8)
    x = torch.randn((1, 8, 2)) * batch.hidden_mask
    made = batch.with_noised(x)
    places = batch.add_base(x)
    scale = float(batch.mean_step_m)
    torch.testing.assert_close(made.numbers[0, 2:, :2], places[0, 2:] / (10 * scale))
    torch.testing.assert_close(made.numbers[0, 3:, 2:4], places[0, 2:].diff(dim=0) / scale)
    assert torch.equal(made.numbers[..., 4:], batch.numbers[..., 4:])
    torch.testing.assert_close(
        batch.add_base(batch.residual())[batch.target_mask], batch.target[..., :2][batch.target_mask]
    )


def test_nothing_that_is_hidden_is_read():
    """Paths that differ in what is hidden alone are told alike."""
    other = [*BEND[:2], (99, 99), (-50, 3), *BEND[4:]]
    asked = [stack_trajectories([walk(xy=xy)], points=8) for xy in (BEND, other)]
    masked = [masks(batch, [4, 5], 0) for batch in asked]  # the last two of the eight stay, as does the first
    for one, two in (asked, masked):
        for name in READ:
            assert torch.equal(getattr(one, name), getattr(two, name)), name


def test_a_hidden_time_is_not_read_and_is_asked_for():
    late = walk().time.copy()
    late[3] += 20
    one, two = (
        masks(stack_trajectories([replace(walk(), time=t)], points=6), [3], 1) for t in (walk().time, late)
    )
    for name in ("numbers", "codes", "calendar", "position", "base"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert one.valid[0, :, 2].tolist() == [False] * 3 + [True] + [False] * 2
    assert torch.expm1(two.target[0, 3, 2]).item() == pytest.approx(80)


def test_masks_show_what_was_asked_before_and_never_hide_the_first_point():
    batch = stack_trajectories([walk(), walk()], points=8)
    hidden = masks(batch, slice(None), 0)
    assert hidden.visible[:, :, 0].tolist() == [[False, False, True] + [False] * 5] * 2
    assert torch.equal(hidden.codes[:, 2:], torch.tensor([[1, 2, 2, 2, 2, 2]] * 2))
    shown = with_visibility(batch, batch.known)
    assert not shown.valid.any()
    torch.testing.assert_close(shown.base, shown.target)


def test_a_fix_that_nobody_knows_is_neither_seen_nor_asked_for():
    gone = [*BEND[:4], (NAN, NAN), BEND[5]]
    batch = stack_trajectories([walk(xy=gone)], points=6)
    assert not batch.known[0, 4, 0] and not batch.valid[0, 4].any()
    assert torch.isfinite(batch.numbers).all()


def test_a_path_reads_the_same_alone_and_padded():
    alone, padded = stack_trajectories([walk()], points=6), stack_trajectories([walk()], points=9)
    for name in ("numbers", "codes", "base", "target", "valid"):
        assert torch.equal(getattr(alone, name), getattr(padded, name)[:, 3:]), name
        if name not in ("base", "target"):
            assert not getattr(padded, name)[:, :3].any()


def test_paths_too_long_or_never_seen_are_refused():
    with pytest.raises(DataError, match="has 6 points, but the model reads 4 at most"):
        stack_trajectories([walk()], points=4)
    with pytest.raises(DataError, match="has no visible position"):
        stack_trajectories([walk(slice(0, 6))], points=6)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_a_path_is_read_alike_in_every_unit_of_length(scale):
    """Moving and standing paths: a floor of 0.1 m, and the logarithm of metres, told them apart."""
    still = [(0, 0)] * 6

    def told(factor):
        made = [walk(xy=[(factor * x, factor * y) for x, y in xy]) for xy in (BEND, still)]
        step_m = typical_step([path_step(path) for path in made])
        return stack_trajectories(made, points=8, step_m=step_m)

    torch.testing.assert_close(told(scale).numbers, told(1.0).numbers, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(told(scale).position, told(1.0).position, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(told(scale).mean_step_m / scale, told(1.0).mean_step_m, rtol=1e-4, atol=0.0)
