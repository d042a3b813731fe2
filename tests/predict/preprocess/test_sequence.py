"""Arms of sequences answer as any predictor does: whole rankings, densities and draws, without the truth."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import five_kinds

from st2llm import tasks
from st2llm.config.model import EncoderSettings
from st2llm.config.training import PretrainRecipe
from st2llm.data.windows import split
from st2llm.errors import ConfigError
from st2llm.metrics import path_scores
from st2llm.model.arm import ArmSpec, build_arm
from st2llm.model.objectives.diffusion import DiffusionObjective
from st2llm.model.objectives.masked import MaskedTrajectories
from st2llm.model.objectives.supervised import Likelihood
from st2llm.model.pretraining import SequencePretrainingModel
from st2llm.predict.arm import predict_in_batches
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.checkpoint_config import checkpoint_config, restore_preprocessor
from st2llm.predict.preprocess.sequence import KEPT_DRAWS, fit_sequence_preprocessor
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.trainer import fit
from st2llm.types import NO_EDGES, SplitPlan, TrainingWindows, Trajectory


def arm_of(preprocessor):
    settings = EncoderSettings(d_st=16, layers=1)
    return build_arm("none", ArmSpec(preprocessor.shape, NO_EDGES, 16, 1.0, 4, settings), seed=0)


def bends(count=60) -> list:
    """Walkers who turn left by the same angle at each step."""
    walks = []
    for i in range(count):
        angle = 0.15 * np.arange(12) + i
        xy = np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)
        walk: Trajectory = replace(
            five_kinds.walk(12, name=f"w{i}"), xy=xy, split=SplitPlan(0.6, 0.2, 0.2, by="object")
        )
        walks.append(walk)
    part = split(walks, tasks.forecast(5, 4)).train
    return [part[i] for i in range(len(part))]


@pytest.mark.slow
def test_a_path_arm_learns_to_bend_where_constant_velocity_goes_straight():
    samples = bends()
    preprocessor = fit_sequence_preprocessor(TrainingWindows(samples), skip="none", points=5)
    arm, data = arm_of(preprocessor), preprocessor.collate(samples, with_instructions=False)
    fit(arm, data, data, Budget(300, 32, 3e-3), objective=Likelihood(), seed=0)
    straight = fit_baseline("constant-velocity", TrainingWindows(samples)).predict(samples)
    got = predict_in_batches(
        arm, preprocessor, [s.without_truth() for s in samples], batch_size=16, with_instructions=False
    )

    def error(answers):
        return np.nanmean([np.abs(a.value - s.truth) for a, s in zip(answers, samples, strict=True)])

    assert error(got) < 0.6 * error(
        straight
    )  # half of the bend at most, for the point is half constant velocity
    middle = [np.median(a.samples, axis=0) for a in got]
    away = np.nanmean([np.abs(m - s.truth) for m, s in zip(middle, samples, strict=True)])
    assert away < 0.3 * error(straight)
    assert got[0].samples.shape == (KEPT_DRAWS, *samples[0].values.shape)
    assert np.isfinite(got[0].value[samples[0].wanted]).all()
    assert np.isnan(got[0].value[~samples[0].wanted]).all()


def test_an_untrained_path_arm_is_constant_velocity():
    samples = bends(20)
    preprocessor = fit_sequence_preprocessor(TrainingWindows(samples), skip="none", points=5)
    got = predict_in_batches(
        arm_of(preprocessor), preprocessor, samples, batch_size=3, with_instructions=False
    )
    want = fit_baseline("constant-velocity", TrainingWindows(samples)).predict(samples)
    for mine, rule in zip(got, want, strict=True):
        np.testing.assert_allclose(mine.value, rule.value, atol=1e-4)


def test_answers_do_not_depend_on_the_batch():
    samples = bends(20)
    preprocessor = fit_sequence_preprocessor(TrainingWindows(samples), skip="none", points=5)
    arm = arm_of(preprocessor)
    torch.nn.init.normal_(arm.head.out.weight, std=0.1)
    one = predict_in_batches(arm, preprocessor, samples, batch_size=1, with_instructions=False)
    many = predict_in_batches(arm, preprocessor, samples, batch_size=64, with_instructions=False)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(a.samples, b.samples, atol=1e-4)


def test_an_untrained_arm_for_the_next_place_ranks_as_its_rule_does():
    samples = [five_kinds.stay_sample(five_kinds.stays(f"user-{i}")) for i in range(3)]
    preprocessor = fit_sequence_preprocessor(TrainingWindows(samples), skip="counts-transitions", points=5)
    got = predict_in_batches(
        arm_of(preprocessor), preprocessor, samples, batch_size=8, with_instructions=False
    )
    want = fit_baseline("counts-transitions", TrainingWindows(samples)).predict(samples)
    for mine, rule in zip(got, want, strict=True):
        assert mine.label == rule.label
        assert sorted(mine.ranking) == sorted(samples[0].side.options)


def test_an_arm_for_events_says_a_density_and_its_quantiles():
    samples = five_kinds.event_samples(five_kinds.events(), 5)
    preprocessor = fit_sequence_preprocessor(TrainingWindows(samples), skip="none", points=5)
    answer = predict_in_batches(
        arm_of(preprocessor), preprocessor, samples[:2], batch_size=8, with_instructions=False
    )[0]
    density = answer.log_density["gap_h"]
    at = samples[0].side.channels.index("gap_h")
    low, middle, high = (answer.quantiles[share][-1, 0, at] for share in (0.05, 0.5, 0.95))
    assert low < middle < high
    assert answer.value[-1, 0, at] == pytest.approx(middle)
    hours = np.geomspace(1e-5, 1e5, 40_001)
    below = np.trapezoid(np.exp(density(hours[hours <= middle])), hours[hours <= middle])
    assert below == pytest.approx(0.5, abs=0.02)
    assert np.trapezoid(np.exp(density(hours)), hours) == pytest.approx(1, abs=0.02)


def test_a_skip_that_a_task_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="next-event has no skip 'counts-all'"):
        fit_sequence_preprocessor(
            TrainingWindows(five_kinds.event_samples(five_kinds.events(), 5)), skip="counts-all", points=5
        )


@pytest.mark.slow
def test_angular_noise_is_tuned_so_that_a_draw_comes_near():
    samples = bends()
    rule = fit_baseline("constant-velocity-angular", TrainingWindows(samples))
    got = rule.predict(samples)
    straight = fit_baseline("constant-velocity", TrainingWindows(samples)).predict(samples)
    assert rule.rule.angle > 0.1
    for noisy, one, sample in zip(got, straight, samples, strict=True):
        np.testing.assert_allclose(noisy.value, one.value)
        truth = sample.truth[sample.first_wanted_step :, 0, :2]
        scores = path_scores(noisy.samples[:, sample.first_wanted_step :, 0, :2], truth)
        assert scores[0] <= np.hypot(*(one.value[sample.first_wanted_step :, 0, :2] - truth).T).mean() + 0.05
    again = rule.predict(samples[:1])[0]
    np.testing.assert_array_equal(again.samples, got[0].samples)


def circles(task, count=60) -> list:
    """Walkers on circles, in the middle (or at the end) of which the place is asked."""
    angle, walks = 0.5 * np.arange(12), []
    for i in range(count):
        xy = 50 * np.stack([np.cos(angle + i), np.sin(angle + i)], axis=1)
        plan = SplitPlan(0.6, 0.2, 0.2, by="object")
        walks.append(replace(five_kinds.walk(12, name=f"c{i}"), xy=xy, split=plan))
    part = split(walks, task).train
    return [part[i] for i in range(len(part))]


def off(answers, samples) -> float:
    return float(np.nanmean([np.abs(a.value - s.truth) for a, s in zip(answers, samples, strict=True)]))


@pytest.mark.slow
def test_a_recovery_arm_learns_the_bend_that_a_straight_line_cuts_off():
    samples = circles(tasks.recover(12, 4))
    preprocessor = fit_sequence_preprocessor(TrainingWindows(samples), skip="none", points=1)
    arm, data = arm_of(preprocessor), preprocessor.collate(samples, with_instructions=False)
    straight = off(fit_baseline("straight-line", TrainingWindows(samples)).predict(samples), samples)
    blind = [s.without_truth() for s in samples]
    untrained = predict_in_batches(arm, preprocessor, blind, batch_size=16, with_instructions=False)
    assert off(untrained, samples) == pytest.approx(straight, rel=1e-4)
    fit(arm, data, data, Budget(200, 32, 3e-3), objective=Likelihood(), seed=0)
    answers = predict_in_batches(arm, preprocessor, blind, batch_size=16, with_instructions=False)
    assert off(answers, samples) < 0.3 * straight
    assert all(np.isfinite(a.value[s.wanted]).all() for a, s in zip(answers, samples, strict=True))
    assert all(np.isnan(a.value[~s.wanted]).all() for a, s in zip(answers, samples, strict=True))


@pytest.mark.slow
def test_one_model_trained_by_masks_answers_recoveries_and_forecasts():
    """TrajFM's point: what is hidden is the task."""
    recoveries, forecasts = circles(tasks.recover(12, 4)), circles(tasks.forecast(9, 3))
    preprocessor = fit_sequence_preprocessor(TrainingWindows(recoveries), skip="none", points=1)
    arm, data = arm_of(preprocessor), preprocessor.collate(recoveries, with_instructions=False)
    masked = MaskedTrajectories(policies=("random", "span"), ratio=0.35)
    fit(arm, data, data, Budget(500, 32, 3e-3), objective=masked, seed=0)
    for samples, rule, share in ((recoveries, "straight-line", 0.5), (forecasts, "constant-velocity", 0.8)):
        answers = predict_in_batches(
            arm, preprocessor, [s.without_truth() for s in samples], batch_size=16, with_instructions=False
        )
        assert off(answers, samples) < share * off(
            fit_baseline(rule, TrainingWindows(samples)).predict(samples), samples
        )


