from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.csv_files import write

import st2llm
from st2llm import tasks
from st2llm.data.windows import sequences
from st2llm.errors import DataError
from st2llm.types import Events, Note, SampleSequence, SplitPlan, Trajectory

MONDAY = 1_704_067_200


def walk(
    name: str = "ann", time: list[int] | None = None, *, label: str | None = None, **keys: object
) -> Trajectory:
    """A walk east, a fix a minute: x counts the metres, y the fix."""
    at = MONDAY + np.array(time if time is not None else np.arange(40) * 60, dtype=np.int64)
    xy = np.column_stack([at - MONDAY, np.arange(len(at))]).astype(np.float64)
    trajectory = Trajectory("tiny", name, "UTC", at, xy=xy, split=SplitPlan(0.5, 0.25, 0.25), label=label)
    return replace(trajectory, **keys)


def make_events(count: int = 60, **keys: object) -> Events:
    time = MONDAY + np.cumsum(np.arange(count)).astype(np.int64) * 60
    made = Events(
        "quakes", "UTC", time, (int(time[0]), int(time[-1])), xy=np.arange(2.0 * count).reshape(-1, 2),
        mark=np.arange(count) % 2, marks=("big", "small"), magnitude=np.arange(count) / 10,
        split=SplitPlan(0.5, 0.25, 0.25),
    )  # fmt: skip
    return replace(made, **keys)


def test_windows_are_consecutive_fixes_at_the_data_s_step() -> None:
    time = [0, 60, 120, 180, 240, 600, 660, 720, 780, 840]
    train, _, _ = sequences.split_trajectories(
        [walk(time=time, split=SplitPlan(1.0, 0.0, 0.0))], tasks.forecast(2, 1), 1
    )
    assert train.indices().tolist() == [0, 1, 2, 5, 6, 7]
    assert all((np.diff(sample.time) == 60).all() for sample in train)


def test_windows_may_have_any_step_where_the_data_say_so() -> None:
    loose = walk(time=[0, 7, 60, 300, 301], split=SplitPlan(1.0, 0.0, 0.0), step=0)
    assert len(sequences.split_trajectories([loose], tasks.forecast(2, 1))[0]) == 3


def test_data_without_a_common_step_say_what_to_do() -> None:
    with pytest.raises(DataError, match="Add `harmonise"):
        sequences.split_trajectories([walk(time=[0, 7, 60, 300, 301])], tasks.forecast(2, 1))


def test_a_path_with_missing_history_keeps_its_first_fix_and_tells_no_place_of_a_missing_one() -> None:
    east = walk(lonlat=np.column_stack([np.arange(40.0), np.arange(40.0)]))
    plain, gaps = (
        sequences.split_trajectories([east], tasks.forecast(8, 2, missing=share))[0][1]
        for share in (0.0, 0.7)
    )
    seen = gaps.visible[:, 0, 0]
    assert seen[0] and 1 <= seen[:8].sum() < 8 and not seen[8:].any()
    assert (np.isfinite(gaps.side.step_lonlat[:, 0]) == seen).all()
    assert (gaps.wanted == plain.wanted).all() and gaps.id == plain.id


def test_no_window_joins_two_objects_or_two_parts() -> None:
    data = [walk("ann"), walk("bob")]
    parts = sequences.split_trajectories(data, tasks.forecast(3, 2))
    assert [len(part) for part in parts] == [2 * 16, 2 * 6, 2 * 6]
    ends = [MONDAY + 60 * last for last in (19, 29, 39)]
    for part, end in zip(parts, ends, strict=True):
        assert {sample.place for sample in part} == {("ann",), ("bob",)}
        assert max(sample.time[-1] for sample in part) == end
        assert all((np.diff(sample.values[:3, 0, 1]) == 1).all() for sample in part)


def test_with_context_the_history_alone_may_come_from_the_part_before() -> None:
    plain, wide = (
        sequences.split_trajectories([walk()], tasks.forecast(3, 2), 1, context=c) for c in (False, True)
    )
    assert [len(part) for part in wide] == [16, 9, 9]
    asked = {int(sample.time[3]) for sample in wide[2]}
    assert min(asked) == MONDAY + 60 * 30
    assert len(plain[2]) == 6


def test_the_stride_is_in_fixes() -> None:
    train = sequences.split_trajectories([walk()], tasks.forecast(3, 2), 5)[0]
    assert train.indices().tolist() == [0, 5, 10, 15]


