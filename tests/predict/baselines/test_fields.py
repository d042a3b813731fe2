"""Each rule gives the numbers worked out by hand, falls back as it says, and never looks at the truth."""

import os
from dataclasses import replace

import numpy as np
import pytest
from support import fields, handmade

from st2llm import metrics, tasks
from st2llm.config.catalog import RULES
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.errors import ConfigError, DataError
from st2llm.predict import Predictor
from st2llm.predict.baselines import BASELINES, fit_baseline, fit_held_out_slot_mean, fit_ridge, fit_slot_mean
from st2llm.types import MONTH_S, TrainingWindows

NAN = np.nan
DAY, WEEK = 24, 168


def windows(values, history, horizon, stride=1, first=fields.MONDAY):
    """Windows of the values [time] or [time, node], hourly from a Monday's midnight on."""
    array = np.asarray(values, dtype=np.float64)
    return fields.windows(
        array.reshape(len(array), -1, 1), history=history, horizon=horizon, stride=stride, first=first
    )


LONGER = ("last-year", "month-of-year")
FORECASTS = [name for name, scope in RULES.items() if scope.covers("graph", "forecast")]


def forecast(name, sample, train=None):
    """What the rule says at the asked steps: [horizon, node]."""
    (answer,) = fit_baseline(name, TrainingWindows(train or [sample])).predict([sample])
    assert answer.value is not None
    return answer.value[sample.first_wanted_step :, :, 0]


def four_weeks(nodes=3):
    return fields.series(4 * WEEK, nodes)


def test_last_value_repeats_the_last_value_seen():
    (sample,) = windows([[1, 5], [2, 6], [3, NAN], [0, 0], [0, 0]], 3, 2)
    assert forecast("last-value", sample).tolist() == [[3, 6], [3, 6]]


def test_last_value_of_a_place_with_nothing_visible_is_its_slot_mean():
    train = windows(np.arange(2.0 * WEEK), 4, 2, stride=6)
    (blind,) = windows([NAN] * 4 + [0] * 2, 4, 2)
    assert forecast("last-value", blind, train).ravel().tolist() == [4 + WEEK / 2, 5 + WEEK / 2]


def test_a_window_mean_is_the_mean_of_what_is_seen():
    (sample,) = windows([1, NAN, 5, 9, 9], 3, 2)
    np.testing.assert_array_equal(forecast("window-mean", sample)[:, 0], [3, 3])


def test_yesterday_repeats_the_same_hour_of_the_day_before():
    (sample,) = windows([*range(30), *([0] * 5)], 30, 5)
    assert forecast("yesterday", sample).ravel().tolist() == [6, 7, 8, 9, 10]


def test_yesterday_beyond_a_day_repeats_the_last_day_seen():
    (sample,) = windows([*range(48), *([0] * 30)], 48, 30)
    assert forecast("yesterday", sample).ravel().tolist() == [*range(24, 48), *range(24, 30)]


def test_yesterday_goes_back_day_by_day_over_missing_values():
    history = np.arange(72.0)
    history[48] = history[49] = history[25] = NAN
    (sample,) = windows([*history, 0, 0, 0], 72, 3)
    assert forecast("yesterday", sample).ravel().tolist() == [24, 1, 50]


def test_yesterday_missing_on_every_day_is_the_slot_mean():
    train = windows(np.arange(2.0 * WEEK), 24, 24, stride=48)
    history = np.arange(48.0)
    history[[0, 24]] = NAN
    (sample,) = windows([*history, 0, 0], 48, 2)
    assert forecast("yesterday", sample, train).ravel().tolist() == [48 + WEEK / 2, 25]


def test_last_week_repeats_the_same_hour_a_week_before():
    (sample,) = windows([*range(170), *([0] * 3)], 170, 3)
    assert forecast("last-week", sample).ravel().tolist() == [2, 3, 4]


