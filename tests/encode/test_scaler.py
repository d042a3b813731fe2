"""Standardising learns from what training shows, place by place, and is undone exactly."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import fields, five_kinds

from st2llm import tasks
from st2llm.data.windows import split
from st2llm.encode.scaler import FieldScaler, fit_scaler
from st2llm.types import TrainingWindows

NAN = np.nan


def train(values, history=4, horizon=2, stride=6):
    return fields.windows(
        np.asarray(values, dtype=np.float64), history=history, horizon=horizon, stride=stride
    )


def test_it_standardises_each_place_by_itself():
    values = fields.series(60)
    seen = train(values)
    scaler = fit_scaler(TrainingWindows(seen))
    shown = np.concatenate([sample.values[:4] for sample in seen])
    np.testing.assert_allclose(scaler.mean, shown.mean(axis=0))
    np.testing.assert_allclose(scaler.std, shown.std(axis=0))
    z = scaler.scale(shown)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(axis=0), 1)


def test_missing_values_take_no_part_and_are_not_zeros():
    scaler = fit_scaler(
        TrainingWindows(train(np.array([2, NAN, 4, NAN, 0, 0], dtype=float).reshape(-1, 1, 1)))
    )
    assert (scaler.mean.item(), scaler.std.item()) == (3.0, 1.0)


def test_what_is_asked_for_takes_no_part():
    samples = train(fields.series(60))
    other = [fields.with_truth(sample, 1e6) for sample in samples]
    np.testing.assert_array_equal(
        fit_scaler(TrainingWindows(samples)).mean, fit_scaler(TrainingWindows(other)).mean
    )
    np.testing.assert_array_equal(
        fit_scaler(TrainingWindows(samples)).std, fit_scaler(TrainingWindows(other)).std
    )


def test_values_that_are_not_visible_take_no_part_even_where_they_stand_there():
    samples = train(fields.series(60))
    loud = [replace(s, values=np.where(s.visible, s.values, 1e6)) for s in samples]
    np.testing.assert_array_equal(
        fit_scaler(TrainingWindows(samples)).mean, fit_scaler(TrainingWindows(loud)).mean
    )


def test_other_validation_and_test_data_change_nothing_and_other_training_data_do():
    """Fitted through the real split, whose training windows are cut from the same array as the others."""
    data, task = five_kinds.graph(days=20), tasks.forecast(history=24, horizon=6)
    later, earlier = data.values.copy(), data.values.copy()
    begin = int(0.7 * len(later))
    later[begin:] *= 100
    earlier[:begin] *= 100
    ours, theirs, others = (
        fit_scaler(split(replace(data, values=values), task, stride=6).train)
        for values in (data.values, later, earlier)
    )
    np.testing.assert_array_equal(ours.mean, theirs.mean)
    np.testing.assert_array_equal(ours.std, theirs.std)
    assert (others.mean > 50 * ours.mean).all()


def test_a_place_that_never_changes_is_divided_by_what_is_usual_elsewhere():
    values = fields.series(60)
    values[:, 1] = 7.3
    scaler = fit_scaler(TrainingWindows(train(values)))
    assert scaler.std[1, 0] == pytest.approx(np.sqrt((scaler.std[[0, 2], 0] ** 2).mean()))
    np.testing.assert_allclose(scaler.scale(values)[:, 1], 0, atol=1e-9)


def test_values_that_never_change_anywhere_are_divided_by_one():
    assert (fit_scaler(TrainingWindows(train(np.full((60, 2, 1), 7.3)))).std == 1).all()


def test_a_high_level_does_not_hide_what_varies_and_single_precision_does_not_vary():
    values = fields.series(60)
    np.testing.assert_allclose(
        fit_scaler(TrainingWindows(train(values + 1e6))).std,
        fit_scaler(TrainingWindows(train(values))).std,
        rtol=1e-6,
    )
    rounded = np.float32(7.3) + np.float32(5e-7) * (np.arange(60) % 2)
    values[:, 1, 0] = rounded
    assert fit_scaler(TrainingWindows(train(values))).std[1, 0] > 1


def test_a_place_that_is_never_seen_takes_the_mean_of_all_places():
    values = fields.series(60)
    values[:, 2] = NAN
    scaler = fit_scaler(TrainingWindows(train(values)))
    shown = np.concatenate([sample.values[:4, :2] for sample in train(values)])
    assert scaler.mean[2, 0] == pytest.approx(shown.mean())
    assert scaler.std[2, 0] == pytest.approx(np.sqrt((scaler.std[:2, 0] ** 2).mean()))


def test_a_place_that_is_never_seen_in_one_channel_takes_the_mean_of_that_channel():
    values = np.concatenate([fields.series(60), 1e6 * fields.series(60)], axis=2)
    values[:, 2, 0] = NAN
    scaler = fit_scaler(TrainingWindows(train(values)))
    assert scaler.mean[2, 0] == pytest.approx(fit_scaler(TrainingWindows(train(values[:, :, :1]))).mean[2, 0])


@given(arrays(np.float64, (5, 3, 1), elements=st.floats(-1e5, 1e5, allow_subnormal=False)))
def test_a_round_trip_is_exact_to_nine_digits(values):
    scaler = fit_scaler(TrainingWindows(train(fields.series(60))))
    np.testing.assert_allclose(scaler.unscale(scaler.scale(values)), values, rtol=1e-9, atol=1e-9)


def test_missing_values_stay_missing_through_a_round_trip():
    scaler = FieldScaler(np.array([[1.0]]), np.array([[2.0]]))
    assert np.isnan(scaler.unscale(scaler.scale(np.array([[NAN]])))).all()


def test_it_is_told_as_plain_numbers():
    told = FieldScaler(np.array([[1.0], [5.0]]), np.array([[2.0], [3.0]])).to_json()
    assert told == {"kind": "place", "mean": [[1.0], [5.0]], "std": [[2.0], [3.0]]}
