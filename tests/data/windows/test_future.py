"""Samples of the future follow the end of the data, one for each object, and their truth is unknown."""

from dataclasses import replace

import numpy as np
import pytest
from support import five_kinds

from st2llm import tasks
from st2llm.data.windows.future import future_samples
from st2llm.errors import ConfigError, DataError
from st2llm.types import Trajectory


def visits(name: str, *, days: int = 10, every: int = 1) -> Trajectory:
    """Home at 8:00 and work at 20:00."""
    hours = np.arange(8, 24 * days, 12 * every)
    place = tuple("home" if hour % 24 == 8 else "work" for hour in hours)
    return replace(five_kinds.stays(name), time=five_kinds.MONDAY + 3600 * hours, place=place, attributes={})


def test_a_graph_is_forecast_from_its_last_history():
    data = five_kinds.graph(3)
    values = data.values.copy()
    values[-6:] = np.nan
    (sample,) = future_samples(replace(data, values=values), tasks.forecast(24, 6)).samples
    assert sample.time[sample.first_wanted_step] == data.time[-6]
    assert sample.visible[:24].all() and sample.wanted[24:].all() and sample.truth is None
    with pytest.raises(DataError, match="66 steps up to its last reading, but forecast-70-6 needs 70"):
        future_samples(replace(data, values=values), tasks.forecast(70, 6))


def test_each_object_goes_on_from_its_own_last_fix_and_short_ones_are_told():
    walks = [five_kinds.walk(12), five_kinds.walk(2, name="short"), five_kinds.walk(8, name="early")]
    found = future_samples(walks, tasks.forecast(3, 2))
    assert [(s.place[0], int(s.time[-1] - five_kinds.MONDAY) // 60) for s in found.samples] == [
        ("walker", 13),
        ("early", 9),
    ]
    assert found.left_out == ("short",)
    assert all(not sample.visible[3:].any() and sample.wanted[3:, 0, :2].all() for sample in found.samples)


def test_an_object_without_fixes_does_not_take_the_sample_of_the_one_before():
    empty = replace(five_kinds.walk(2, name="empty"), time=np.zeros(0, np.int64), xy=np.zeros((0, 2)))
    found = future_samples([five_kinds.walk(12), empty], tasks.forecast(3, 2))
    assert [sample.place[0] for sample in found.samples] == ["walker"]
    assert found.left_out == ("empty",)


def test_a_gap_before_the_end_leaves_an_object_out():
    walk = five_kinds.walk(12)
    torn = replace(walk, id="torn", time=np.where(np.arange(12) > 10, walk.time + 600, walk.time))
    assert future_samples([walk, torn], tasks.forecast(3, 2)).left_out == ("torn",)
    with pytest.raises(DataError, match="needs 12 consecutive steps"):
        future_samples([torn], tasks.forecast(12, 2))


def test_the_next_stay_has_the_time_asked_for_and_its_place_is_hidden():
    task = tasks.next_place(10, 3)
    found = future_samples([visits("a"), visits("b", days=3)], task, after_s=5 * 3600.0)
    (sample,) = found.samples
    assert sample.place == ("a",) and found.left_out == ("b",)
    assert (sample.time[-1] - visits("a").time[-1], sample.label) == (5 * 3600, None)
    place = sample.side.channels.index("place")
    assert sample.wanted[-1, 0, place] and np.isnan(sample.values[-1, 0, place])
    assert sample.side.options == ("home", "work")  # the placeholder adds none
    with pytest.raises(ConfigError, match="for instance --future 8h"):
        future_samples([visits("a")], task)
    untimed = tasks.next_place(10, 3, target_time=False)
    assert future_samples([visits("a")], untimed).samples[0].time[-1] == visits("a").time[-1]


def test_the_next_event_is_the_one_after_the_last():
    data = five_kinds.events(20)
    (sample,) = future_samples(data, tasks.next_event(5, ("mark",))).samples
    assert sample.id == "tiny-events/event-20"
    assert sample.label is None and sample.time[-1] == data.time[-1]
    assert np.isfinite(sample.values[:-1, 0, 1]).all() and np.isnan(sample.values[-1]).all()
    with pytest.raises(DataError, match="The next event needs 30 events before it"):
        future_samples(data, tasks.next_event(30))


def test_a_clip_goes_on_after_its_last_frame_and_shows_no_black_one():
    clips = [five_kinds.clip(10), five_kinds.clip(3, name="short")]
    found = future_samples(clips, tasks.forecast(4, 2))
    (sample,) = found.samples
    assert (sample.id, found.left_out) == ("tiny-video/left/6", ("short",))
    assert sample.time.tolist() == [600, 700, 800, 900, 1000, 1100]
    assert sample.side.frames is not None and np.array_equal(sample.side.frames, clips[0].frames[-4:])
    assert sample.values[0, :, 1].sum() > 0  # the motion of its first frame is known from the frame before


@pytest.mark.parametrize(
    ("data", "task", "error", "message"),
    [
        (five_kinds.graph(3), tasks.impute(24), ConfigError, "predicts values within the data"),
        ([five_kinds.walk()], tasks.classify(), ConfigError, "has no future"),
        (five_kinds.graph(3), tasks.next_event(), DataError, "of kind graph, which has no task next-event"),
        ([five_kinds.clip()], tasks.next_place(), ConfigError, "Clips have no task next-place"),
    ],
)
def test_a_task_without_a_future_is_refused(data, task, error, message):
    with pytest.raises(error, match=message):
        future_samples(data, task)


def test_each_object_of_events_has_a_next_one_of_its_own():
    data = five_kinds.events(20)
    owner = np.array([number % 2 for number in range(18)] + [2, 2], dtype=np.int64)
    shared = replace(data, object=owner, objects=("ann", "bob", "cy"))
    found = future_samples(shared, tasks.next_event(5))
    assert [sample.place[0] for sample in found.samples] == ["ann", "bob"]
    assert found.left_out == ("cy",)
    assert [int(sample.time[-1]) for sample in found.samples] == data.time[[16, 17]].tolist()
