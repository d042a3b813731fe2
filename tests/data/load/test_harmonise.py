import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st2llm.data.card.sequence import HarmoniseStep, Outliers, Resample, StayPoints
from st2llm.data.load import harmonise
from st2llm.data.load.fixes import Fixes, resolve_duplicates
from st2llm.errors import ConfigError, DataError


def fixes(
    xy: list[tuple[float, float]], time: list[int] | None = None, owner: list[int] | None = None
) -> Fixes:
    count = len(xy)
    who = np.array(owner or [0] * count, dtype=np.int32)
    return Fixes(
        objects=tuple(f"o{i}" for i in range(int(who.max()) + 1)),
        owner=who,
        time=np.array(time if time is not None else range(count), dtype=np.int64),
        xy=np.array(xy, dtype=np.float64),
        labels=(None,) * (int(who.max()) + 1),
    )


def test_a_fix_that_could_not_be_reached_is_dropped() -> None:
    result, steps = harmonise.max_speed(fixes([(0, 0), (1, 0), (900, 0), (3, 0)]), 10)
    assert result.xy[:, 0].tolist() == [0, 1, 3]
    assert steps == "max_speed 10 m/s: dropped 1 of 4 fixes"


def test_several_bad_fixes_in_a_row_are_measured_from_the_last_good_one() -> None:
    result, _ = harmonise.max_speed(fixes([(0, 0), (1, 0), (900, 0), (901, 0), (902, 0), (5, 0)]), 10)
    assert result.xy[:, 0].tolist() == [0, 1, 5]


def test_a_bad_first_fix_does_not_cost_the_rest() -> None:
    result, _ = harmonise.max_speed(fixes([(900, 0), (1, 0), (2, 0), (3, 0)]), 10)
    assert result.xy[:, 0].tolist() == [1, 2, 3]


def test_speed_is_not_measured_from_one_object_to_the_next() -> None:
    result, _ = harmonise.max_speed(
        fixes([(0, 0), (1, 0), (900, 0), (901, 0)], [0, 1, 0, 1], [0, 0, 1, 1]), 10
    )
    assert len(result) == 4


@given(st.lists(st.integers(-500, 500), min_size=2, max_size=40), st.integers(1, 100))
def test_no_step_is_too_fast_after_the_speed_filter(east: list[int], limit: int) -> None:
    result, _ = harmonise.max_speed(fixes([(x, 0) for x in east]), float(limit))
    assert (np.abs(np.diff(result.xy[:, 0])) <= limit * np.diff(result.time)).all()


def test_a_lone_jump_there_and_back_is_dropped() -> None:
    result, _ = harmonise.jumps(fixes([(0, 0), (1, 0), (500, 0), (2, 0), (3, 0)]), 100)
    assert result.xy[:, 0].tolist() == [0, 1, 2, 3]


def test_a_jump_that_stays_is_no_lone_jump() -> None:
    result, _ = harmonise.jumps(fixes([(0, 0), (1, 0), (500, 0), (501, 0)]), 100)
    assert len(result) == 4


def test_outliers_go_and_a_steady_walk_stays() -> None:
    walk = [(float(i), 0.0) for i in range(30)]
    walk[15] = (15.0, 400.0)
    result, _ = harmonise.outliers(fixes(walk), Outliers(window=7, mad=5))
    assert 400.0 not in result.xy[:, 1]
    assert len(result) == 29


def test_a_gap_begins_a_new_object() -> None:
    result, steps = harmonise.trips(fixes([(0, 0)] * 5, [0, 10, 5000, 5010, 0], [0, 0, 0, 0, 1]), "10min")
    assert result.objects == ("o0/1", "o0/2", "o1")
    assert result.cut_from == ("o0", "o0", "o1")
    assert result.owner.tolist() == [0, 0, 1, 1, 2]
    assert steps == "trips 10min: 2 objects became 3"


def test_trips_of_trips_know_the_whole_object_and_keep_it_when_others_are_dropped() -> None:
    rows = fixes([(0, 0)] * 7, [0, 10, 700, 5000, 5010, 5020, 0], [0, 0, 0, 0, 0, 0, 1])
    steps = [HarmoniseStep(trips="1h"), HarmoniseStep(trips="10min"), HarmoniseStep(shortest=2)]
    result, _ = harmonise.apply(rows, steps)
    assert result.objects == ("o0/1/1", "o0/2")
    assert result.cut_from == ("o0", "o0")


def test_short_objects_are_dropped() -> None:
    result = harmonise.shortest(fixes([(0, 0)] * 3, [0, 1, 0], [0, 0, 1]), 2)[0].without_empty()
    assert result.objects == ("o0",)


def test_resampling_puts_fixes_on_the_clock_along_straight_lines() -> None:
    result, _ = harmonise.resample(fixes([(0, 0), (15, 30), (20, 30)], [5, 20, 25]), Resample(step="10s"))
    assert result.time.tolist() == [10, 20]
    np.testing.assert_allclose(result.xy, [[5, 10], [15, 30]])


def test_resampling_does_not_fill_wide_gaps() -> None:
    result, _ = harmonise.resample(
        fixes([(0, 0), (1, 0), (2, 0)], [0, 10, 100]), Resample(step="10s", max_gap="30s")
    )
    assert result.time.tolist() == [0, 10, 100]