@pytest.mark.slow
def test_diffusion_draws_the_hidden_places_of_a_path():
    samples = circles(tasks.recover(12, 4))
    preprocessor = fit_sequence_preprocessor(TrainingWindows(samples), skip="none", points=1)
    blueprint = ArmSpec(preprocessor.shape, NO_EDGES, 16, 1.0, 4, EncoderSettings(d_st=16, layers=1))
    module, data = (
        SequencePretrainingModel(blueprint, seed=0),
        preprocessor.collate(samples, with_instructions=False),
    )
    fit(module, data, data, Budget(600, 32, 3e-3), objective=DiffusionObjective(module.schedule), seed=0)
    blind = [s.without_truth() for s in samples]
    batch = preprocessor.collate(blind, with_instructions=False)
    drawn = module.sample(batch, draws=8, steps=10, generator=torch.Generator().manual_seed(0))
    seen = batch.visible[..., 0]
    assert torch.equal(drawn[0][seen], batch.base[..., :2][seen])
    answers = preprocessor.postprocess_draws(blind, drawn)
    assert answers[0].samples.shape == (8, *samples[0].values.shape)
    assert off(answers, samples) < 0.5 * off(
        fit_baseline("straight-line", TrainingWindows(samples)).predict(samples), samples
    )


def test_points_of_a_path_are_hidden_at_random_or_in_a_span():
    with pytest.raises(ConfigError, match="random, span, future, but the policy is 'tube'"):
        MaskedTrajectories(policies=("tube",))


