"""Injected drift changes test windows alone, by a known amount, and shows no predictor what is asked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny_suite

from st2llm.config.suite import Suite
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.errors import ConfigError
from st2llm.evaluate.controls.drift import shift_test_part


@pytest.fixture(scope="module")
def shifted(card):
    """Makes the splits of three places of hours without and with drift."""
    town = load_data(str(card))

    def make(**shift):
        suite = Suite.model_validate(tiny_suite.rules(card, shift=shift))
        task = suite.tasks[0]
        plain = split(town, task, stride=24)
        return plain, shift_test_part(plain, town, suite, task)

    return make


def whole(sample):
    """Shown and asked values together."""
    return np.where(sample.visible, sample.values, sample.truth)


@pytest.mark.parametrize("kind", ["level", "scale", "season", "missing", "pattern"])
def test_drift_changes_test_windows_alone(shifted, kind):
    plain, moved = shifted(test={kind: 0.5})
    assert [s.id for s in moved.test] == [s.id for s in plain.test]
    assert moved.train is plain.train and moved.validation is plain.validation
    assert moved.sha256 != plain.sha256
    before, after = plain.test[-1], moved.test[-1]
    assert not np.array_equal(before.values, after.values, equal_nan=True)
    if kind == "missing":
        np.testing.assert_array_equal(before.truth, after.truth)
    else:
        assert not np.array_equal(before.truth, after.truth, equal_nan=True)
        np.testing.assert_array_equal(before.wanted, after.wanted)


def test_strength_zero_is_no_drift(shifted):
    plain, moved = shifted(test={"level": 1, "scale": 1, "missing": 0.5}, strength=0)
    for before, after in zip(plain.test, moved.test, strict=True):
        np.testing.assert_array_equal(before.values, after.values)
        np.testing.assert_array_equal(before.truth, after.truth)


@given(strength=st.floats(0.1, 3))
def test_level_and_scale_change_values_by_the_strength(shifted, strength):
    plain, moved = shifted(test={"level": 1.0}, strength=strength)
    added = whole(moved.test[3]) - whole(plain.test[3])
    each = np.nanmean(added, axis=(0, 2))
    np.testing.assert_allclose(
        added, np.broadcast_to(each[None, :, None], added.shape) + 0 * added, atol=1e-8
    )
    spread = np.nanstd(np.stack([sample.values for sample in plain.train]), axis=(0, 1))[:, 0]
    np.testing.assert_allclose(each, strength * spread, rtol=0.1)
    plain, moved = shifted(test={"scale": 1.0}, strength=strength)
    np.testing.assert_allclose(whole(moved.test[3]), (1 + strength) * whole(plain.test[3]))


def test_a_season_comes_half_a_day_later(shifted):
    plain, moved = shifted(test={"season": 1.0})
    np.testing.assert_array_equal(whole(moved.test[3])[12:], whole(plain.test[3])[:-12])


def test_hidden_places_are_nested_and_their_truth_is_still_asked(shifted):
    hidden = []
    for share in (0.34, 0.67):
        _, moved = shifted(test={"missing": share})
        sample = moved.test[0]
        gone = ~sample.visible.any(axis=(0, 2))
        assert np.isnan(sample.values[:, gone]).all() and sample.wanted[:, gone].any()
        hidden.append(set(np.flatnonzero(gone).tolist()))
    assert len(hidden[0]) == 1 and hidden[0] < hidden[1]


def test_a_pattern_grows_over_the_test_part(shifted):
    plain, moved = shifted(test={"pattern": 1.0})
    moves = [
        np.nanmean(np.abs(whole(after) - whole(before)))
        for before, after in zip(plain.test, moved.test, strict=True)
    ]
    assert moves[0] < 0.3 * moves[-1] and np.corrcoef(moves, range(len(moves)))[0, 1] > 0.8


def test_drift_may_begin_later(shifted):
    plain, _ = shifted(test={"level": 1.0})
    start = plain.test[10].time[plain.test[10].first_wanted_step]
    _, moved = shifted(test={"level": 1.0}, after=np.datetime64(int(start), "s").item().isoformat())
    same = [
        np.array_equal(before.values, after.values, equal_nan=True)
        for before, after in zip(plain.test, moved.test, strict=True)
    ]
    assert same == [True] * 10 + [False] * (len(same) - 10)


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        ({"test": {}}, "at least 1"),
        ({"test": {"lvl": 1}}, "level"),
        ({"test": {"missing": 0.6}, "strength": 2}, "share of places"),
        ({"test": {"pattern": 2}}, "from 0 to 1"),
        ({"test": {"scale": -1}}, "above -1"),
    ],
)
def test_strengths_that_mean_nothing_are_refused(card, shift, message):
    with pytest.raises(ValueError, match=message):
        Suite.model_validate(tiny_suite.rules(card, shift=shift))


def test_kinds_of_data_without_readings_are_refused(card):
    content = tiny_suite.rules(card, shift={"test": {"level": 1}})
    suite = Suite.model_validate(content)
    with pytest.raises(ConfigError, match="changes readings of graphs and grids"):
        shift_test_part(None, [], suite, suite.tasks[0])
