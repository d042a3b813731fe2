from dataclasses import replace

import datasets
import numpy as np
import pytest
from support import five_kinds

import st2llm
from st2llm.data.convert.export import to_hf_dataset
from st2llm.errors import ConfigError, DataError
from st2llm.types import Video

FRAMES = np.random.default_rng(0).integers(0, 256, (8, 12, 16, 3), dtype=np.uint8)


def test_an_array_is_a_clip_that_can_be_split():
    card = {"regions": [2, 2], "split": {"train": 1.0}}
    clip = Video.from_array(FRAMES, fps=4, id="mine", label="walk", labels=["run", "walk"], card=card)
    np.testing.assert_array_equal(clip.frames, FRAMES)
    assert (clip.time_s[1], clip.fps, clip.label, clip.labels) == (0.25, 4.0, "walk", ("run", "walk"))
    samples = st2llm.split([clip], st2llm.tasks.forecast(history=3, horizon=1)).train
    assert samples[0].values.shape[1] == 4


def test_clips_come_back_from_a_hugging_face_dataset():
    data = [
        five_kinds.clip(frames=3),
        replace(five_kinds.clip(frames=4, name="right"), caption="to the right"),
    ]
    for before, after in zip(data, Video.from_hf(to_hf_dataset(data)), strict=True):
        np.testing.assert_array_equal(after.frames, before.frames)
        np.testing.assert_array_equal(after.time_s, before.time_s)
        assert (after.id, after.label, after.labels) == (before.id, before.label, ("left", "right"))
        assert (after.caption, after.fps) == (before.caption, before.fps)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (FRAMES[..., 0], "Repeat grey frames"),
        (FRAMES.transpose(0, 3, 1, 2), "Move the colours to the end"),
        (FRAMES / 255, "but they are float64 of shape [8, 12, 16, 3]. Scale them"),
        (FRAMES[:0], "has no frame"),
        (FRAMES[:, :2], "Frames of 2 pixels along a side cannot be cut into 3 regions"),
    ],
)
def test_other_frames_are_refused_with_what_to_do(frames, message):
    with pytest.raises(DataError) as raised:
        Video.from_array(frames, fps=4)
    assert message in str(raised.value)


@pytest.mark.parametrize("card", [{"size": [4, 4]}, {"label": "stem"}])
def test_keys_about_files_are_refused(card):
    with pytest.raises(ConfigError, match="is about files of video"):
        Video.from_array(FRAMES, fps=4, card=card)


def test_a_rate_and_columns_are_needed():
    with pytest.raises(DataError, match="fps should be a positive number"):
        Video.from_array(FRAMES, fps=0)
    with pytest.raises(DataError, match="dataset has no column 'frames'"):
        Video.from_hf(datasets.Dataset.from_dict({"clip": ["a"]}))
    with pytest.raises(DataError, match="dataset should be one table, but it is a DatasetDict of train"):
        Video.from_hf(datasets.DatasetDict(train=datasets.Dataset.from_dict({"clip": ["a"]})))
