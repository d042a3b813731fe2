"""The self-exciting rule finds the rate that made its events, and what it says is a density."""

from dataclasses import replace

import numpy as np
import pytest
from support import five_kinds

from st2llm import tasks
from st2llm.data.windows import split
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.baselines.etas import Intensity
from st2llm.types import SplitPlan

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
    fitted = fit_baseline("etas", train)
    truth = replace(fitted, rule=replace(fitted.rule, rate=TRUE))
    constant = fit_baseline("homogeneous-rate", train)
    assert nats(fitted, test) == pytest.approx(nats(truth, test), abs=0.03)
    assert nats(fitted, test) < nats(constant, test) - 0.02
    assert fitted.rule.rate.mu == pytest.approx(TRUE.mu, rel=0.35)


def test_its_density_and_its_quantiles_agree(samples):
    train, test = samples
    answer = fit_baseline("etas", train).predict(test[:1])[0]
    at = test[0].side.channels.index("gap_h")
    hours = np.geomspace(1e-6, 1e3, 60_001)
    density = np.exp(answer.log_density["gap_h"](hours))
    assert np.trapezoid(density, hours) == pytest.approx(1, abs=0.01)
    for share in (0.05, 0.5, 0.95):
        below = hours <= answer.quantiles[share][-1, 0, at]
        assert np.trapezoid(density[below], hours[below]) == pytest.approx(share, abs=0.01)
