from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import weather

from st2llm import tasks
from st2llm.data import calendar
from st2llm.data.windows import Splits, split
from st2llm.data.windows.field import boundaries
from st2llm.errors import DataError
from st2llm.types import Edges, Note, SensorGraph, SplitPlan

FIRST = 1_704_020_400  # 2024-01-01 00:00 in Auckland
EDGES = Edges(np.array([0, 1, 1]), np.array([1, 0, 2]), np.array([0.5, 0.25, 1.0]))


def _data(
    steps: int = 100,
    *,
    plan: SplitPlan | None = None,
    first: int = FIRST,
    values: np.ndarray | None = None,
    notes: tuple[Note, ...] = (),
) -> SensorGraph:
    """Values that name their own step and place, hourly, in Auckland."""
    time = first + 3600 * np.arange(steps, dtype=np.int64)
    own = np.arange(steps, dtype=np.float64)[:, None, None] * 10 + np.arange(3.0)[None, :, None]
    return SensorGraph(
        name="tiny",
        unit="people",
        timezone="Pacific/Auckland",
        freq_s=3600,
        values=own if values is None else values,
        time=time,
        places=("a", "b", "c"),
        labels=("A", "B", "C"),
        channels=("value",),
        edges=EDGES,
        calendar=calendar.calendar_of(time, "Pacific/Auckland", freq_s=3600, country="NZ"),
        split=plan or SplitPlan(0.7, 0.1, 0.2),
        notes=notes,
    )


def _parts(splits: Splits) -> list:
    return [splits.train, splits.validation, splits.test]


def test_a_sample_shows_the_history_and_asks_for_the_horizon() -> None:
    sample = split(_data(), tasks.forecast(4, 2)).train[3]
    assert sample.values[:4, 1, 0].tolist() == [31, 41, 51, 61]
    assert np.isnan(sample.values[4:]).all()
    assert sample.truth is not None
    assert sample.truth[4:, 1, 0].tolist() == [71, 81]
    assert np.isnan(sample.truth[:4]).all()
    assert (sample.wanted == ~sample.visible).all()
    assert sample.id == "tiny/2024-01-01T07:00:00+13:00"


def test_a_missing_value_is_neither_visible_nor_known_but_still_wanted() -> None:
    values = _data().values.copy()
    values[[1, 5], 0] = np.nan
    sample = split(_data(values=values), tasks.forecast(4, 2)).train[0]
    assert not sample.visible[1, 0, 0]
    assert sample.wanted[5, 0, 0]
    assert sample.truth is not None
    assert np.isnan(sample.truth[5, 0, 0])
    assert np.isfinite(sample.truth[5, 1, 0])


def test_the_side_holds_the_windows_calendar_neighbours_and_labels() -> None:
    side = split(_data(), tasks.forecast(4, 2)).train[20].side
    assert side.calendar.step_of_day.tolist() == [20, 21, 22, 23, 0, 1]
    assert side.calendar.day_of_week.tolist() == [0, 0, 0, 0, 1, 1]
    assert side.calendar.holiday[0] == "New Year's Day"
    assert side.neighbours == (((1, 0.25),), ((0, 0.5),), ((1, 1.0),))
    assert side.labels == ("A", "B", "C")


def test_a_note_is_shown_only_where_it_overlaps_the_wanted_time() -> None:
    def note(first: int, last: int) -> Note:
        return Note(FIRST + 3600 * first, FIRST + 3600 * last, f"{first} to {last}")

    data = _data(notes=(note(0, 4), note(3, 5), note(5, 6), note(6, 9)))
    assert split(data, tasks.forecast(4, 2)).train[0].side.notes == ("3 to 5", "5 to 6")


def test_parts_are_cut_first_and_windows_lie_inside_them() -> None:
    splits = split(_data(), tasks.forecast(4, 2))
    assert boundaries(_data()) == (0, 70, 80, 100)
    assert [len(part) for part in _parts(splits)] == [65, 5, 15]
    assert splits.validation.indices().tolist() == [70, 71, 72, 73, 74]


