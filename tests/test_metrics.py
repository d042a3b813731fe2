"""Metrics are scikit-learn's on dense data, hand-made numbers on masked data, and pool over whatever batches."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    r2_score,
)

from st2llm import metrics
from st2llm.errors import ConfigError

NAN = math.nan
# Eight windows of two places. The truth of six entries is missing; one is zero.
TRUTH = np.array([[10, 20], [NAN, 40], [50, NAN], [0, 80], [NAN, NAN], [NAN, 20], [30, 40], [NAN, 100]])
VALUE = np.array([[13, 20], [99, 30], [50, -9], [6, 88], [77, 77], [0, 21], [30, 20], [55, 75]], dtype=float)
VALID = np.isfinite(TRUTH)
# By hand, over the ten valid entries: errors 3 0 10 0 6 8 1 0 20 25, truths 10 20 40 50 0 80 20 30 40 100.
GOLDEN = {
    "mae": 73 / 10,
    "rmse": math.sqrt((9 + 100 + 36 + 64 + 1 + 400 + 625) / 10),
    "wape": 73 / 390,
    "mape": (0.3 + 0 + 0.25 + 0 + 0.1 + 0.05 + 0 + 0.5 + 0.25) / 9,
    "r2": 1 - 1235 / (23900 - 390**2 / 10),
}
NUMBERS = st.floats(-1e4, 1e4, allow_nan=False).map(lambda x: round(x, 3))
VARIED = {"elements": NUMBERS, "fill": st.nothing()}
PAIRS = st.integers(2, 30).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, **VARIED), arrays(np.float64, n, **VARIED))
)


def everything(shape):
    return np.ones(shape, dtype=bool)


def pooled(value, truth, valid, batch):
    """All metrics from totals that were added up batch by batch."""
    found = [
        metrics.value_totals(value[i : i + batch], truth[i : i + batch], valid[i : i + batch])
        for i in range(0, len(value), batch)
    ]
    sums = {name: np.asarray(sum(each[name][0] for each in found)) for name in metrics.VALUE_TOTALS}
    counts = {name: np.asarray(sum(each[name][1] for each in found)) for name in metrics.VALUE_TOTALS}
    return {name: float(metrics.metric_from_totals(name, sums, counts)) for name in metrics.VALUE_METRICS}


def mean_of_batches(name, batch, value=VALUE, truth=TRUTH, valid=VALID):
    parts = [slice(i, i + batch) for i in range(0, len(value), batch)]
    return np.nanmean([metrics.score(value[p], truth[p], valid[p])[name] for p in parts])


@pytest.mark.slow
@given(PAIRS)
def test_on_dense_data_they_are_those_of_scikit_learn(pair):
    value, drawn = pair
    truth = np.where(drawn == 0, 0.5, drawn)
    assume(np.ptp(truth) > 1)
    got = metrics.score(value, truth, everything(truth.shape))
    want = {
        "mae": mean_absolute_error(truth, value),
        "rmse": math.sqrt(mean_squared_error(truth, value)),
        "r2": r2_score(truth, value),
        "mape": mean_absolute_percentage_error(truth, value),
        "wape": np.abs(value - truth).sum() / np.abs(truth).sum(),
    }
    assert got == pytest.approx(want, rel=1e-6, abs=1e-9)


def test_masked_data_give_the_numbers_worked_out_by_hand():
    assert metrics.score(VALUE, TRUTH, VALID) == pytest.approx(GOLDEN, rel=1e-12)


def test_an_entry_that_is_not_valid_counts_for_nothing_whatever_stands_there():
    other = np.where(VALID, VALUE, 1e9)
    assert metrics.score(other, np.where(VALID, TRUTH, -7.0), VALID) == metrics.score(VALUE, TRUTH, VALID)


def test_taking_missing_truth_for_zero_would_give_other_numbers():
    unmasked = metrics.score(VALUE, np.nan_to_num(TRUTH), everything(TRUTH.shape))
    assert unmasked["mae"] == pytest.approx((73 + 99 + 9 + 77 + 77 + 0 + 55) / 16)
    assert unmasked["mae"] > 3 * GOLDEN["mae"]


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_batches_of_any_size_pool_to_the_same_numbers(batch):
    assert pooled(VALUE, TRUTH, VALID, batch) == pytest.approx(GOLDEN, rel=1e-12)


@given(st.permutations(range(8)), st.sampled_from([1, 3, 7, 64]))
def test_order_does_not_matter(order, batch):
    got = pooled(VALUE[order], TRUTH[order], VALID[order], batch)
    assert got == pytest.approx(GOLDEN, rel=1e-12)


def test_a_mean_of_batch_metrics_is_not_the_pooled_metric():
    assert mean_of_batches("mae", 3) == pytest.approx((13 / 4 + 15 / 3 + 45 / 3) / 3)
    assert mean_of_batches("rmse", 3) == pytest.approx(
        (math.sqrt(109 / 4) + math.sqrt(101 / 3) + math.sqrt(1025 / 3)) / 3
    )
    assert abs(mean_of_batches("mae", 3) - GOLDEN["mae"]) > 0.4
    assert abs(mean_of_batches("rmse", 3) - GOLDEN["rmse"]) > 0.5


def test_a_last_batch_padded_with_its_last_window_is_not_the_pooled_metric():
    rows = [*range(8), 7]
    padded = metrics.score(VALUE[rows], TRUTH[rows], VALID[rows])
    assert padded["mae"] == pytest.approx((73 + 25) / 11)
    assert abs(padded["mae"] - GOLDEN["mae"]) > 1


def test_the_mean_of_each_steps_rmse_is_not_the_pooled_rmse():
    error = np.array([[1.0, 3.0], [1.0, 3.0]])
    zero = np.zeros_like(error)
    by_step = [metrics.score(error[:, i], zero[:, i], everything(2))["rmse"] for i in range(2)]
    assert np.mean(by_step) == 2.0
    assert metrics.score(error, zero, everything((2, 2)))["rmse"] == pytest.approx(math.sqrt(5))


def test_a_truth_of_zero_is_left_out_of_mape_and_of_nothing_else():
    truth, value = np.array([0.0, 10.0]), np.array([5.0, 11.0])
    found = metrics.value_totals(value, truth, everything(2))
    assert found["relative_error"] == pytest.approx((0.1, 1))
    assert found["abs_error"] == (6.0, 2)


@pytest.mark.parametrize("name", metrics.VALUE_METRICS)
def test_nothing_valid_is_not_a_number(name):
    assert math.isnan(metrics.score(VALUE, TRUTH, np.zeros_like(VALID))[name])


@pytest.mark.parametrize("level", [0.1, 7.0, 1e6 / 3])
def test_r2_of_a_truth_that_never_changes_is_not_a_number(level):
    truth = np.full(11, level)
    assert math.isnan(metrics.score(truth + 1, truth, everything(11))["r2"])


def test_a_metric_takes_one_draw_an_element():
    sums = {name: np.array([1.0, 8.0]) for name in metrics.VALUE_TOTALS}
    counts = {name: np.array([2, 2]) for name in metrics.VALUE_TOTALS}
    assert metrics.metric_from_totals("mae", sums, counts).tolist() == [0.5, 4.0]
    assert metrics.metric_from_totals("rmse", sums, counts).tolist() == pytest.approx([math.sqrt(0.5), 2.0])


def test_an_unknown_metric_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="There is no metric 'rsme'. Did you mean 'rmse'?"):
        metrics.metric_from_totals("rsme", {}, {})


@given(PAIRS)
def test_mae_is_at_most_rmse_and_rmse_at_most_the_largest_error(pair):
    value, truth = pair
    got = metrics.score(value, truth, everything(truth.shape))
    largest = float(np.abs(value - truth).max())
    assert 0 <= got["mae"] <= got["rmse"] * (1 + 1e-9) + 1e-12
    assert got["rmse"] <= largest * (1 + 1e-9) + 1e-12


@given(PAIRS)
def test_swapping_forecast_and_truth_changes_neither_mae_nor_rmse(pair):
    value, truth = pair
    there = metrics.score(value, truth, everything(truth.shape))
    back = metrics.score(truth, value, everything(truth.shape))
    assert (there["mae"], there["rmse"]) == (back["mae"], back["rmse"])


@given(PAIRS, st.sampled_from([0.001, 0.5, 4.0, 1000.0]))
def test_another_unit_scales_mae_and_rmse_and_leaves_the_ratios(pair, unit):
    value, truth = pair
    assume(np.ptp(truth) > 1)
    raw = metrics.score(value, truth, everything(truth.shape))
    got = metrics.score(unit * value, unit * truth, everything(truth.shape))
    for name in ("mae", "rmse"):
        assert got[name] == pytest.approx(unit * raw[name], rel=1e-9, abs=1e-9)
    for name in ("wape", "r2", "mape"):
        assert got[name] == pytest.approx(raw[name], rel=1e-6, abs=1e-9, nan_ok=True)


@given(PAIRS)
def test_r2_is_at_most_one_and_a_perfect_forecast_is_perfect(pair):
    value, truth = pair
    assume(np.ptp(truth) > 1)
    assert metrics.score(value, truth, everything(truth.shape))["r2"] <= 1
    perfect = metrics.score(truth, truth, everything(truth.shape))
    assert (perfect["mae"], perfect["rmse"], perfect["wape"], perfect["r2"]) == (0, 0, 0, 1)


# ranks

RANKS_OF = np.array([1.0, 3.0, math.inf, 10.0, 6.0])


def of_ranks(rank):
    return metrics.metrics_from_totals(
        metrics.rank_totals(np.asarray(rank, dtype=np.float64)), metrics.RANK_METRICS
    )


def test_accuracies_and_reciprocal_ranks_worked_out_by_hand():
    got = of_ranks(RANKS_OF)
    assert got == pytest.approx(
        {"acc@1": 0.2, "acc@5": 0.4, "acc@10": 0.8, "mrr": (1 + 1 / 3 + 0.1 + 1 / 6) / 5}
    )


def test_a_true_label_beyond_the_ranking_is_missed_not_left_out():
    assert metrics.rank_of("c", ("a", "b")) == math.inf
    assert metrics.rank_of("b", ("a", "b")) == 2
    assert of_ranks([math.inf]) == {"acc@1": 0, "acc@5": 0, "acc@10": 0, "mrr": 0}


@given(st.lists(st.one_of(st.integers(1, 30).map(float), st.just(math.inf)), min_size=1), st.randoms())
def test_accuracy_grows_with_k_and_mrr_lies_between(ranks, random):
    got = of_ranks(ranks)
    assert 0 <= got["acc@1"] <= got["mrr"] <= 1
    assert got["acc@1"] <= got["acc@5"] <= got["acc@10"] <= 1
    random.shuffle(ranks)
    assert of_ranks(ranks) == pytest.approx(got)


# positions


def test_displacements_are_distances_and_the_last_one_stands_apart():
    got = np.array([[[3.0, 4.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 5.0]]])
    want = np.array([[[0.0, 0.0], [1.0, 1.0]], [[0.0, 1.0], [0.0, 0.0]]])
    away = metrics.displacements(got, want)
    assert away.tolist() == [[5, 0], [1, 5]]
    found = metrics.metrics_from_totals(metrics.displacement_totals(away), ("ade_m", "fde_m"))
    assert found == {"ade_m": 11 / 4, "fde_m": 5 / 2}


def test_a_step_without_truth_counts_for_neither():
    away = np.array([[1.0, NAN, 3.0], [5.0, 6.0, NAN]])
    found = metrics.metrics_from_totals(metrics.displacement_totals(away), ("ade_m", "fde_m"))
    assert found == {"ade_m": 15 / 4, "fde_m": 3.0}


@given(arrays(np.float64, (3, 4, 2), **VARIED), arrays(np.float64, (3, 4, 2), **VARIED), st.floats(-3, 3))
def test_distances_are_symmetric_and_do_not_change_when_the_map_is_turned(a, b, angle):
    away = metrics.displacements(a, b)
    np.testing.assert_allclose(away, metrics.displacements(b, a))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    np.testing.assert_allclose(metrics.displacements(a @ turn, b @ turn), away, rtol=1e-9, atol=1e-7)
    assert (away >= 0).all()


# draws


def test_crps_of_two_draws_by_hand():
    # mean |x - t| = (1 + 3) / 2, sum over ordered pairs of |x - x'| = 8, over 2 * 2 * 1
    assert metrics.crps(np.array([[1.0], [5.0]]), np.array([2.0])).tolist() == [2 - 8 / 4]


def test_crps_of_a_normal_forecast_is_the_known_one_whatever_the_number_of_draws():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200_000)
    exact = 1 / math.sqrt(math.pi)  # the mean over truths of the same normal distribution
    for draws in (2, 8):
        x = rng.normal(size=(draws, 200_000))
        fair = metrics.crps(x, truth).mean()
        assert fair == pytest.approx(exact, abs=0.005)
        pairs = np.abs(x[:, None] - x[None]).mean(axis=(0, 1)) / 2
        biased = (np.abs(x - truth).mean(axis=0) - pairs).mean()
        assert biased == pytest.approx(exact * (1 + 1 / draws), abs=0.005)


def test_one_draw_is_a_point_forecast_and_none_has_no_score():
    draws = np.array([[4.0, NAN, 1.0], [NAN, NAN, 3.0]])
    got = metrics.crps(draws, np.array([1.0, 1.0, 2.0]))
    assert got[0] == 3
    assert math.isnan(got[1])
    assert got[2] == 0  # 1 - 4 / 4


@given(
    arrays(np.float64, (5, 4), **VARIED), arrays(np.float64, 4, **VARIED), st.permutations(range(5)), NUMBERS
)
def test_crps_heeds_neither_the_order_of_draws_nor_where_zero_is(draws, truth, order, shift):
    got = metrics.crps(draws, truth)
    np.testing.assert_allclose(metrics.crps(draws[order], truth), got, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(metrics.crps(draws + shift, truth + shift), got, rtol=1e-9, atol=1e-6)
    assert (got <= np.abs(draws - truth).mean(axis=0) + 1e-9).all()


# yes or no, and classes

SCORES = arrays(
    np.float64, 40, elements=st.integers(0, metrics.SCORE_BINS - 1).map(lambda n: n / metrics.SCORE_BINS)
)
TRUE = arrays(np.bool_, 40)


@pytest.mark.slow
@given(SCORES, TRUE)
def test_auprc_and_f1_are_those_of_scikit_learn(score, positive):
    assume(positive.any())
    got = metrics.metrics_from_totals(metrics.score_totals(score, positive), ("auprc", "f1"))
    assert got["auprc"] == pytest.approx(average_precision_score(positive, score))
    said = score >= 0.5
    assert got["f1"] == pytest.approx(f1_score(positive, said))
    assert 0 <= got["f1"] <= 1
    assert positive.mean() / 40 <= got["auprc"] <= 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1))
def test_f1_of_classes_is_the_macro_one_of_scikit_learn_and_symmetric(pairs):
    truth, answer = [t for t, _ in pairs], [a for _, a in pairs]
    got = metrics.metrics_from_totals(metrics.label_totals(truth, answer), ("f1",))["f1"]
    assert got == pytest.approx(f1_score(truth, answer, average="macro", zero_division=0))
    assert got == pytest.approx(
        metrics.metrics_from_totals(metrics.label_totals(answer, truth), ("f1",))["f1"]
    )


def test_nll_is_the_mean_over_events_of_a_rate_on_a_span():
    # n events at rate 2 on [0, 10], the wait after the last one left out: -(n ln 2 - 2 * 10)
    gaps = np.diff(np.linspace(0, 10, 8))
    nats = -(math.log(2) - 2 * gaps)
    found = metrics.metrics_from_totals({"neg_log_density": (float(nats.sum()), len(nats))}, ("nll",))
    assert found["nll"] * len(nats) == pytest.approx(-(7 * math.log(2) - 20))


# which metrics a task has


@pytest.mark.parametrize(
    ("kind", "task", "asked", "first", "others"),
    [
        ("graph", "forecast", (), "mae", {"rmse", "crps"}),
        ("grid", "krige", (), "mae", {"r2"}),
        ("video", "classify", (), "acc@1", {"f1", "mrr"}),
        ("trajectory", "forecast", (), "ade_m", {"fde_m"}),
        ("trajectory", "recover", (), "ade_m", set()),
        ("trajectory", "next-place", (), "acc@1", {"acc@10", "mrr"}),
        ("event", "next-event", ("gap_h",), "mae", {"nll", "crps"}),
        ("event", "next-event", ("x", "y"), "ade_m", set()),
        ("event", "next-event", ("mark",), "acc@1", {"mrr"}),
        ("event", "next-event", ("gap_h", "x", "y", "mark"), "mae", {"ade_m", "acc@1"}),
        ("graph", "anomaly", (), "auprc", {"event_f1", "f1", "mae"}),
    ],
)
def test_each_task_has_its_metrics_the_usual_one_first(kind, task, asked, first, others):
    found = metrics.metrics_for(kind, task, asked)
    assert found[0] == first
    assert others <= set(found) <= set(metrics.METRICS)


@pytest.mark.parametrize("name", metrics.VALUE_METRICS)
def test_a_metric_follows_from_the_totals_that_it_needs_alone(name):
    totals = metrics.value_totals(VALUE, TRUTH, VALID)
    needed = {total: value for total, value in totals.items() if metrics.needs_total(name, total)}
    assert metrics.metrics_from_totals(needed, (name,)) == metrics.metrics_from_totals(totals, (name,))
    assert name == "r2" or len(needed) < len(totals)


def test_metrics_say_whether_totals_suffice_for_them():
    assert metrics.is_measurable("mae", metrics.value_totals(VALUE, TRUTH, VALID))
    assert not metrics.is_measurable("nll", metrics.value_totals(VALUE, TRUTH, VALID))
    for name in metrics.METRICS:
        assert not metrics.is_measurable(name, {})


def test_every_metric_knows_which_way_is_better():
    up = {"r2", "acc@1", "acc@5", "acc@10", "mrr", "auprc", "event_f1", "f1"}
    assert {name for name in metrics.METRICS if name in metrics.HIGHER_IS_BETTER} == up


def test_path_scores_are_the_best_of_the_draws_and_a_proper_score():
    truth = np.array([[1.0, 0.0], [2.0, 0.0]])
    away = np.array([[[0.0, 3.0]] * 2, [[0.0, -1.0]] * 2, [[0.0, 2.0], [0.0, 0.5]]])
    draws = truth + away
    best, last, energy = metrics.path_scores(draws, truth)
    assert best == pytest.approx(1.0)
    assert last == pytest.approx(0.5)
    norms = [np.linalg.norm(draw - truth) for draw in draws]
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(draws) for j, b in enumerate(draws) if i != j]
    assert energy == pytest.approx((np.mean(norms) - np.mean(pairs) / 2) / np.sqrt(2))


def test_the_energy_score_prefers_draws_from_the_truth():
    rng = np.random.default_rng(0)
    truths = rng.normal(size=(400, 3, 2))
    right, narrow, wide = (
        np.mean([metrics.path_scores(s * rng.normal(size=(20, 3, 2)), t)[2] for t in truths])
        for s in (1.0, 0.3, 2.5)
    )
    assert right < narrow - 0.05
    assert right < wide - 0.05


def test_steps_of_a_path_without_truth_are_left_out():
    truth = np.array([[1.0, 0.0], [np.nan, 0.0]])
    draws = np.zeros((3, 2, 2))
    assert metrics.path_scores(draws, truth)[:2] == pytest.approx((1.0, 1.0))
    assert np.isnan(metrics.path_scores(draws, truth * np.nan)).all()


def test_a_draw_without_a_position_does_not_make_the_scores_of_the_others_nan():
    truth, rng = np.zeros((3, 2)), np.random.default_rng(0)
    draws = rng.normal(size=(5, 3, 2))
    gap = draws.copy()
    gap[2, 1, 0] = np.nan
    assert metrics.path_scores(gap, truth) == pytest.approx(
        metrics.path_scores(np.delete(draws, 2, axis=0), truth)
    )
    assert np.isnan(metrics.path_scores(gap[2:3], truth)).all()
