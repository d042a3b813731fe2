"""What frames show, on frames whose content is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import video_files

from st2llm.data import video_features
from st2llm.errors import DataError


def picture(colour: tuple[int, int, int], rows: int = 48, cols: int = 48) -> np.ndarray:
    return np.full((rows, cols, 3), colour, dtype=np.uint8)


def squares(shift: tuple[int, int], rows: int = 96, cols: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A bright square in the middle, and the same moved by (right, down)."""
    made = []
    for right, down in ((0, 0), shift):
        frame = picture((40, 40, 40), rows, cols)
        frame[40 + down : 56 + down, 40 + right : 56 + right] = 230
        made.append(frame)
    return made[0], made[1]


def test_brightness_is_the_mean_luma_of_a_region():
    frame = picture((0, 0, 0))[None].copy()
    frame[:, :16, :16] = (255, 0, 0)
    values = video_features.region_values(frame, (3, 3))
    assert values[0, 0, 0] == pytest.approx(255 * 0.299, abs=1e-3) and values[0, 1:, 0].max() == 0


def test_motion_is_the_mean_change_of_luma_and_nought_at_first():
    film = np.stack([picture((100,) * 3), picture((100,) * 3), picture((110,) * 3)])
    motion = video_features.region_values(film, (2, 2))[:, :, 1]
    assert np.allclose(motion, [[0] * 4, [0] * 4, [10] * 4], atol=1e-3)


def test_long_films_are_measured_in_pieces_without_a_seam():
    film = np.random.default_rng(0).integers(0, 256, (70, 9, 9, 3)).astype(np.uint8)
    whole = video_features.luma(film)
    values = video_features.region_values(film, (1, 1))[:, 0]
    assert np.allclose(values[1:, 1], np.abs(np.diff(whole, axis=0)).mean(axis=(1, 2)), atol=1e-3)


@given(rows=st.integers(1, 9), cols=st.integers(1, 9), seed=st.integers(0, 99))
def test_the_regions_cover_the_picture_exactly(rows, cols, seed):
    film = np.random.default_rng(seed).integers(0, 256, (2, 13, 17, 3)).astype(np.uint8)
    down, right = video_features.region_edges(13, rows), video_features.region_edges(17, cols)
    weight = np.outer(np.diff(down), np.diff(right)).ravel()
    means = video_features.region_values(film, (rows, cols))[:, :, 0]
    assert np.allclose(
        (means * weight).sum(axis=1) / weight.sum(), video_features.luma(film).mean(axis=(1, 2)), atol=1e-3
    )
    assert (means >= 0).all() and (means <= 255.001).all()


def test_cached_features_are_those_of_the_given_frames_and_regions():
    """A key that forgot the order, the regions or the shape would answer with another pair's flow."""
    before, after = squares((5, 0))
    there = video_features.block_flow(before, after, (1, 1)).xy[0, 0]
    back = video_features.block_flow(after, before, (1, 1)).xy[0, 0]
    assert (there, back) == (pytest.approx(5), pytest.approx(-5))
    assert len(video_features.block_flow(before, after, (2, 2)).xy) == 4
    assert video_features.block_flow(before.copy(), after.copy(), (1, 1)).xy[0, 0] == there
    changed = after.copy()
    changed[:] = before
    assert not video_features.block_flow(before, changed, (1, 1)).xy.any()


def test_more_regions_than_pixels_are_refused():
    with pytest.raises(DataError, match="cannot be cut into 9 regions"):
        video_features.region_values(np.zeros((1, 8, 20, 3), dtype=np.uint8), (9, 3))


@pytest.mark.parametrize("shift", [(3, 0), (-3, 0), (0, 4), (0, -2), (2, 2), (-5, 1)])
def test_the_flow_of_a_moving_square_is_its_shift(shift):
    flow = video_features.block_flow(*squares(shift), (1, 1))
    assert np.allclose(flow.xy[0], shift, atol=0.6) and 0 < flow.moving[0] < 0.2