def strikes(count=120, *, known=("speed",)):
    """Events whose mark is told by their speed; every tenth speed is missing, and the mark of those is 'theft'."""
    rng = np.random.default_rng(0)
    speed = rng.normal(100.0, 30.0, count)
    mark = (speed > 100.0).astype(np.int64)
    speed[::10], mark[::10] = np.nan, 0
    return replace(five_kinds.events(count), mark=mark, attributes={"speed": speed}, known=known)


def test_an_arm_learns_the_mark_of_the_next_event_from_what_is_known_of_it():
    parts = split(strikes(), tasks.next_event(3, asked=("mark",)))
    train, test = list(parts.train), list(parts.test)
    preprocessor = fit_sequence_preprocessor(parts.train, skip="none", points=3)
    arm, data = arm_of(preprocessor), preprocessor.collate(train, with_instructions=False)
    fit(arm, data, data, Budget(150, 32, 3e-3), objective=Likelihood(), seed=0)
    got = predict_in_batches(
        arm, preprocessor, [s.without_truth() for s in test], batch_size=16, with_instructions=False
    )
    at = test[0].side.channels.index("mark")
    right = [a.value[-1, 0, at] == s.truth[-1, 0, at] for a, s in zip(got, test, strict=True)]
    assert np.mean(right) > 0.9
    assert all(a.ranking and sum(a.probabilities) == pytest.approx(1) for a in got)


def test_a_checkpoint_keeps_how_the_known_numbers_of_an_event_are_standardised():
    parts = split(strikes(), tasks.next_event(3, asked=("mark",)))
    fitted = fit_sequence_preprocessor(parts.train, skip="none", points=3)
    recipe = PretrainRecipe.model_validate(
        {"id": "marks", "data": "d", "task": {"next-event": {"history": 3, "asked": ["mark"]}}}
        | {"encoder": {"d_st": 16, "layers": 1}, "objectives": {"likelihood": {}}, "budget": {"steps": 1}}
    )
    config = checkpoint_config(recipe, fitted, fitted.shape, parts.train[0])
    kept = json.loads(json.dumps([config, fitted.scaler_state()]))
    restored, shape = restore_preprocessor(recipe, *kept, slots=None)
    assert shape == fitted.shape
    query = [of.collate(list(parts.test), with_instructions=False).query for of in (restored, fitted)]
    torch.testing.assert_close(*query)
    assert query[0].std() > 0.3


def test_an_arm_is_not_told_what_is_hidden_of_the_next_event():
    parts = split(strikes(known=()), tasks.next_event(3, asked=("mark",)))
    preprocessor = fit_sequence_preprocessor(parts.train, skip="none", points=3)
    assert preprocessor.shape.query == 0
    assert preprocessor.collate(list(parts.train), with_instructions=False).query.shape[1] == 0


@pytest.mark.parametrize("asked", [("x", "y"), ("magnitude",), ("gap_h", "mark"), ("gap_h", "x")])
def test_what_a_trained_arm_cannot_predict_of_the_next_event_is_refused(asked):
    parts = split(five_kinds.events(60), tasks.next_event(3, asked=asked))
    with pytest.raises(ConfigError, match=r"asks for \[" + ", ".join(sorted(asked))):
        fit_sequence_preprocessor(parts.train, skip="none", points=3)