def test_with_context_the_history_alone_comes_from_the_part_before() -> None:
    splits = split(_data(), tasks.forecast(4, 2), context=True)
    assert splits.validation.indices().tolist() == list(range(66, 75))
    assert splits.test.indices()[0] == 76
    assert splits.train.indices()[0] == 0


@pytest.mark.parametrize("steps", [10, 20, 2016, 61_368])
def test_boundaries_are_whole_shares_despite_binary_fractions(steps: int) -> None:
    data = _data(10, plan=SplitPlan(0.7, 0.1, 0.2))
    longer = replace(
        data, time=FIRST + 3600 * np.arange(steps, dtype=np.int64), values=np.ones((steps, 3, 1))
    )
    assert boundaries(longer) == (0, steps * 7 // 10, steps * 8 // 10, steps)


def test_align_day_moves_boundaries_back_to_local_midnight() -> None:
    plan = SplitPlan(0.5, 0.2, 0.3, align="day")
    data = _data(24 * 20 + 7, first=FIRST + 5 * 3600, plan=plan)
    cuts = boundaries(data)
    assert [int(data.calendar.step_of_day[cut]) for cut in cuts[1:3]] == [0, 0]
    plain = boundaries(_data(24 * 20 + 7, plan=SplitPlan(0.5, 0.2, 0.3)))
    assert all(0 <= far - near < 24 for near, far in zip(cuts, plain, strict=True))


def test_daily_origins_are_local_midnights_whatever_the_clocks_do() -> None:
    april = FIRST + 90 * 24 * 3600
    plan = SplitPlan(0.5, 0.2, 0.3, align="day")
    data = _data(24 * 40, first=april, plan=plan)
    parts = _parts(split(data, tasks.forecast(24, 24), stride=24))
    slots = [int(s.side.calendar.step_of_day[s.first_wanted_step]) for part in parts for s in part]
    assert set(slots) == {0}
    gaps = {int(gap) for part in parts for gap in np.diff(part.indices())}
    assert gaps == {24, 25}


def test_every_second_midnight_is_taken_with_a_stride_of_two_days() -> None:
    plan = SplitPlan(1.0, 0.0, 0.0, align="day")
    splits = split(_data(24 * 9, plan=plan), tasks.forecast(24, 24), stride=48)
    assert np.diff(splits.train.indices()).tolist() == [48, 48, 48]


def test_other_strides_are_plain_steps() -> None:
    plan = SplitPlan(1.0, 0.0, 0.0, align="day")
    assert split(_data(plan=plan), tasks.forecast(4, 2), stride=7).train.indices()[:3].tolist() == [0, 7, 14]


def test_a_part_of_no_share_is_empty() -> None:
    splits = split(_data(plan=SplitPlan(0.8, 0.0, 0.2)), tasks.forecast(4, 2))
    assert len(splits.validation) == 0
    assert splits.indices()["validation"].dtype == np.int64


def test_a_history_longer_than_the_data_is_refused_with_the_numbers() -> None:
    with pytest.raises(DataError, match="tiny has 100 steps, but forecast-168-24 needs 192"):
        split(_data(), tasks.forecast(168, 24))


def test_a_part_too_small_for_one_window_is_refused_with_the_numbers() -> None:
    with pytest.raises(
        DataError, match="the validation part has 10 of 100 steps, too few for one window of 12"
    ):
        split(_data(), tasks.forecast(8, 4))


def test_a_stride_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="at least 1 step"):
        split(_data(), tasks.forecast(4, 2), stride=0)


def test_windows_are_a_sequence() -> None:
    train = split(_data(), tasks.forecast(4, 2)).train
    assert train[-1].id == train[len(train) - 1].id
    assert train[2:8:3].indices().tolist() == [2, 5]
    assert train.select([5, 0]).indices().tolist() == [5, 0]
    assert len(list(train[:4])) == 4
    with pytest.raises(IndexError, match="no window 65"):
        train[65]


