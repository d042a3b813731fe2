"""Parts and samples of clips: no window crosses a boundary, nothing hidden is shown."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import video_files

from st2llm import tasks
from st2llm.data import split, video_features
from st2llm.data.windows.video import ClipWindows, adjacent, region_names, split_clips
from st2llm.errors import DataError
from st2llm.types import SampleSequence, SplitPlan, Video

PLAN = SplitPlan(0.6, 0.2, 0.2)
EVEN = SplitPlan(0.4, 0.3, 0.3)


def clip(name: str = "a", count: int = 40, **keys: object) -> Video:
    film = video_files.square_film(count, 30, 36)
    return Video(
        name="films", id=name, frames=film, time_s=np.arange(count) / 25, fps=25.0, split=PLAN, **keys
    )


def test_a_forecast_shows_the_history_and_the_frames_of_it_alone():
    film = clip()
    sample = split_clips([film], tasks.forecast(4, 3))[2][0]
    assert sample.id == "films/a/32" and sample.task == "forecast" and sample.kind == "video"
    assert np.array_equal(sample.side.frames, film.frames[32:36])
    assert np.isnan(sample.values[4:]).all() and sample.visible[:4].all() and not sample.visible[4:].any()
    assert sample.time.tolist() == [1280 + 40 * i for i in range(7)]
    assert (sample.side.freq_s, sample.side.fps, sample.side.channels) == (0, 25.0, ("brightness", "motion"))
    assert sample.place[0] == "r0c0" and sample.side.labels[4] == "centre"


def test_what_is_asked_for_is_the_channel_that_the_clip_names_and_the_truth_is_its_own():
    film = clip(asked=("motion",))
    sample = split_clips([film], tasks.forecast(4, 3))[2][0]
    values = video_features.region_values(film.frames, (3, 3))[32:39]
    assert sample.wanted[4:, :, 1].all() and not sample.wanted[:, :, 0].any()
    assert np.array_equal(sample.truth[4:, :, 1], values[4:, :, 1]) and np.isnan(sample.truth[:, :, 0]).all()
    assert np.array_equal(sample.values[:4], values[:4])


@given(
    counts=st.lists(st.integers(20, 60), min_size=1, max_size=4),
    history=st.integers(1, 3),
    stride=st.integers(1, 5),
)
def test_no_window_crosses_a_boundary_and_every_part_is_cut_by_time(counts, history, stride):
    films_ = [clip(f"c{i}", count) for i, count in enumerate(counts)]
    parts = split_clips(films_, tasks.forecast(history, 1), stride)
    for number, count in enumerate(counts):
        cuts = [0, int(0.6 * count + 1e-6), int(0.8 * count + 1e-6), count]
        for part, begin, end in zip(parts, cuts[:-1], cuts[1:], strict=True):
            spans = part.spans[part.spans[:, 0] == number]
            assert (spans[:, 1] >= begin).all() and (spans[:, 2] <= end).all()
            assert (np.diff(spans[:, 1]) == stride).all()


def test_frames_of_which_a_region_is_hidden_are_not_shown():
    sample = split_clips([clip()], tasks.impute(8, 0.2))[0][0]
    seen = sample.visible.all(axis=(1, 2))
    assert 0 < seen.sum() < 8 and len(sample.side.frames) == seen.sum()
    hidden_regions = split_clips([clip()], tasks.krige(8, 0.3))[0][0]
    assert len(hidden_regions.side.frames) == 0


def test_interpolation_shows_every_so_many_th_frame():
    film = replace(clip(), split=EVEN)
    sample = split_clips([film], tasks.interpolate(9, 4))[0][0]
    assert np.array_equal(sample.side.frames, film.frames[[0, 4, 8]])


def test_random_masks_differ_from_window_to_window_and_stay_the_same_on_asking_again():
    part = split_clips([clip()], tasks.impute(8, 0.3))[0]
    assert not np.array_equal(part[0].wanted, part[5].wanted)
    assert np.array_equal(part[0].wanted, part[0].wanted)


def test_classification_asks_for_the_class_of_whole_clips_and_tells_no_caption():
    labels = ("a", "b", "c_d")
    clips = [
        clip(c, label=c, labels=labels, caption=f"It is {c}.", part=labels.index(c))
        for c in ("b", "a", "c_d")
    ]
    parts = split(clips, tasks.classify())
    samples = [sample for part in (parts.train, parts.validation, parts.test) for sample in part]
    assert [sample.label for sample in samples] == ["a", "b", "c_d"]
    assert not samples[0].wanted.any() and samples[0].visible.all() and len(samples[0].side.frames) == 40
    assert samples[0].side.options == ("a", "b", "c_d") and samples[0].side.option_labels == ("a", "b", "c d")
    assert all(not sample.side.notes for sample in samples)
    assert split_clips(clips, tasks.forecast(4, 1))[0][0].side.notes == ("It is a.",)


def test_classification_puts_clips_where_they_say_and_else_by_shares_in_order_of_name():
    clips = [clip(f"c{i}", label="x", labels=("x",)) for i in range(10)]
    assert [len(part) for part in split_clips(clips, tasks.classify())] == [6, 2, 2]
    in_test = [replace(item, part=2) for item in clips]
    assert [len(part) for part in split_clips(in_test, tasks.classify())] == [0, 0, 10]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [("aaaaaaaabb", "training lacks the class 'b'"), ("abababaaaa", "test holds the class 'a' alone")],
)
def test_shares_that_would_examine_one_class_are_refused_and_shares_of_each_class_are_not(labels, problem):
    clips = [clip(f"c{i}", label=label, labels=("a", "b")) for i, label in enumerate(labels)]
    with pytest.raises(DataError, match=f"in order of name, and so {problem}.*`by: class`"):
        split_clips(clips, tasks.classify())
    if labels.count("b") < 3:
        return
    each = SplitPlan(0.4, 0.3, 0.3, by="class")
    parts = split_clips([replace(item, split=each) for item in clips], tasks.classify())
    found = [[part[i].label for i in range(len(part))] for part in parts]
    assert all(set(part) == {"a", "b"} for part in found)
    assert sorted(label for part in found for label in part) == sorted(labels)


def test_a_class_of_one_clip_cannot_be_divided():
    clips = [clip(f"c{i}", label=label, labels=("a", "b")) for i, label in enumerate("aaaab")]
    each = SplitPlan(0.4, 0.2, 0.4, by="class")
    with pytest.raises(
        DataError, match="of each class are split by shares, and so training lacks the class 'b'"
    ):
        split_clips([replace(item, split=each) for item in clips], tasks.classify())


def test_windows_of_a_clip_can_be_classified():
    parts = split_clips([clip("a", label="x", labels=("x",), part=2)], tasks.classify(10), stride=10)
    assert [sample.id for sample in parts[2]] == ["films/a/0", "films/a/10", "films/a/20", "films/a/30"]


@pytest.mark.parametrize("task, keys, message", [
    (tasks.classify(), {}, "has no class to predict"),
    (tasks.classify(50), {"label": "x"}, "fewer than the window of 50"),
    (tasks.forecast(30, 10), {}, "no clip has room in its train part"),
    (tasks.forecast(4, 2, missing=0.5), {}, "no frame of a clip can be missing"),
    (tasks.next_place(), {}, "clips have no task 'next-place'"),
])  # fmt: skip
def test_what_cannot_be_cut_is_refused_with_the_reason(task, keys, message):
    with pytest.raises(DataError, match=message):
        split_clips([clip(**keys)], task)


def test_no_clips_and_no_stride_are_refused():
    with pytest.raises(DataError, match="no clip"):
        split_clips([], tasks.classify())
    with pytest.raises(DataError, match="stride"):
        split_clips([clip()], tasks.forecast(2, 1), 0)


def test_features_of_a_clip_are_computed_once(monkeypatch):
    asked = []
    result = video_features.region_values
    monkeypatch.setattr(video_features, "region_values", lambda *given: asked.append(1) or result(*given))
    for part in split_clips([clip()], tasks.forecast(2, 1)):
        for sample in part:
            assert sample.visible.any()
    assert len(asked) == 1


def test_a_part_is_a_lazy_sequence_with_indices_selection_and_a_hash():
    part = split_clips([clip("a"), clip("b")], tasks.forecast(4, 3), 2)[0]
    assert isinstance(part, SampleSequence) and isinstance(part[1:3], ClipWindows)
    assert part.indices().tolist()[:3] == [0, 2, 4] and part.indices()[-1] == 40 + 16
    chosen = part.select([3, 0])
    assert [sample.id for sample in chosen] == [part[3].id, part[0].id]
    assert part[-1].id == part[len(part) - 1].id
    assert len({part.sha256, chosen.sha256, part[1:].sha256}) == 3
    assert part.sha256 == split_clips([clip("b"), clip("a")], tasks.forecast(4, 3), 2)[0].sha256
    with pytest.raises(IndexError):
        part[len(part)]


def test_regions_have_names_and_neighbours():
    assert region_names((3, 3))[:5] == ("top left", "top centre", "top right", "middle left", "centre")
    assert region_names((1, 2)) == ("left", "right") and region_names((1, 1)) == ("whole picture",)
    assert region_names((4, 1))[3] == "row 4, column 1"
    assert adjacent((3, 3))[4] == ((1, 1.0), (3, 1.0), (5, 1.0), (7, 1.0)) and adjacent((1, 1)) == ((),)


def test_the_pixels_of_hidden_regions_are_asked_for_and_no_frame_shows_them():
    film = clip(regions=(3, 3), pixels=2)
    sample = split_clips([film], tasks.krige(4, 0.9))[2][0]
    assert sample.values.shape == (4, 9, 4) and sample.side.channels[1] == "pixel 1,2"
    assert sample.wanted.any(axis=2).sum(axis=1).tolist() == [8] * 4
    assert (sample.wanted == ~sample.visible).all() and not len(sample.side.frames)
    expected = video_features.pixel_values(film.frames, (3, 3), 2)[32:36]
    np.testing.assert_array_equal(sample.truth[sample.wanted], expected[sample.wanted])
    (train, *_), (other, *_) = (split_clips([c], tasks.krige(4, 0.9)) for c in (film, clip(pixels=3)))
    assert train.sha256 != other.sha256