def test_only_the_regions_in_which_something_moves_have_a_flow():
    film = video_files.square_film(2, 96, 96, step=4)
    flow = video_features.block_flow(film[0], film[1], (3, 3))
    assert (flow.moving > 0).tolist() == [True] + [False] * 8
    assert np.allclose(flow.xy[0], (4, 0), atol=0.6) and not flow.xy[1:].any()


def test_still_pictures_and_noise_of_a_camera_do_not_move():
    draw = np.random.default_rng(0)
    still = draw.integers(60, 180, (96, 96, 3)).astype(np.uint8)
    noisy = np.clip(still + draw.integers(-1, 2, still.shape), 0, 255).astype(np.uint8)
    assert not video_features.block_flow(still, still, (3, 3)).moving.any()
    assert not video_features.block_flow(still, noisy, (3, 3)).moving.any()


def test_a_light_that_goes_on_is_no_movement():
    frame = np.random.default_rng(0).integers(20, 120, (96, 96, 3)).astype(np.uint8)
    assert video_features.block_flow(frame, frame + 90, (1, 1)).moving[0] < 0.05


def test_large_pictures_are_measured_in_their_own_pixels():
    before, after = (np.kron(frame, np.ones((4, 4, 1), dtype=np.uint8)) for frame in squares((3, 0)))
    assert np.allclose(video_features.block_flow(before, after, (1, 1)).xy[0], (12, 0), atol=2)


@given(st.integers(1, 40), st.integers(1, 40))
def test_the_flow_of_any_size_of_picture_can_be_measured(rows, cols):
    flow = video_features.block_flow(picture((9, 9, 9), rows, cols), picture((99, 9, 9), rows, cols), (1, 1))
    assert np.isfinite(flow.xy).all()


def test_a_cut_is_found_where_the_colours_change_and_nowhere_else():
    red, blue = picture((200, 20, 20)), picture((20, 20, 200))
    film = np.stack([red, red, blue, blue, blue, red])
    assert video_features.shot_cuts(film).tolist() == [2, 5]
    assert not len(video_features.shot_cuts(video_files.square_film(12)))
    assert not len(video_features.shot_cuts(film[:1]))


@pytest.mark.parametrize("name, colour", [
    ("black", (10, 12, 9)), ("white", (245, 246, 244)), ("grey", (120, 121, 119)), ("red", (210, 20, 30)),
    ("orange", (250, 140, 10)), ("yellow", (245, 230, 30)), ("green", (30, 160, 40)), ("turquoise", (40, 200, 200)),
    ("blue", (30, 60, 200)), ("purple", (130, 30, 200)), ("pink", (250, 80, 200)), ("brown", (120, 70, 30)),
])  # fmt: skip
def test_plain_colours_have_their_common_names(name, colour):
    assert video_features.named_colours(picture(colour)) == [(name, 1.0)]


def test_colours_come_with_their_shares_the_largest_first():
    frame = picture((210, 20, 30), 10, 10).copy()
    frame[:3] = (30, 60, 200)
    assert video_features.named_colours(frame) == [("red", 0.7), ("blue", 0.3)]


def test_pixels_of_a_region_are_the_means_of_their_part_of_the_frame_in_rows():
    grey = np.arange(4 * 12, dtype=np.uint8).reshape(4, 12)
    frames = np.repeat(grey[None, :, :, None], 3, axis=3)
    got = video_features.pixel_values(frames, (1, 2), 2)  # 2 x 3 pixels of the frame to one of a region
    expected = grey.reshape(2, 2, 4, 3).mean(axis=(1, 3))
    assert got.shape == (1, 2, 4)
    np.testing.assert_allclose(got[0, 0], expected[:, :2].ravel(), rtol=1e-5)
    np.testing.assert_allclose(got[0, 1], expected[:, 2:].ravel(), rtol=1e-5)
    assert video_features.channels_of(2) == ("pixel 1,1", "pixel 1,2", "pixel 2,1", "pixel 2,2")