def test_changing_a_windows_indices_does_not_change_the_window() -> None:
    train = split(_data(), tasks.forecast(4, 2)).train
    train.indices()[0] = 50
    assert train.indices()[0] == 0


def test_the_hash_is_stable_and_names_task_stride_and_choice() -> None:
    task = tasks.forecast(4, 2)
    first = split(_data(), task)
    assert first.sha256 == split(_data(), task).sha256
    others = [split(_data(), task, stride=2), split(_data(), tasks.forecast(3, 3)), split(_data(99), task)]
    assert len({first.sha256, *(other.sha256 for other in others)}) == 4
    assert first.train.sha256 != first.train[1:].sha256


def test_the_hash_is_the_same_on_every_machine() -> None:
    assert split(_data(), tasks.forecast(4, 2)).train[:2].sha256 == (
        "97c18205f87183c7ff7f66335648715b97529856eadd37a4467374316fdda068"
    )


def test_what_comes_after_the_origin_changes_nothing_that_is_visible() -> None:
    before = split(_data(), tasks.forecast(4, 2)).train[10]
    values = _data().values.copy()
    values[14:] = -1e9
    after = split(_data(values=values), tasks.forecast(4, 2)).train[10]
    np.testing.assert_array_equal(before.values, after.values)
    np.testing.assert_array_equal(before.visible, after.visible)


def test_test_values_change_no_sample_to_learn_from() -> None:
    values = _data().values.copy()
    values[boundaries(_data())[2] :] = -1e9
    first, second = split(_data(), tasks.forecast(4, 2)), split(_data(values=values), tasks.forecast(4, 2))
    for part, other in ((first.train, second.train), (first.validation, second.validation)):
        for a, b in zip(part, other, strict=True):
            np.testing.assert_array_equal(a.values, b.values)
            np.testing.assert_array_equal(a.truth, b.truth)


def test_writing_into_a_sample_does_not_reach_the_data() -> None:
    data = _data()
    sample = split(data, tasks.forecast(4, 2)).train[0]
    sample.values[:] = -1
    sample.wanted[:] = False
    again = split(data, tasks.forecast(4, 2)).train[0]
    assert again.values[0, 0, 0] == 0
    assert again.wanted.any()


@settings(deadline=None, max_examples=60)
@given(
    steps=st.integers(60, 400),
    history=st.integers(1, 20),
    horizon=st.integers(1, 10),
    stride=st.integers(1, 30),
    context=st.booleans(),
    align=st.sampled_from(["step", "day"]),
)
def test_no_window_crosses_a_boundary_and_none_that_fits_is_left_out(
    steps: int, history: int, horizon: int, stride: int, context: bool, align: str
) -> None:
    data = _data(steps, plan=SplitPlan(0.5, 0.2, 0.3, align=align))
    task = tasks.forecast(history, horizon)
    try:
        splits = split(data, task, stride=stride, context=context)
    except DataError as error:
        assert "too few for one window" in str(error)
        return
    cuts = boundaries(data)
    for part, begin, end in zip(_parts(splits), cuts[:-1], cuts[1:], strict=True):
        starts = part.indices()
        first_wanted = starts + history
        assert (first_wanted >= begin).all()
        assert (starts >= (max(begin - history, 0) if context else begin)).all()
        assert (starts + task.length <= end).all()
        assert (np.diff(starts) >= min(stride, 23)).all()
        if stride % 24 or align != "day":
            assert starts[-1] + stride + task.length > end


def _stations(humidity, task=None):
    return split(weather.stations(humidity), task or tasks.forecast(4, 2)).train[0]


