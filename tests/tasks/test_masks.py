import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st2llm import tasks
from st2llm.errors import ConfigError

STEPS = st.integers(1, 50)


@given(STEPS, STEPS)
def test_a_forecast_hides_its_horizon_and_nothing_before_it(history, horizon):
    hidden = tasks.forecast(history, horizon).hidden((history + horizon, 3, 2))
    assert not hidden[:history].any()
    assert hidden[history:].all()


@given(STEPS, STEPS)
def test_length_is_what_is_seen_and_what_is_asked(history, horizon):
    task = tasks.forecast(history, horizon)
    assert (task.context, task.length) == (history, history + horizon)
    assert isinstance(task, tasks.Task)


@pytest.mark.parametrize(("history", "horizon"), [(0, 1), (1, 0), (-3, 2)])
def test_a_forecast_of_no_steps_is_refused(history, horizon):
    with pytest.raises(ConfigError, match="at least 1 step"):
        tasks.forecast(history, horizon)


def test_a_list_of_horizons_gives_a_task_for_each():
    found = tasks.from_config({"forecast": {"history": 12, "horizon": [3, 6, 12]}})
    assert [task.name for task in found] == ["forecast-12-3", "forecast-12-6", "forecast-12-12"]


@pytest.mark.parametrize("missing_by", ["points", "blocks"])
def test_history_is_missing_in_its_share_and_a_larger_share_hides_the_same_entries_and_more(missing_by):
    masks = [
        tasks.forecast(40, 5, missing=share, missing_by=missing_by).missing_history((45, 60, 2), "w")
        for share in (0.0, 0.25, 0.5, 0.75)
    ]
    for share, mask in zip((0.0, 0.25, 0.5, 0.75), masks, strict=True):
        assert mask[:40].mean() == pytest.approx(share, abs=0.05)
        assert not mask[40:].any() and (mask[..., 0] == mask[..., 1]).all()
    for less, more in itertools.pairwise(masks):
        assert not (less & ~more).any()


def test_missing_history_is_part_of_the_name_and_of_what_splits_are_hashed_by_only_where_some_is_missing():
    plain, gaps = tasks.forecast(12, 3), tasks.forecast(12, 3, missing=0.5, missing_by="blocks")
    assert (plain.name, repr(plain)) == ("forecast-12-3", "Forecast(history=12, horizon=3)")
    assert gaps.name == "forecast-12-3-missing-0.5-blocks" and "missing=0.5" in repr(gaps)
    assert repr(gaps) != repr(tasks.forecast(12, 3, missing=0.5))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"forecast": {"history": 4, "horizon": 1, "missing": 1.0}}, "below 1, but it is 1.0"),
        (
            {"forecast": {"history": 4, "horizon": 1, "missing_by": "block"}},
            "missing_by should be 'points' or",
        ),
        ({"forcast": {"history": 1, "horizon": 1}}, "Did you mean 'forecast'"),
        ({"forecast": {"history": 1, "horizn": 1}}, "Did you mean 'horizon'"),
        ({"forecast": {"history": 1}}, "needs 'horizon'"),
    ],
)
def test_a_wrong_task_is_refused_with_what_to_write(spec, says):
    with pytest.raises(ConfigError, match=says):
        tasks.from_config(spec)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (partial(tasks.forecast, 12, 3), "forecast-12-3"),
        (partial(tasks.impute, 12), "impute-12-points-0.25"),
        (partial(tasks.interpolate, 12), "interpolate-12-4"),
        (partial(tasks.krige, 12), "krige-12-0.25"),
    ],
)
def test_a_task_of_chosen_channels_has_them_in_its_name_and_every_other_one_keeps_its_own(make, name):
    chosen = make(target=("sea level",))
    assert (chosen.name, chosen.target) == (f"{name}-of-sea-level", ("sea level",))
    assert make().name == name and "target" not in repr(make())  # the repr is part of the hash of a split
    (same,) = tasks.from_config({chosen.type: {"target": ["sea level"], **_lengths(chosen)}})
    assert same == chosen


def _lengths(task):
    return {key: getattr(task, key) for key in ("history", "horizon", "length") if key in vars(task)}


def test_kriging_after_a_history_hides_places_from_then_on_and_has_a_name_of_its_own():
    after = tasks.krige(12, history=8)
    hidden = after.hidden((12, 4, 1), "a window")
    assert not hidden[:8].any()
    assert hidden[8:].all(axis=0).sum() == 1 and not hidden[8:, ~hidden[8:].any(axis=(0, 2))].any()
    assert after.name == "krige-12-0.25-after-8" and "history" not in repr(tasks.krige(12))
    with pytest.raises(ConfigError, match="must leave a step of krige.length to hide, but it is 12 of 12"):
        tasks.krige(12, history=12)


def test_the_rule_of_next_places_names_a_task_only_where_it_is_another_than_the_published_one():
    published = tasks.next_place(10)
    # The repr is part of the hash of a split, and the name of an arm's files: both must stay as they were.
    assert repr(published) == "NextPlace(history=10, context_stays=5, target_time=True)"
    assert published.name == "next-place-10-5-timed"
    other = tasks.next_place(10, gap_days=1)
    assert other.name == "next-place-10-5-timed-7-1-3" and repr(other).endswith(" gap_days=1)")


def test_tasks_of_equal_settings_are_equal_and_hide_the_same():
    one, other = tasks.forecast(5, 2), tasks.from_config({"forecast": {"history": 5, "horizon": 2}})[0]
    assert one == other
    assert np.array_equal(one.hidden((7, 2, 1)), other.hidden((7, 2, 1)))