def test_a_forecast_shows_the_past_and_asks_for_x_and_y_alone() -> None:
    trajectory = walk(attributes={"speed": np.arange(40.0), "tide": np.arange(40.0)}, known=("tide",))
    sample = sequences.split_trajectories([trajectory], tasks.forecast(3, 2))[0][4]
    assert sample.kind == "trajectory"
    assert sample.task == "forecast"
    assert sample.side.channels == ("x", "y", "speed", "tide")
    assert sample.values[:, 0, 1].tolist()[:3] == [4, 5, 6]
    assert np.isnan(sample.values[3:, 0, :3]).all()
    assert sample.values[:, 0, 3].tolist() == [4, 5, 6, 7, 8]
    assert sample.wanted[:, 0].tolist() == [[False] * 4] * 3 + [[True, True, False, False]] * 2
    assert sample.truth is not None
    assert sample.truth[3:, 0, 1].tolist() == [7, 8]
    assert np.isfinite(sample.truth).sum() == 4


def test_what_is_hidden_in_the_plane_is_hidden_in_degrees() -> None:
    trajectory = walk(lonlat=np.column_stack([np.linspace(10, 11, 40), np.full(40, 50.0)]))
    side = sequences.split_trajectories([trajectory], tasks.forecast(3, 2))[0][0].side
    assert side.step_lonlat is not None
    assert np.isfinite(side.step_lonlat).all(axis=1).tolist() == [True] * 3 + [False] * 2


def test_recovery_hides_a_span_and_each_window_has_its_own() -> None:
    parts = sequences.split_trajectories([walk()], tasks.recover(10, 3))
    spans = [tuple(np.flatnonzero(sample.wanted[:, 0, 0])) for sample in parts[0]]
    assert len(set(spans)) > 1
    assert all(span[-1] - span[0] == 2 and span[0] > 0 and span[-1] < 9 for span in spans)


def test_milliseconds_stay_milliseconds_and_say_so() -> None:
    trajectory = walk(time=list(range(0, 16_000, 400)), unit_s=0.001)
    trajectory = replace(trajectory, time=trajectory.time - MONDAY)
    sample = sequences.split_trajectories([trajectory], tasks.forecast(3, 2))[0][0]
    assert sample.side.freq_s == 0
    assert sample.time.tolist() == [0, 400, 800, 1200, 1600]
    assert sample.id == "tiny/ann/1200ms"


def test_a_regular_step_counts_the_calendar() -> None:
    sample = sequences.split_trajectories([walk()], tasks.forecast(3, 2))[0][7]
    assert sample.side.freq_s == 60
    assert sample.side.calendar.step_of_day.tolist() == [7, 8, 9, 10, 11]
    assert set(sample.side.calendar.day_of_week.tolist()) == {0}


