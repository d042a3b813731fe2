from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st2llm.data.windows import partition
from st2llm.errors import DataError
from st2llm.types import SplitPlan, Trajectory


def track(name: str, first: int, count: int, plan: SplitPlan, label: str | None = None) -> Trajectory:
    time = first + np.arange(count, dtype=np.int64)
    return Trajectory("tiny", name, "UTC", time, xy=np.zeros((count, 2)), split=plan, label=label)


def test_time_is_cut_by_shares_of_the_span_of_all_objects() -> None:
    plan = SplitPlan(0.5, 0.25, 0.25)
    early, late = partition.assign_parts([track("a", 0, 60, plan), track("b", 40, 60, plan)])
    assert np.bincount(early, minlength=3).tolist() == [50, 10, 0]
    assert np.bincount(late, minlength=3).tolist() == [10, 25, 25]


def test_a_boundary_moves_back_to_local_midnight() -> None:
    first = int(pd.Timestamp("2024-01-01", tz="America/New_York").timestamp())
    last = int(pd.Timestamp("2024-01-11", tz="America/New_York").timestamp()) - 1
    cuts = partition.part_boundaries(SplitPlan(0.75, 0.2, 0.05, align="day"), first, last, "America/New_York")
    local = [pd.Timestamp(cut, unit="s", tz="America/New_York") for cut in cuts]
    assert [str(trajectory)[:16] for trajectory in local] == ["2024-01-08 00:00", "2024-01-10 00:00"]


def test_whole_objects_are_drawn_by_their_ids_and_not_by_their_order() -> None:
    tracks = [track(f"o{i}", 10 * i, 5, SplitPlan(0.6, 0.2, 0.2, by="object")) for i in range(10)]
    parts = {
        trajectory.id: set(part.tolist())
        for trajectory, part in zip(tracks, partition.assign_parts(tracks), strict=True)
    }
    assert sorted(number for result in parts.values() for number in result) == [0] * 6 + [1] * 2 + [2] * 2
    again = {
        trajectory.id: set(part.tolist())
        for trajectory, part in zip(tracks[::-1], partition.assign_parts(tracks[::-1]), strict=True)
    }
    assert again == parts


def test_trips_of_one_object_are_in_one_part() -> None:
    plan = SplitPlan(0.5, 0.25, 0.25, by="object")
    trips = [
        replace(track(f"o{i}/{j}", 100 * j, 5, plan), cut_from=f"o{i}") for i in range(8) for j in range(1, 4)
    ]
    parts = partition.assign_parts(trips)
    part_of_whole = {trip.whole_id: set() for trip in trips}
    for trip, part in zip(trips, parts, strict=True):
        part_of_whole[trip.whole_id] |= set(part.tolist())
    assert sorted(len(part) for part in part_of_whole.values()) == [1] * 8
    assert sorted(min(part) for part in part_of_whole.values()) == [0] * 4 + [1] * 2 + [2] * 2


def test_holding_out_an_object_holds_out_its_trips_and_a_single_trip_cannot_be() -> None:
    plan = SplitPlan(0.5, 0.5, 0.0, by="object", held_out=("b",))
    trips = [replace(track(f"{o}/{j}", 100 * j, 5, plan), cut_from=o) for o in "abc" for j in (1, 2)]
    parts = [set(part.tolist()) for part in partition.assign_parts(trips)]
    assert parts[2:4] == [{2}, {2}]
    assert not any(2 in part for part in parts[:2] + parts[4:])
    one = replace(plan, held_out=("b/1",))
    with pytest.raises(DataError, match="b/1"):
        partition.assign_parts([replace(trip, split=one) for trip in trips])


def test_named_objects_are_held_out() -> None:
    plan = SplitPlan(0.5, 0.5, 0.0, by="object", held_out=("b",))
    parts = partition.assign_parts([track(name, 0, 3, plan) for name in "abc"])
    assert set(parts[1].tolist()) == {2}
    assert {*parts[0].tolist(), *parts[2].tolist()} == {0, 1}


def test_labels_that_are_not_held_out_are_cut_each_by_its_own_span() -> None:
    plan = SplitPlan(0.9, 0.1, 0.0, by="label", held_out=("z",))
    tracks = [
        track("1", 0, 100, plan, "x"),
        track("2", 10_000, 100, plan, "y"),
        track("3", 50, 10, plan, "z"),
    ]
    x, y, z = partition.assign_parts(tracks)
    assert np.bincount(x).tolist() == np.bincount(y).tolist() == [90, 10]
    assert set(z.tolist()) == {2}


def test_parts_may_be_given() -> None:
    trajectory = replace(track("a", 0, 4, SplitPlan(1.0, 0.0, 0.0, by="given")), part=np.array([0, 0, 1, 2]))
    assert partition.assign_parts([trajectory])[0].tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (SplitPlan(1.0, 0.0, 0.0, by="given"), "the data give no parts"),
        (SplitPlan(1.0, 0.0, 0.0, by="label", held_out=("norht",)), "Did you mean 'north'?"),
        (SplitPlan(1.0, 0.0, 0.0, by="place"), "no split by 'place'"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(plan: SplitPlan, message: str) -> None:
    with pytest.raises(DataError) as caught:
        partition.assign_parts([track("a", 0, 4, plan, "north")])
    assert message in str(caught.value)


@given(st.floats(0.05, 0.9), st.integers(2, 300))
def test_no_train_fix_is_later_than_a_test_fix(train: float, count: int) -> None:
    rest = (1 - train) / 2
    tracks = [
        track("a", 0, count, SplitPlan(train, rest, rest)),
        track("b", 7, count, SplitPlan(train, rest, rest)),
    ]
    parts = np.concatenate(partition.assign_parts(tracks))
    time = np.concatenate([trajectory.time for trajectory in tracks])
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        if (parts == earlier).any() and (parts == later).any():
            assert time[parts == earlier].max() < time[parts == later].min()