def test_resampling_does_not_join_objects() -> None:
    result, _ = harmonise.resample(fixes([(0, 0), (9, 9)], [0, 20], [0, 1]), Resample(step="10s"))
    assert result.time.tolist() == [0, 20]
    assert result.owner.tolist() == [0, 1]


def test_resampling_goes_the_short_way_round_the_globe() -> None:
    some = fixes([(0, 0), (1, 1)], [0, 20])
    some = Fixes(
        some.objects,
        some.owner,
        some.time,
        lonlat=np.array([[179.0, 0.0], [-179.0, 0.0]]),
        labels=some.labels,
    )
    result, _ = harmonise.resample(some, Resample(step="10s"))
    assert abs(abs(result.lonlat[1, 0]) - 180) < 1e-9


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 20))
def test_resampled_fixes_are_one_step_apart_and_inside_the_track(gaps: list[int], step: int) -> None:
    time = np.concatenate([[0], np.cumsum(gaps)])
    some = fixes([(float(t), 0.0) for t in time], time.tolist())
    result, _ = harmonise.resample(some, Resample(step=f"{step}s", max_gap="1h"))
    assert result.time[0] >= 0
    assert result.time[-1] <= time[-1]
    assert (np.diff(result.time) == step).all()
    np.testing.assert_allclose(result.xy[:, 0], result.time, atol=1e-9)


def test_a_stay_is_where_fixes_linger() -> None:
    walk = [(0.0, 0.0), (5.0, 0.0), (0.0, 5.0), (1000.0, 0.0), (2000.0, 0.0), (2001.0, 0.0)]
    some = fixes(walk, [0, 600, 1800, 1900, 2000, 4000])
    result, _ = harmonise.stay_points(some, StayPoints(radius_m=50, minutes=20, place_m=100))
    assert result.time.tolist() == [0, 2000]
    np.testing.assert_allclose(result.xy, [[5 / 3, 5 / 3], [2000.5, 0]])
    assert result.attributes["duration_min"].tolist() == [30, 2000 / 60]
    assert result.place is not None
    assert result.place.codes.tolist() == [0, 1]


def test_a_place_that_is_visited_again_is_the_same_place() -> None:
    walk = [(0.0, 0.0), (0.0, 0.0), (5000.0, 0.0), (5000.0, 0.0), (30.0, 0.0), (30.0, 0.0)]
    result, steps = harmonise.stay_points(fixes(walk, [0, 2000, 3000, 5000, 6000, 8000]), StayPoints())
    assert result.place is not None
    assert result.place.codes.tolist() == [0, 1, 0]
    assert "became 3 stays at 2 places" in steps


def test_data_without_stays_say_so() -> None:
    with pytest.raises(DataError, match="There is no stay of 20 minutes"):
        harmonise.stay_points(fixes([(0, 0), (1e6, 0)], [0, 10]), StayPoints())


def test_steps_run_in_their_order_and_each_is_reported() -> None:
    some = fixes([(0, 0), (1, 0), (900, 0), (3, 0)], [0, 10, 20, 30])
    result, steps = harmonise.apply(
        some,
        [HarmoniseStep.model_validate({"max_speed": 10}), HarmoniseStep.model_validate({"resample": "10s"})],
    )
    assert result.time.tolist() == [0, 10, 20, 30]
    assert result.xy[2, 0] == 2
    assert [line.split()[0] for line in steps] == ["max_speed", "resample"]


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(DataError, match="No fix is left"):
        harmonise.apply(fixes([(0, 0)]), [HarmoniseStep.model_validate({"shortest": 5})])


def test_a_span_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="'soon'"):
        harmonise.duration_s("soon")


def test_a_series_loses_only_what_stands_out() -> None:
    values = np.sin(np.arange(40) / 5)
    values[20] = 30
    assert np.flatnonzero(harmonise.hampel_outliers(values, 9, 6.0)).tolist() == [20]


def test_rows_of_one_time_are_an_error_the_first_or_moved_a_second_apart() -> None:
    some = fixes([(0, 0), (1, 0), (2, 0), (3, 0)], [0, 60, 60, 120])
    with pytest.raises(DataError, match="two rows at time 60"):
        resolve_duplicates(some, "error")
    assert resolve_duplicates(some, "first")[0].xy[:, 0].tolist() == [0, 1, 3]
    assert resolve_duplicates(some, "spread")[0].time.tolist() == [0, 60, 61, 120]
    with pytest.raises(DataError, match="overlaps the next time"):
        resolve_duplicates(fixes([(0, 0), (1, 0), (2, 0)], [60, 60, 61]), "spread")


def test_stays_of_objects_with_origins_of_their_own_are_at_one_place_only_where_they_are() -> None:
    lonlat = np.array([[179.99995, 10.0]] * 3 + [[-179.99995, 10.0]] * 3 + [[20.0, 10.0]] * 3)
    three = Fixes(
        objects=("a", "b", "c"),
        owner=np.repeat(np.arange(3, dtype=np.int32), 3),
        time=np.tile(np.array([0, 600, 1200]), 3),
        lonlat=lonlat,
        xy=np.zeros((9, 2)),
        own_origins=True,
    )
    stays, _ = harmonise.stay_points(three, StayPoints(minutes=10, radius_m=100, place_m=100))
    assert stays.place is not None
    a, b, c = stays.place.codes.tolist()
    assert a == b != c