def test_holidays_and_notes_reach_the_sample() -> None:
    trajectory = walk(
        holidays={MONDAY // 86_400: "New Year's Day"},
        notes=(Note(MONDAY + 180, MONDAY + 200, "a parade"), Note(MONDAY + 6000, MONDAY + 6001, "later")),
    )
    side = sequences.split_trajectories([trajectory], tasks.forecast(3, 2))[0][0].side
    assert set(side.calendar.holiday) == {"New Year's Day"}
    assert side.notes == ("a parade",)


def test_whole_tracks_are_classified_part_by_part() -> None:
    data = [walk("a", label="walk", split=SplitPlan(0.5, 0.5, 0.0, by="object", held_out=("b",))),
            walk("b", label="run", split=SplitPlan(0.5, 0.5, 0.0, by="object", held_out=("b",))),
            walk("c", label="walk", split=SplitPlan(0.5, 0.5, 0.0, by="object", held_out=("b",)))]  # fmt: skip
    _, _, test = sequences.split_trajectories(data, tasks.classify())
    (sample,) = test
    assert (sample.label, sample.side.options, len(sample.time)) == ("run", ("run", "walk"), 40)
    assert not sample.wanted.any()
    assert sample.without_truth().label is None


def test_a_whole_track_that_is_cut_by_time_ends_with_its_part() -> None:
    parts = sequences.split_trajectories([walk(label="walk")], tasks.classify())
    assert [len(part[0].time) for part in parts] == [20, 10, 10]


@pytest.mark.parametrize(
    ("task", "keys", "message"),
    [
        (tasks.krige(4), {}, "have no krige task"),
        (tasks.next_place(), {}, "has no places"),
        (tasks.classify(), {}, "have no label"),
        (tasks.forecast(30, 2), {}, "none of which makes a sample of forecast-30-2. Choose fewer steps"),
        (
            tasks.next_place(),
            {"place": ("p",) * 40},
            "begins at least 7 days (gap_days) after its object's first stay in the part",
        ),
        (tasks.forecast(3, 2), {"xy": None, "place": ("p",) * 40}, "has no coordinates"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(task: tasks.Task, keys: dict, message: str) -> None:
    with pytest.raises(DataError) as caught:
        sequences.split_trajectories([walk(**keys)], task)
    assert message in str(caught.value)


def test_parts_are_parts() -> None:
    for part in sequences.split_trajectories([walk()], tasks.forecast(3, 2)):
        assert isinstance(part, SampleSequence)
        assert len(part[2:5]) == 3
        assert part.select([1, 0]).indices().tolist() == part.indices()[[1, 0]].tolist()
        assert part[-1].id == part[len(part) - 1].id
        with pytest.raises(IndexError, match="There is no sample 999"):
            part[999]


def test_the_hash_changes_with_the_task_the_rows_and_the_data() -> None:
    result = {
        sequences.split_trajectories([trajectory], task, stride)[0].sha256
        for trajectory, task, stride in (
            (walk(), tasks.forecast(3, 2), 1),
            (walk(), tasks.forecast(2, 2), 1),
            (walk(), tasks.forecast(3, 2), 2),
            (replace(walk(), name="other"), tasks.forecast(3, 2), 1),
        )
    }
    assert len(result) == 4


def test_split_takes_trajectories_and_events_as_any_other_data(tmp_path) -> None:
    result = st2llm.split(st2llm.load_data(write(tmp_path)), tasks.forecast(3, 2), stride=2)
    assert set(result.indices()) == {"train", "validation", "test"}
    events = st2llm.split(make_events(), tasks.next_event(3))
    assert len(events.train) + len(events.validation) + len(events.test) == 60 - 3 * 3


def test_an_empty_data_set_is_an_error() -> None:
    with pytest.raises(DataError, match="empty list"):
        st2llm.split([], tasks.forecast(3, 2))


def test_company_is_who_begins_a_window_at_the_same_time_under_the_same_label() -> None:
    data = [walk("a", label="s"), walk("b", label="s", time=list(range(600, 3000, 60))), walk("c", label="t")]
    data = [replace(trajectory, split=SplitPlan(1.0, 0.0, 0.0)) for trajectory in data]
    part = sequences.split_trajectories(data, tasks.forecast(8, 12))[0]
    kept = sequences.with_company(part)
    assert {sample.place[0] for sample in kept} == {"a", "b"}
    starts = {(sample.place[0], int(sample.time[0]) - MONDAY) for sample in kept}
    assert starts == {(name, t) for name in "ab" for t in range(600, 21 * 60, 60)}


def test_an_event_is_predicted_from_those_before_it_and_its_time_is_hidden() -> None:
    test = sequences.split_events(make_events(), tasks.next_event(3, ("gap_h",)))[2]
    sample = test[0]
    row = int(test.indices()[0])
    assert sample.side.channels == ("gap_h", "x", "y", "mark", "magnitude")
    assert np.isnan(sample.values[0, 0, 0])
    np.testing.assert_allclose(sample.values[1:3, 0, 0], [(row - 2) / 60, (row - 1) / 60])
    assert np.isnan(sample.values[3]).all()
    assert sample.wanted.sum() == 1
    assert sample.truth is not None
    assert sample.truth[3, 0, 0] == pytest.approx(row / 60)
    assert sample.time[3] == sample.time[2]
    assert sample.side.options == ("big", "small")


def test_the_sort_of_the_next_event_is_a_label() -> None:
    train = sequences.split_events(make_events(), tasks.next_event(3, ("mark",)))[0]
    assert {sample.label for sample in train} == {"big", "small"}
    assert all(
        sample.label == ("big", "small")[int(sample.truth[3, 0, 3])]
        for sample in train
        if sample.truth is not None
    )


def test_events_of_one_part_alone_make_its_samples() -> None:
    data = make_events()
    cut = [data.window[0] + (data.window[1] + 1 - data.window[0]) * share for share in (0.5, 0.75)]
    for part, low, high in zip(
        sequences.split_events(data, tasks.next_event(3)), [0, *cut], [*cut, np.inf], strict=True
    ):
        for sample, row in zip(part, part.indices(), strict=True):
            assert low <= sample.time[0]
            assert data.time[row] < high


def test_attributes_of_events_are_hidden_unless_known() -> None:
    data = make_events(attributes={"rain": np.ones(60), "tide": np.ones(60)}, known=("tide",))
    sample = sequences.split_events(data, tasks.next_event(3))[0][0]
    assert sample.visible[3, 0].tolist() == [False] * 6 + [True]


def test_a_known_attribute_that_is_asked_for_is_hidden() -> None:
    """Caught: a task that asked for nothing, since what it asked for was known."""
    data = make_events(attributes={"rain": np.ones(60), "tide": np.ones(60)}, known=("rain", "tide"))
    sample = sequences.split_events(data, tasks.next_event(3, ("tide",)))[0][0]
    assert sample.wanted[3, 0].tolist() == [False] * 6 + [True]
    assert sample.visible[3, 0].tolist() == [False] * 5 + [True, False]


@pytest.mark.parametrize(
    ("task", "keys", "message"),
    [
        (tasks.forecast(3, 2), {}, "Choose next-event"),
        (tasks.next_event(3, ("depth",)), {}, "no channel 'depth'"),
        (tasks.next_event(40), {}, "none of which makes a sample"),
        (tasks.next_event(3), {"split": SplitPlan(1.0, 0.0, 0.0, by="object")}, "only be split by time"),
    ],
)
def test_an_event_task_that_does_not_fit_is_refused(task: tasks.Task, keys: dict, message: str) -> None:
    with pytest.raises(DataError) as caught:
        sequences.split_events(make_events(**keys), task)
    assert message in str(caught.value)


@given(
    st.lists(st.lists(st.sampled_from([60, 60, 60, 300]), min_size=1, max_size=25), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_windows_are_exactly_those_that_a_plain_search_finds(
    gaps: list[list[int]], history: int, horizon: int, stride: int
) -> None:
    assume(any(60 in gap for gap in gaps))  # else the step is refused
    data = [
        walk(f"o{i}", np.cumsum([0, *gap]).tolist(), step=60, split=SplitPlan(0.6, 0.2, 0.2))
        for i, gap in enumerate(gaps)
    ]
    task = tasks.forecast(history, horizon)
    windows = sequences.TrajectoryWindows.from_trajectories(data, task)
    for part in range(3):
        expected, row = [], 0
        for trajectory in data:
            own_parts = windows.parts[row : row + len(trajectory.time)]
            run = 0
            for i in range(len(trajectory.time)):
                fresh = (
                    i == 0
                    or own_parts[i] != own_parts[i - 1]
                    or trajectory.time[i] - trajectory.time[i - 1] != 60
                )
                run = i if fresh else run
                end = i + task.length
                inside = (
                    end <= len(trajectory.time)
                    and (own_parts[i:end] == part).all()
                    and (np.diff(trajectory.time[i:end]) == 60).all()
                )
                if inside and (i - run) % stride == 0:
                    expected.append(row + i)
            row += len(trajectory.time)
        assert windows.window_starts(part, stride).tolist() == expected


def _users(count: int = 6, each: int = 10, **keys: object) -> Events:
    """Users in turn, an event an hour: the k-th event of user u is at hour k * count + u, with magnitude 100 u + k."""
    row = np.arange(count * each)
    user, time = row % count, MONDAY + 3600 * row
    return Events(
        "visits", "UTC", time, (int(time[0]), int(time[-1])), magnitude=100.0 * user + row // count, object=user,
        objects=tuple(f"u{i}" for i in range(count)), split=SplitPlan(0.5, 0.25, 0.25),
    ) if not keys else replace(_users(count, each), **keys)  # fmt: skip


def test_the_history_of_an_event_is_that_of_its_own_object() -> None:
    data = _users()
    parts = sequences.split_events(data, tasks.next_event(2))
    assert [len(part) for part in parts] == [6 * 3, 3 * 1 + 0, 3 * 1]
    for part in parts:
        for sample, row in zip(part, part.indices(), strict=True):
            user = int(data.object[row])
            assert sample.place == (f"u{user}",)
            seen = sample.values[:2, 0, sample.side.channels.index("magnitude")]
            assert (seen // 100 == user).all()
            assert np.diff(seen).tolist() == [1]
            assert sample.truth[2, 0, 0] == 6  # hours since the event before of the same user


def test_a_split_by_object_keeps_each_user_in_one_part() -> None:
    plan = SplitPlan(0.5, 1 / 6, 1 / 3, by="object")
    parts = sequences.split_events(_users(split=plan), tasks.next_event(4))
    users = [{sample.place[0] for sample in part} for part in parts]
    assert [len(part) for part in users] == [3, 1, 2]
    assert len(set.union(*users)) == 6
    assert [len(part) for part in parts] == [3 * 6, 6, 2 * 6]
    held = SplitPlan(0.5, 0.5, 0.0, by="object", held_out=("u4",))
    test = sequences.split_events(_users(split=held), tasks.next_event(4))[2]
    assert {sample.place for sample in test} == {("u4",)}


def test_the_stride_counts_the_events_of_each_object_and_context_may_be_earlier() -> None:
    data = _users()
    train = sequences.split_events(data, tasks.next_event(2), 2)[0]
    assert train.indices().tolist() == sorted([*range(12, 18), *range(24, 30)])
    test = sequences.split_events(data, tasks.next_event(2), context=True)[2]
    assert test.indices().tolist() == list(range(45, 60))


def test_events_without_objects_cannot_be_split_by_them() -> None:
    with pytest.raises(DataError, match="name the column of `object`"):
        sequences.split_events(
            make_events(split=SplitPlan(0.5, 0.25, 0.25, by="object")), tasks.next_event(3)
        )