@pytest.mark.parametrize(("name", "period"), [("yesterday", DAY), ("last-week", WEEK)])
def test_a_history_shorter_than_the_period_is_refused(name, period):
    (short,) = windows(np.arange(period + 1.0), period - 1, 2)
    rule = fit_baseline(name, TrainingWindows([short]))
    with pytest.raises(DataError, match=f"needs a history of {period} steps, but it has {period - 1}"):
        rule.predict([short])
    (enough,) = windows(np.arange(period + 2.0), period, 2)
    assert forecast(name, enough).ravel().tolist() == [0, 1]


def test_hour_of_week_is_the_training_mean_of_place_and_hour():
    values = four_weeks()
    train = windows(values, 24, 24, stride=48)
    (sample,) = windows(np.zeros((30, 3)), 24, 6)
    want = values[:, :, 0].reshape(4, WEEK, 3).mean(axis=0)[24:30]
    np.testing.assert_allclose(forecast("hour-of-week", sample, train), want)


def test_overlapping_windows_count_each_hour_once():
    values = four_weeks()
    once = fit_slot_mean(TrainingWindows(windows(values, 24, 24, stride=48)))
    often = fit_slot_mean(TrainingWindows(windows(values, 24, 24, stride=12)))
    np.testing.assert_allclose(often.table, once.table)


@pytest.mark.parametrize("stride", [1, 5, 12])
def test_the_mean_of_a_place_counts_each_hour_once_although_windows_overlap(stride):
    values = np.stack([np.arange(61.0), np.full(61, NAN), np.full(61, 7.0)], axis=1)
    values[5, 2] = NAN
    (sample,) = windows(np.zeros((26, 3)), 24, 2)
    train = windows(values, 24, 1, stride=stride)
    steps = 1 + train[-1].time[-1] // 3600 - train[0].time[0] // 3600
    known = values[:steps]
    want = [(steps - 1) / 2, np.nanmean(known), 7.0]
    np.testing.assert_allclose(forecast("mean", sample, train), [want] * 2)


def test_a_place_never_seen_takes_the_mean_of_its_own_channel():
    values = np.stack([np.stack([np.arange(48.0), np.full(48, NAN)], 1), np.full((48, 2), 1e6)], axis=2)
    train = fields.windows(values, history=24, horizon=24)
    for name in ("mean", "hour-of-week"):
        (answer,) = fit_baseline(name, TrainingWindows(train)).predict(train[:1])
        assert answer.value[-1, 1].tolist() == [23.5, 1e6]


def test_an_hour_never_seen_takes_the_mean_of_its_place():
    train = windows(np.stack([np.arange(48.0), np.full(48, 7.0)], axis=1), 24, 24)
    (sample,) = windows(np.zeros((26, 2)), 24, 2, first=fields.MONDAY + 4 * 86_400)
    np.testing.assert_allclose(forecast("hour-of-week", sample, train), [[23.5, 7.0]] * 2)


def test_a_place_never_seen_takes_the_mean_of_all_places():
    values = np.stack([np.arange(48.0), np.full(48, NAN), np.full(48, 8.5)], axis=1)
    (sample,) = windows(np.zeros((26, 3)), 24, 2)
    got = forecast("hour-of-week", sample, windows(values, 24, 24))
    assert got[0].tolist() == [24, 16, 8.5]


def rows_of(samples, center):
    """History and horizon of every place of every window, with `center` taken off."""
    whole = [np.where(s.wanted, s.truth, s.values)[:, :, 0] - center for s in samples]
    start = samples[0].first_wanted_step
    return np.concatenate([w[:start].T for w in whole]), np.concatenate([w[start:].T for w in whole])