def test_a_covariate_is_an_input_that_is_neither_scored_nor_shown_ahead() -> None:
    sample = _stations(weather.COVARIATE)
    assert sample.wanted[4:, :, 0].all() and not sample.wanted[:, :, 1].any()
    assert np.isnan(np.asarray(sample.truth)[:, :, 1]).all()
    assert sample.visible[:4].all() and not sample.visible[4:].any()
    assert (sample.target_channels, sample.covariate_channels, sample.channels_ahead) == ((0,), (1,), ())
    assert (sample.side.unit, sample.side.quantity) == ("degrees Celsius", "air temperature")


def test_a_covariate_known_in_advance_is_shown_at_the_steps_that_are_hidden() -> None:
    sample = _stations(weather.KNOWN)
    assert sample.visible[4:, :, 1].all() and not sample.visible[4:, :, 0].any()
    assert sample.channels_ahead == (1,)
    assert (sample.last_visible_step, sample.first_wanted_step) == (3, 4)


@pytest.mark.parametrize(
    "task",
    [tasks.Impute(12, 0.4), tasks.Interpolate(12, 4), tasks.Krige(6, 0.5)],
    ids=lambda task: task.type,
)
def test_covariates_are_hidden_where_the_targets_are_unless_known_in_advance(task) -> None:
    past, known = _stations(weather.COVARIATE, task), _stations(weather.KNOWN, task)
    for sample in (past, known):
        assert sample.wanted[..., 0].any() and not sample.wanted[..., 1].any()
        assert not (sample.visible & sample.wanted).any()
    assert not past.visible[..., 1][past.wanted[..., 0]].any()
    assert known.visible[..., 1].all()


@pytest.mark.parametrize("role", [weather.COVARIATE, weather.KNOWN])
def test_missing_history_is_neither_shown_nor_asked_for(role) -> None:
    plain, gaps = (_stations(role, tasks.forecast(8, 2, missing=share)) for share in (0.0, 0.5))
    assert (gaps.wanted == plain.wanted).all()
    np.testing.assert_array_equal(gaps.truth, plain.truth)
    gone = plain.visible & ~gaps.visible
    assert gone[:8, :, 0].any() and not gone[8:].any() and np.isnan(gaps.values[gone]).all()
    assert gone[..., 1].any() == (role is weather.COVARIATE)  # what is known in advance needs no sensor


def test_a_task_chooses_its_target() -> None:
    task = tasks.Forecast(4, 2, target=("humidity",))
    sample = _stations(weather.HUMIDITY, task)
    assert task.name == "forecast-4-2-of-humidity"
    assert (sample.target_channels, sample.side.unit) == ((1,), "%")
    assert not sample.wanted[..., 0].any() and not sample.visible[4:, :, 0].any()
    assert tasks.from_config({"forecast": {"history": 4, "horizon": 2, "target": ["humidity"]}}) == [task]


def test_data_whose_channels_are_all_alike_may_be_given_a_target() -> None:
    values = np.random.default_rng(0).normal(size=(100, 3, 2))
    data = replace(_data(values=values), channels=("in", "out"))
    sample = split(data, tasks.Forecast(4, 2, target=("out",))).train[0]
    assert (sample.target_channels, sample.side.unit) == ((1,), "people")
    assert split(data, tasks.forecast(4, 2)).train[0].target_channels == (0, 1)


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(DataError, match=r"tiny: task.forecast.target names the target 'valeu'.*'value'"):
        split(_data(), tasks.Forecast(4, 2, target=("valeu",)))


def test_roles_are_part_of_the_identity_of_windows() -> None:
    task = tasks.forecast(4, 2)
    hashes = {
        split(weather.stations(humidity), task).sha256
        for humidity in (weather.HUMIDITY, weather.COVARIATE, weather.KNOWN)
    }
    assert len(hashes) == 3


def test_a_place_without_a_reading_of_the_target_is_never_hidden_alone() -> None:
    own = weather.values(200)
    own[:, 1, 0] = np.nan
    data = weather.stations(weather.COVARIATE, own=own)
    samples = split(data, tasks.Impute(12, 0.1), stride=12).train
    assert all(sample.wanted_nodes == (0,) for sample in samples)
