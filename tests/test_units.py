"""A change of unit changes nothing: on a * x + b everything says what it says on x, in the new unit."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from support import fields, five_kinds
from support.movement_samples import path, track_sample
from transformers import T5Config, T5ForConditionalGeneration

from st2llm import metrics, tasks
from st2llm.config.catalog import RULES
from st2llm.config.model import EncoderSettings, Projection
from st2llm.data.windows.fitted_on import NOT_FITTED
from st2llm.encode.field import edges_of
from st2llm.evaluate.scoring.tasks.anomaly import add_anomaly_scores
from st2llm.model.arm import arm_spec, build_arm
from st2llm.model.objectives.supervised import Regression
from st2llm.predict.arm import ArmPredictor
from st2llm.predict.baselines import BASELINES, fit_baseline
from st2llm.predict.external.chronos import Bins, ChronosPredictor
from st2llm.predict.external.fracast import Fracast, FracastPredictor
from st2llm.predict.external.regressor import fit_regressor
from st2llm.predict.preprocess.field import SKIPS, fit_field_preprocessor
from st2llm.serialize.numbers import LEAST_STEPS, STRATEGIES, Notation, fit
from st2llm.types import TrainingWindows

TINY, SMALL, LARGE, HUGE = 2.0**-30, 2.0**-10, 2.0**10, 2.0**30
"""About 1e-9, 1e-3, 1e3 and 1e9: powers of two, by which no digit is lost."""
SCALES = (TINY, SMALL, LARGE, HUGE)
UNITS = [(scale, 0.0) for scale in SCALES] + [(1.0, 273.0), (1.8, 32.0), (HUGE, 1e12)]
"""Factor and offset of the new unit."""
WEEK = 168


def in_unit(sample, a, b):
    """The sample in another unit. a, b: factor and offset, one for all channels or one each."""
    truth = None if sample.truth is None else sample.truth * a + b
    return replace(sample, values=sample.values * a + b, truth=truth)


def town():
    """Hourly windows of two channels in units of their own, with a gap, a constant place and one that is never seen."""
    values = fields.series(2 * WEEK + 60, 4)
    values[5:9, 1] = np.nan
    values[:, 2] = 7.3
    values[:, 3] = np.nan
    values = np.concatenate([values, 1000 - 3 * values[::-1]], axis=2)
    made = fields.windows(values, history=2 * WEEK, horizon=4, stride=4)
    neighbours = (((1, 1.0), (2, 0.5)), ((0, 1.0),), ((0, 0.3), (3, 1.0)), ((1, 2.0),))
    xy = np.array([[0.0, 0.0], [100.0, 0.0], [100.0, 0.0], [0.0, 50.0]])
    return [replace(s, side=replace(s.side, channels=("a", "b"), neighbours=neighbours, xy=xy)) for s in made]


def assert_same(answers, others, a, b):
    """The other answers are these in the new unit, to a millionth of their spread."""
    for answer, other in zip(answers, others, strict=True):
        want = answer.value
        np.testing.assert_allclose((other.value - b) / a, want, rtol=1e-6, atol=1e-6 * np.nanstd(want))
        assert answer.ranking == other.ranking


def hidden(sample, task):
    """The window with other entries asked for, as the task hides them."""
    mask = {"impute": np.indices(sample.values.shape).sum(axis=0) % 3 == 0, "forecast": sample.wanted}[task]
    whole = np.where(sample.wanted, sample.truth, sample.values)
    visible = ~mask & np.isfinite(whole)
    return replace(
        sample, task=task, values=np.where(visible, whole, np.nan), visible=visible, wanted=mask,
        truth=np.where(mask, whole, np.nan),
    )  # fmt: skip


FIELD_RULES = [
    (name, task)
    for name, scope in RULES.items()
    for task in ("forecast", "impute")
    if scope.covers("graph", task) and name not in ("last-year", "month-of-year")
]


@pytest.mark.parametrize(("name", "task"), FIELD_RULES)
def test_a_rule_of_fields_takes_each_channel_in_any_unit(name, task):
    samples = [hidden(sample, task) for sample in town()]
    train, asked = samples[:8], samples[8:10]
    answers = fit_baseline(name, TrainingWindows(train)).predict(asked)
    assert all(np.isfinite(answer.value[:, :3][sample.wanted[:, :3]]).all()
               for answer, sample in zip(answers, asked, strict=True))  # fmt: skip
    for a, b in [((scale, 1.0), (0.0, 0.0)) for scale in SCALES] + [((1.8, HUGE), (32.0, 0.0))]:
        factor, offset = np.array(a), np.array(b)
        rule = fit_baseline(name, TrainingWindows([in_unit(s, factor, offset) for s in train]))
        assert_same(answers, rule.predict([in_unit(s, factor, offset) for s in asked]), factor, offset)


@pytest.mark.parametrize("name", [n for n, scope in RULES.items() if scope.covers("trajectory", "forecast")])
def test_a_rule_of_movement_takes_positions_in_any_unit_from_any_origin(name):
    samples = [replace(track_sample(path() * (1 + i) + i), id=f"w{i}") for i in range(4)]
    answers = BASELINES[name](TrainingWindows(samples)).predict(samples)
    for a, b in [*((scale, 0.0) for scale in SCALES), (1.0, 1e6)]:
        others = [in_unit(sample, a, b) for sample in samples]
        assert_same(answers, BASELINES[name](TrainingWindows(others)).predict(others), a, b)


@pytest.mark.parametrize("name", ["homogeneous-rate", "last-gap", "median-gap"])
def test_a_rule_of_events_takes_positions_in_any_unit(name):
    samples = five_kinds.event_samples(five_kinds.events(40), 12)
    at = np.isin(samples[0].side.channels, ("x", "y"))
    answers = BASELINES[name](TrainingWindows(samples[:20])).predict(samples[20:])
    for scale in SCALES:
        a, b = np.where(at, scale, 1.0), np.where(at, 5 * scale, 0.0)
        others = [in_unit(sample, a, b) for sample in samples]
        assert_same(answers, BASELINES[name](TrainingWindows(others[:20])).predict(others[20:]), a, b)


def test_the_nearest_class_is_the_same_in_any_unit():
    windows = town()[:9]
    named = [
        replace(s, task="classify", wanted=np.zeros_like(s.wanted), truth=None, label=str(i % 3),
                side=replace(s.side, options=("0", "1", "2")))
        for i, s in enumerate(windows)
    ]  # fmt: skip
    want = [
        p.ranking for p in fit_baseline("nearest-features", TrainingWindows(named[:6])).predict(named[6:])
    ]
    for a, b in UNITS[:-1]:
        others = [in_unit(sample, a, b) for sample in named]
        rule = fit_baseline("nearest-features", TrainingWindows(others[:6]))
        assert [p.ranking for p in rule.predict(others[6:])] == want


def trained_arm(samples, skip, backbone="attention"):
    """An arm of a seed, three steps of training, and its answers."""
    settings = EncoderSettings(d_st=8, patch=84, layers=1)
    preprocessor = fit_field_preprocessor(TrainingWindows(samples[:8]), skip=skip, template=None, slots=4)
    shape = preprocessor.task_shape(samples[0], tasks.forecast(2 * WEEK, 4))
    arm = build_arm(
        backbone, arm_spec(shape, edges_of(samples[0]), settings, llm=None, up=Projection()), seed=0
    )
    objective = Regression(torch.from_numpy(preprocessor.scaler.std).float())
    batch = preprocessor.collate(samples[:8], with_instructions=False)
    optimiser = torch.optim.AdamW([p for p in arm.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(3):
        total = objective.totals(arm, batch)["regression"] / objective.counts(batch)["regression"]
        optimiser.zero_grad()
        (total * objective.term_weights["regression"]).backward()
        optimiser.step()
    return ArmPredictor("arm", arm, preprocessor).predict(samples[8:10])


@pytest.mark.parametrize("skip", ["none", *(s for s in SKIPS if RULES[SKIPS[s]].covers("graph", "forecast"))])
def test_a_trained_arm_takes_values_in_any_unit(skip):
    samples = town()[:10]
    answers = trained_arm(samples, skip)
    for a, b in ((TINY, 0.0), (HUGE, 0.0), (1.8, 32.0)):
        others = trained_arm([in_unit(sample, a, b) for sample in samples], skip)
        for answer, other in zip(answers, others, strict=True):
            # An offset is rounded, and the first steps of Adam follow the sign of the smallest gradient.
            atol = 0.2 if b else 1e-3
            np.testing.assert_allclose((other.value - b) / a, answer.value, rtol=1e-6, atol=atol)


@pytest.fixture(scope="module")
def pretrained():
    """Fracast and Chronos with weights drawn at random, and a regression, on standardised histories."""
    torch.manual_seed(0)
    fracast, t5 = Fracast(), T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    for parameter in fracast.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    t5.decoder_start_token_id = 0
    chronos = ChronosPredictor(
        "chronos",
        T5ForConditionalGeneration(t5).eval(),
        Bins(-15.0, 15.0, 64, 2),
        24,
        4,
        4,
        1.0,
        50,
        1.0,
        NOT_FITTED,
    )
    return {"fracast": FracastPredictor("fracast", fracast.eval()), "chronos": chronos}


@pytest.mark.parametrize("name", ["fracast", "chronos"])
def test_a_pretrained_model_takes_values_in_any_unit(pretrained, name):
    values = fields.series(80)
    values[:48, 1] = 7.0  # a history without any spread
    sample = fields.windows(values, history=48, horizon=4)[0]
    answers = pretrained[name].predict([sample])
    for a, b in UNITS if name == "fracast" else UNITS[:4]:
        (other,) = pretrained[name].predict([in_unit(sample, a, b)])
        np.testing.assert_allclose((other.value - b) / a, answers[0].value, rtol=1e-4, atol=0.02)


def test_a_regressor_takes_values_in_any_unit():
    samples = fields.windows(fields.series(120), history=24, horizon=4)
    answers = fit_regressor(Ridge(), TrainingWindows(samples[:60]), name="r").predict(samples[80:82])
    for a, b in UNITS:
        others = [in_unit(sample, a, b) for sample in samples]
        assert_same(
            answers,
            fit_regressor(Ridge(), TrainingWindows(others[:60]), name="r").predict(others[80:82]),
            a,
            b,
        )


@pytest.mark.parametrize("decimals", [0, 2])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1e3, 1e6, 1e9])
def test_numbers_are_as_exact_as_text_in_any_unit(strategy, decimals, scale):
    values = np.array([12.34, 50.7, 81.25, 33.1, 64.9])
    notation = Notation(5, strategy=strategy, decimals=decimals, signed=True, least_steps=LEAST_STEPS)

    def error(factor):
        numbers = fit(strategy, values * factor, notation)
        return np.abs(numbers.read(numbers.write(values * factor), 5) / factor - values).max()

    if strategy == "fixed-decimals" and decimals:
        pytest.skip("its decimals are those of the unit, as its name says")
    assert error(scale) <= max(2.5 * error(1.0), 0.02)


def test_an_anomaly_score_is_the_same_in_any_unit():
    town = five_kinds.graph()
    draw, steps = np.random.default_rng(0), len(town.time)
    table = pd.DataFrame(
        {
            "sample": "a", "place": np.tile(town.places, steps), "step": np.repeat(np.arange(steps), 3),
            "channel": 0, "time": np.repeat(town.time, 3), "valid": True, "unread": False,
            "value": draw.normal(0, 1, 3 * steps), "truth": draw.normal(0, 1, 3 * steps),
        }
    )  # fmt: skip
    still = table["place"] == town.places[0]
    table.loc[still, "value"] = table.loc[still, "truth"]  # a place that is always predicted exactly

    def scores(a, b):
        rows = table.assign(value=table["value"] * a + b, truth=table["truth"] * a + b)
        return add_anomaly_scores(rows, rows, town, (), 0.99)["suspicion"]

    for scale in SCALES:
        np.testing.assert_allclose(scores(scale, 0.0), scores(1.0, 0.0), rtol=1e-9)
    others = table["place"] != town.places[0]
    np.testing.assert_allclose(scores(1.8, 32.0)[others], scores(1.0, 0.0)[others], rtol=1e-6)


@given(st.sampled_from(UNITS[:-1]), st.integers(0, 2**16))
def test_errors_are_in_the_unit_and_shares_in_none(unit, seed):
    (a, b), draw = unit, np.random.default_rng(seed)
    value, truth = draw.normal(5, 2, 30), draw.normal(5, 2, 30)
    known = np.ones(30, dtype=bool)
    one, other = (metrics.score(value * f + o, truth * f + o, known) for f, o in ((1.0, 0.0), (a, b)))
    assert (other["mae"] / a, other["rmse"] / a) == pytest.approx((one["mae"], one["rmse"]))
    assert other["r2"] == pytest.approx(one["r2"], rel=1e-6)
    if not b:  # shares of the level
        assert (other["wape"], other["mape"]) == pytest.approx((one["wape"], one["mape"]))
    draws = draw.normal(5, 2, (6, 30))
    np.testing.assert_allclose(
        metrics.crps(draws * a + b, truth * a + b) / a, metrics.crps(draws, truth), rtol=1e-6, atol=1e-9
    )


def test_scores_of_paths_do_not_depend_on_the_origin():
    draw = np.random.default_rng(0)
    paths, truth = draw.normal(0, 1, (6, 8, 2)), draw.normal(0, 1, (8, 2))
    want = np.array(metrics.path_scores(paths, truth))
    for a, b in [*((scale, 0.0) for scale in SCALES), (1.0, 5e6)]:
        np.testing.assert_allclose(
            np.array(metrics.path_scores(paths * a + b, truth * a + b)) / a, want, rtol=1e-6
        )