def closed_form(x, y, penalty):
    """Weights and intercept of a ridge regression whose intercept is not penalised."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    a, b = x - mean_x, y - mean_y
    weights = np.linalg.solve(a.T @ a + penalty * np.eye(x.shape[1]), a.T @ b)
    return weights, mean_y - mean_x @ weights


def test_ridge_is_the_closed_form_solution():
    samples = windows(four_weeks()[:300], 8, 3, stride=2)
    train, test = samples[:100], samples[100:]
    center = np.concatenate([s.values[s.visible] for s in train]).mean()
    x, y = rows_of(train, center)
    weights, intercept = closed_form(x, y, 1e-3 * len(x) * x.var())
    asked, _ = rows_of(test, center)
    want = (asked @ weights + intercept + center).reshape(len(test), 3, 3)
    got = np.stack([p.value[8:, :, 0].T for p in fit_baseline("ridge", TrainingWindows(train)).predict(test)])
    np.testing.assert_allclose(got, want, rtol=1e-8)


def test_ridge_on_deviations_is_the_closed_form_solution_on_deviations():
    values = four_weeks()
    means = values[:, :, 0].reshape(4, WEEK, 3).mean(axis=0)
    samples = windows(values, 8, 4, stride=12)
    x, y = rows_of(windows(values - np.tile(means, (4, 1))[:, :, None], 8, 4, stride=12), 0.0)
    weights, intercept = closed_form(x, y, 1e-3 * len(x) * x.var())
    predicted = (
        fit_baseline("ridge-deviation", TrainingWindows(samples)).predict(samples[5:6])[0].value[8:, :, 0]
    )
    offset = means[(5 * 12 + 8 + np.arange(4)) % WEEK]
    np.testing.assert_allclose(predicted, (x[15:18] @ weights + intercept).T + offset, rtol=1e-8)


def test_a_window_is_held_out_of_the_means_of_its_slots():
    values = four_weeks()
    held = fit_held_out_slot_mean(TrainingWindows(windows(values, 24, 24, stride=12)))
    for sample in windows(values, 24, 24, stride=36):
        start = int(sample.time[0] - fields.MONDAY) // 3600
        others = values.copy()
        others[start : start + 48] = NAN
        want = fit_slot_mean(TrainingWindows(windows(others, 24, 24, stride=48))).of(sample)
        np.testing.assert_allclose(held.of(sample), want)
        np.testing.assert_array_equal(held.of(sample.without_truth()), held.of(sample))


def test_a_window_that_gave_nothing_gets_the_means_themselves():
    train = windows(four_weeks(), 24, 24, stride=48)
    (later,) = windows(np.zeros((30, 3)), 24, 6, first=fields.MONDAY + 4 * WEEK * 3600)
    np.testing.assert_array_equal(
        fit_held_out_slot_mean(TrainingWindows(train)).of(later),
        fit_slot_mean(TrainingWindows(train)).of(later),
    )


def test_without_a_clock_no_window_is_held_out():
    (sample,) = windows(np.arange(10.0), 8, 2)
    still = replace(sample, side=replace(sample.side, freq_s=0))
    with pytest.raises(DataError, match=r"has no clock, so no window can be held out .* own mean"):
        fit_held_out_slot_mean(TrainingWindows([still]))


def test_held_out_ridges_do_not_take_the_noise_of_few_weeks_for_a_law():
    # Nothing but noise about the level of each hour: a reading of last week says how far the mean of three weeks is
    # off, so its weight is positive; beside means that hold both readings, it looks negative.
    noise = np.random.default_rng(0).normal(0, 1, (8 * WEEK, 6))
    train, test = windows(noise[: 3 * WEEK], WEEK, 2), windows(noise[3 * WEEK :], WEEK, 2, stride=7)
    weight, error = {}, {}
    for level in ("slot", "held-out"):
        rule = fit_ridge(TrainingWindows(train), level=level)
        weight[level] = rule.model.coef_[0, 0]  # the same hour of the week before
        error[level] = np.mean(
            [np.abs(r - s.truth[WEEK:]) for r, s in zip(rule.forecast(test), test, strict=True)]
        )
    assert weight["slot"] < -0.1 < 0.1 < weight["held-out"]
    assert error["held-out"] < error["slot"]


def test_a_centred_ridge_is_the_closed_form_solution_on_windows_less_their_mean():
    samples = windows(four_weeks()[:300], 8, 3, stride=2)
    train, test = samples[:100], samples[100:]
    x, y = rows_of(train, 0.0)
    level = x.mean(axis=1, keepdims=True)
    weights, intercept = closed_form(x - level, y - level, 1e-3 * len(x) * (x - level).var())
    asked, _ = rows_of(test, 0.0)
    level = asked.mean(axis=1, keepdims=True)
    want = ((asked - level) @ weights + intercept + level).reshape(len(test), 3, 3)
    got = np.stack(
        [p.value[8:, :, 0].T for p in fit_baseline("ridge-centred", TrainingWindows(train)).predict(test)]
    )
    np.testing.assert_allclose(got, want, rtol=1e-8)


def test_a_centred_ridge_follows_a_level_it_has_never_seen():
    train = windows(four_weeks()[:300], 8, 3, stride=2)
    rule = fit_ridge(TrainingWindows(train), level="window")
    (low,), (high,) = (windows(four_weeks()[300:311] + shift, 8, 3) for shift in (0.0, 1000.0))
    np.testing.assert_allclose(rule.forecast([high]), rule.forecast([low]) + 1000.0)


def test_ridge_on_deviations_recovers_an_exact_linear_law():
    # A wave of 67.2 h turns its sign from one week to the next, so that two weeks' means are the weekly profile.
    hour = np.arange(3 * WEEK)
    profile = 100 + np.random.default_rng(0).normal(0, 20, WEEK)
    values = np.tile(profile, 3) + 10 * np.cos(2 * np.pi * 5 * hour / (2 * WEEK))
    train = windows(values[: 2 * WEEK], 4, 4)
    rule = fit_ridge(TrainingWindows(train), level="slot", penalty=1e-8)
    test = windows(values[2 * WEEK :], 4, 4, first=fields.MONDAY + 2 * WEEK * 3600)
    got = rule.forecast(test)
    np.testing.assert_allclose(got, np.stack([s.truth[4:] for s in test]), atol=1e-4)


def test_ridge_leaves_out_training_rows_whose_truth_is_not_all_known():
    values = four_weeks()[:300]
    gone = values.copy()
    gone[7:11, 1] = NAN  # the asked steps of the first window
    samples, holed = (windows(v, 6, 4, stride=10) for v in (values, gone))
    rule = fit_ridge(TrainingWindows(holed), level="overall")
    x, y = rows_of(holed, rule.overall)
    full = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    assert (~full).sum() == 2
    assert rule.model.alpha == pytest.approx(1e-3 * (len(x) - 1))  # a gap in the inputs alone costs no row
    assert np.isfinite(rule.forecast(samples)).all()


def test_a_missing_input_of_ridge_is_its_slot_mean():
    values = four_weeks()
    train = windows(values, 8, 3, stride=11)
    sample = train[20]
    gap = sample.values.copy()
    gap[3, 1] = NAN
    blind = replace(sample, values=gap, visible=np.isfinite(gap) & ~sample.wanted)
    filled = sample.values.copy()
    filled[3, 1] = fit_slot_mean(TrainingWindows(train)).of(sample)[3, 1]
    known = replace(sample, values=filled)
    for name in ("ridge", "ridge-deviation", "ridge-centred"):
        np.testing.assert_allclose(forecast(name, blind, train), forecast(name, known, train))


def test_ridge_without_one_whole_training_row_is_refused():
    (sample,) = windows([1, 2, 3, NAN, 5], 3, 2)
    with pytest.raises(DataError, match="a ridge cannot be fitted"):
        fit_baseline("ridge", TrainingWindows([sample]))


@pytest.mark.parametrize("name", [name for name in FORECASTS if name not in LONGER])
def test_no_rule_looks_at_the_truth(name):
    samples = windows(four_weeks(), WEEK, 24, stride=24)
    rule = fit_baseline(name, TrainingWindows(samples[:10]))
    asked = samples[10:]
    assert isinstance(rule, Predictor)
    want = rule.predict(asked)
    for other in ([s.without_truth() for s in asked], [fields.with_truth(s, -1e6) for s in asked]):
        for a, b in zip(rule.predict(other), want, strict=True):
            np.testing.assert_array_equal(a.value, b.value)


@pytest.mark.parametrize("name", [name for name in FORECASTS if name not in LONGER])
def test_a_window_is_forecast_alike_alone_and_among_others(name):
    samples = windows(four_weeks(), WEEK, 24, stride=24)
    rule = fit_baseline(name, TrainingWindows(samples[:10]))
    together = rule.predict(samples[10:])
    alone = [rule.predict([sample])[0] for sample in samples[10:]]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.value, b.value, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in FORECASTS if name not in LONGER])
def test_what_is_not_asked_for_is_not_answered(name):
    samples = windows(four_weeks(), WEEK, 24, stride=24)
    (answer,) = fit_baseline(name, TrainingWindows(samples[:10])).predict([samples[11].at("place-1")])
    assert np.isfinite(answer.value[WEEK:, 1]).all()
    assert np.isnan(answer.value[:WEEK]).all()
    assert np.isnan(answer.value[:, [0, 2]]).all()


def test_an_unknown_baseline_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="There is no baseline 'rigde'. Did you mean 'ridge'?"):
        fit_baseline("rigde", TrainingWindows([]))


@pytest.mark.slow
@pytest.mark.skipif(
    "ST2LLM_DATA" not in os.environ, reason="los-loop lies in a folder that $ST2LLM_DATA names"
)
@pytest.mark.parametrize(("horizon", "mae"), [(3, 3.06), (6, 3.58), (9, 4.03), (12, 4.44)])
def test_ridge_on_los_loop_gives_the_published_error(horizon, mae):
    splits = split(load_data("los-loop"), tasks.forecast(12, horizon))
    assert len(splits.test) == 393 - horizon
    rule = fit_baseline("ridge", splits.train)
    test = list(splits.test)
    value = np.stack([p.value[12:] for p in rule.predict(test)])
    truth = np.stack([sample.truth[12:] for sample in test])
    assert metrics.score(value, truth, np.isfinite(truth))["mae"] == pytest.approx(mae, abs=0.01)


def monthly(years, first):
    """Windows of a year and two months of monthly values that are 100 times the month plus the year."""
    stamps = [(2000 + y, m) for y in range(years) for m in range(12)][first:]
    time = np.array([f"{y}-{m + 1:02d}-01" for y, m in stamps], dtype="datetime64[s]").astype(np.int64)
    values = np.array([100.0 * m + y - 2000 for y, m in stamps])[:, None, None]
    wanted = np.zeros(values.shape, dtype=bool)
    wanted[-2:] = True
    return handmade.sample(
        values, wanted, kind="grid", task="forecast", time=time, freq_s=MONTH_S, name=f"cell/{first}"
    )


def test_months_have_their_mean_and_their_value_of_the_year_before():
    train, asked = monthly(3, 0), monthly(4, 22)
    assert asked.time[-1] > train.time[-1]
    said = {
        name: fit_baseline(name, TrainingWindows([train])).predict([asked])[0].value[-2:].ravel().tolist()
        for name in ("month-of-year", "last-year")
    }
    assert said == {"month-of-year": [1001, 1101], "last-year": [1002, 1102]}


def test_month_of_year_is_for_monthly_data():
    (sample,) = windows(np.arange(10.0), 8, 2)
    with pytest.raises(DataError, match="month-of-year is a rule for monthly data"):
        fit_baseline("month-of-year", TrainingWindows([sample]))


@pytest.mark.parametrize("name", BASELINES)
def test_every_rule_says_what_it_is_for(name):
    assert RULES[name].kinds
    assert RULES[name].tasks


def test_the_catalogue_names_the_rules_and_no_others():
    assert list(RULES) == list(BASELINES)
