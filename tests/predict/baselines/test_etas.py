"""The self-exciting rule finds the rate that made its events, and what it says is a density."""

from dataclasses import replace

import numpy as np
import pytest
from support import five_kinds

from st2llm import tasks
from st2llm.data.windows import split
from st2llm.errors import DataError
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.baselines.etas import Intensity
from st2llm.types import SplitPlan, TrainingWindows

TRUE = Intensity(mu=0.2, k=0.1, alpha=0.0, c=0.5, p=2.0)


def hawkes(count=1500, *, seed=0) -> np.ndarray:
    """Times in hours by Ogata's thinning, each event remembering the 40 before it."""
    rng, times, now = np.random.default_rng(seed), [0.0], 0.0
    while len(times) < count:
        past = np.array(times[-40:])

        def rate(at, past=past):
            return TRUE.mu + (TRUE.k * (at - past + TRUE.c) ** -TRUE.p).sum()

        top = rate(now)
        now += rng.exponential(1 / top)
        if rng.random() < rate(now) / top:
            times.append(now)
    return np.array(times)


@pytest.fixture(scope="module")
def samples():
    hours = hawkes()
    base = five_kinds.events(40)
    n = len(hours)
    data = replace(
        base,
        time=base.time[0] + np.rint(hours * 3600).astype(np.int64),
        xy=np.zeros((n, 2)),
        mark=None,
        magnitude=None,
        window=(int(base.time[0]) - 3600, int(base.time[0] + hours[-1] * 3600) + 3600),
        split=SplitPlan(0.8, 0.1, 0.1),
    )
    parts = split(data, tasks.next_event(40))
    return [[part[i] for i in range(len(part))] for part in (parts.train, parts.test)]


def nats(rule, chosen):
    answers = rule.predict([s.without_truth() for s in chosen])
    at = chosen[0].side.channels.index("gap_h")
    return np.mean(
        [
            -float(a.log_density["gap_h"](s.truth[-1, 0, at : at + 1])[0])
            for a, s in zip(answers, chosen, strict=True)
        ]
    )


@pytest.mark.slow
def test_it_is_as_likely_as_the_truth_and_more_than_a_constant_rate(samples):
    train, test = samples
    fitted = fit_baseline("etas", TrainingWindows(train))
    truth = replace(fitted, rule=replace(fitted.rule, rate=TRUE))
    constant = fit_baseline("homogeneous-rate", TrainingWindows(train))
    assert nats(fitted, test) == pytest.approx(nats(truth, test), abs=0.03)
    assert nats(fitted, test) < nats(constant, test) - 0.02
    assert fitted.rule.rate.mu == pytest.approx(TRUE.mu, rel=0.35)


def test_its_density_and_its_quantiles_agree(samples):
    train, test = samples
    answer = fit_baseline("etas", TrainingWindows(train)).predict(test[:1])[0]
    at = test[0].side.channels.index("gap_h")
    hours = np.geomspace(1e-6, 1e3, 60_001)
    density = np.exp(answer.log_density["gap_h"](hours))
    assert np.trapezoid(density, hours) == pytest.approx(1, abs=0.01)
    for share in (0.05, 0.5, 0.95):
        below = hours <= answer.quantiles[share][-1, 0, at]
        assert np.trapezoid(density[below], hours[below]) == pytest.approx(share, abs=0.01)


def marked(count=200, *, unit=1.0) -> list:
    """Training samples whose gaps shrink after large magnitudes, in another unit of magnitude."""
    rng = np.random.default_rng(1)
    base = five_kinds.events(count)
    size = rng.exponential(0.4, count)
    gap = rng.exponential(1 / (0.2 + 2 * (np.r_[0.0, size[:-1]] > 0.8)))
    time = base.time[0] + np.rint(np.cumsum(gap) * 3600).astype(np.int64)
    data = replace(
        base, time=time, mark=None, xy=np.zeros((count, 2)), magnitude=unit * (3 + size),
        window=(int(time[0]) - 60, int(time[-1]) + 60), split=SplitPlan(0.8, 0.1, 0.1),
    )  # fmt: skip
    return list(split(data, tasks.next_event(10)).train)


@pytest.mark.parametrize("unit", [30.0, 1000.0])
def test_the_fit_does_not_depend_on_the_unit_of_magnitudes(unit):
    usual, scaled = (fit_baseline("etas", TrainingWindows(marked(unit=u))).rule for u in (1.0, unit))
    assert usual.rate.k > 1e-3  # the aftershocks are found
    assert scaled.rate.alpha * unit == pytest.approx(usual.rate.alpha, rel=0.05)
    assert scaled.rate.k == pytest.approx(usual.rate.k, rel=0.05)


def test_a_magnitude_far_above_those_of_training_gives_a_finite_prediction():
    train = marked()
    rule = fit_baseline("etas", TrainingWindows(train)).rule
    sample = train[-1].without_truth()
    values = sample.values.copy()
    values[-2, 0, sample.side.channels.index("magnitude")] = 1e6
    answer = rule.predict([replace(sample, values=values)])[0]
    gap = sample.side.channels.index("gap_h")
    assert np.isfinite(answer.value[-1, 0, gap])
    assert np.isfinite(answer.log_density["gap_h"](np.array([1.0]))).all()


def test_training_samples_without_a_gap_are_refused():
    train = [replace(s, truth=np.full_like(s.truth, np.nan)) for s in marked()]
    with pytest.raises(DataError, match="no training sample asks for one"):
        fit_baseline("etas", TrainingWindows(train))
