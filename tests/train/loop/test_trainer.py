"""The loop learns, keeps the best state, counts every window once, and stops loudly where the loss is no number."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import fields

from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import FieldBatch, NoteVocabulary, stack_fields
from st2llm.encode.scaler import FieldScaler, fit_scaler
from st2llm.errors import TrainingError
from st2llm.model.arm import ArmSpec, EncoderSettings, build_arm
from st2llm.model.objectives.combined import CombinedObjective
from st2llm.model.objectives.supervised import Regression, absolute_error
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.trainer import evaluate, fit
from st2llm.train.loop.weighting import SCHEMES
from st2llm.types import TrainingWindows

HISTORY, HORIZON = 6, 2
ONE = torch.ones(1, 1)
UNSCALED = FieldScaler(np.zeros((1, 1)), np.ones((1, 1)))


class Level(torch.nn.Module):
    """Forecasts one number everywhere; remembers which windows it was trained on, and fails when told to."""

    def __init__(self, start=0.0, *, fails_at=0):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(float(start)))
        self.fails_at, self.seen = fails_at, []

    def forward(self, batch: FieldBatch):
        if self.training:
            self.seen.append([int(word) for word in batch.prompts])
        bad = math.nan if self.training and len(self.seen) == self.fails_at else 0.0
        return batch.base + self.level + bad


class Squares(Regression):
    """A second term on the same output."""

    name = "squares"

    def __init__(self, scale):
        super().__init__(scale, squared=True)


def level(value, count=10) -> FieldBatch:
    """Windows of one place whose truth is `value` (one, or one a window) everywhere; words number them."""
    steps = HISTORY + HORIZON
    samples = fields.windows(np.zeros((steps * count, 1, 1)), history=HISTORY, horizon=HORIZON, stride=steps)
    truths = np.broadcast_to(value, count)
    batch = stack_fields(
        [fields.with_truth(s, t) for s, t in zip(samples, truths, strict=True)], UNSCALED, NoteVocabulary(())
    )
    return replace(batch, prompts=tuple(str(i) for i in range(count)))


def plain(steps=20, *, batch=4, lr=0.1, evaluations=10, warmup=0.1) -> Budget:
    return Budget(steps, batch, lr, evaluations=evaluations, warmup_ratio=warmup, weight_decay=0.0)


def field_batches():
    samples = fields.windows(fields.series(60), history=12, horizon=3, stride=2)
    scaler = fit_scaler(TrainingWindows(samples))
    batches = (
        stack_fields(samples[:16], scaler, NoteVocabulary(())),
        stack_fields(samples[16:], scaler, NoteVocabulary(())),
    )
    return *batches, torch.from_numpy(scaler.std).float()


def field_arm():
    settings = EncoderSettings(d_st=8, patch=4, layers=1)
    shape = FieldShape(12, 3, 3, 1, 24)
    return build_arm("none", ArmSpec(shape, fields.EDGES, 16, 1.0, 4, settings), seed=0)


def test_the_loss_falls_and_is_told_in_raw_units():
    train, validation, scale = field_batches()
    arm = field_arm()
    before = evaluate(arm, validation, Regression(scale), 4)
    got = fit(arm, train, validation, Budget(40, 8, 1e-2, evaluations=4), objective=Regression(scale), seed=0)
    assert got.curve.step == (10, 20, 30, 40)
    assert got.curve.train[-1] < 0.7 * got.curve.train[0]
    assert got.curve.best < 0.8 * before
    assert got.curve.lr == 1e-2
    assert got.seconds > 0
    assert got.peak_mb > 10
    assert evaluate(arm, validation, Regression(scale), 4) == pytest.approx(got.curve.best, rel=1e-6)
    raw = ((arm(validation) - validation.target).abs().detach() * scale)[validation.valid]
    assert got.curve.best == pytest.approx(float(raw.mean()), rel=1e-5)


def test_the_best_state_is_restored_where_validation_gets_worse_again():
    arm = Level()
    got = fit(arm, level(1.0), level(0.35), plain(steps=40), objective=Regression(ONE), seed=0)
    assert got.curve.validation[-1] > got.curve.best + 0.2
    assert abs(arm.level.item() - 0.35) == pytest.approx(got.curve.best, abs=1e-6)
    assert arm.level.item() < 0.7


def test_what_is_kept_of_an_averaged_run_is_the_average_of_its_weights():
    arm, seen = Level(), []
    budget = replace(plain(steps=20, evaluations=20), ema_decay=0.8, stop=20)
    twin = Level()
    fit(
        twin, level(1.0), level(1.0), plain(steps=20), objective=Regression(ONE), seed=0,
        on_step=lambda step: seen.append(twin.level.item()),
    )  # fmt: skip
    got = fit(arm, level(1.0), level(1.0), budget, objective=Regression(ONE), seed=0)
    mean = 0.0
    for step, now in enumerate(seen, start=1):
        kept = min(0.8, step / (step + 9))
        mean = kept * mean + (1 - kept) * now
    assert arm.level.item() == pytest.approx(mean, rel=1e-5)
    assert got.curve.validation[-1] == pytest.approx(abs(1.0 - mean), rel=1e-4)


def test_a_run_that_is_to_stop_keeps_its_last_state_and_the_pace_of_the_whole():
    arm, whole = Level(), Level()
    got = fit(
        arm, level(1.0), level(0.35), replace(plain(steps=40), stop=32), objective=Regression(ONE), seed=0
    )
    assert got.curve.step[-1] == 32
    seen = {}
    fit(
        whole, level(1.0), level(0.35), plain(steps=40), objective=Regression(ONE), seed=0,
        on_step=lambda step: seen.update({step: whole.level.item()}),
    )  # fmt: skip
    assert arm.level.item() == seen[32]
    assert abs(arm.level.item() - 0.35) > got.curve.best + 0.1


def test_the_first_state_is_kept_where_training_only_makes_it_worse():
    arm = Level()
    fit(arm, level(1.0), level(-1.0), plain(), objective=Regression(ONE), seed=0)
    assert arm.level.item() == 0


def test_the_same_seed_gives_the_same_weights_and_curve():
    train, validation, scale = field_batches()
    arms = [field_arm() for _ in range(3)]
    curves = []
    for arm, seed in zip(arms, (0, 0, 1), strict=True):
        torch.rand(seed + 3)  # whatever was drawn before must not matter
        curves.append(
            fit(arm, train, validation, Budget(6, 4, 5e-3), objective=Regression(scale), seed=seed).curve
        )
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    assert all(torch.equal(a, b) for a, b in zip(arms[0].parameters(), arms[1].parameters(), strict=True))


def test_frozen_weights_are_neither_trained_nor_decayed():
    train, _, scale = field_batches()
    arm = field_arm()
    arm.encoder.requires_grad_(False)
    before = [p.clone() for p in arm.encoder.parameters()]
    fit(arm, train, train, Budget(5, 4, 1e-2, weight_decay=0.5), objective=Regression(scale), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, arm.encoder.parameters(), strict=True))
    assert arm.head.out.weight.any()


def test_a_loss_that_is_no_number_stops_training_and_names_the_step():
    arm = Level(fails_at=7)
    with pytest.raises(
        TrainingError, match="The loss is nan at step 7 of 20 \\(seed 0, learning rate 0.1\\)"
    ):
        fit(arm, level(1.0), level(1.0), plain(), objective=Regression(ONE), seed=0)
    # The last evaluation before was at step 6; the state kept is that one, as a run of 6 steps shows.
    watched: list[float] = []
    whole = Level()
    fit(
        whole,
        level(1.0),
        level(1.0),
        plain(),
        objective=Regression(ONE),
        seed=0,
        on_step=lambda _: watched.append(whole.level.item()),
    )
    assert arm.level.item() == watched[5]


def test_a_loss_that_is_no_number_at_once_leaves_the_first_state():
    arm = Level(0.25, fails_at=1)
    with pytest.raises(TrainingError, match="at step 1 of 20"):
        fit(arm, level(1.0), level(1.0), plain(), objective=Regression(ONE), seed=0)
    assert arm.level.item() == 0.25


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_an_evaluation_does_not_depend_on_the_batch(batch):
    data = level(np.arange(10.0))
    valid = data.valid.clone()
    valid[3, HISTORY] = valid[9] = False
    data = replace(data, valid=valid, target=data.target * valid)
    errors = [i for i in range(9) for _ in range(1 if i == 3 else 2)]
    assert evaluate(Level(), data, Regression(ONE), batch) == pytest.approx(np.mean(errors), rel=1e-6)


def test_the_last_batch_counts_though_it_is_not_full():
    assert evaluate(Level(), level([0.0] * 7 + [3.0] * 3), Regression(ONE), 7) == pytest.approx(0.9)


def test_a_mean_of_batch_means_would_be_another_number():
    data = level([0.0] * 7 + [3.0] * 3)
    means = [evaluate(Level(), data.take(rows), Regression(ONE), 64) for rows in (range(7), range(7, 10))]
    assert np.mean(means) == pytest.approx(1.5)


def test_an_evaluation_counts_in_raw_units_of_each_place():
    train, _, _ = field_batches()
    scale = torch.tensor([[1.0], [10.0], [100.0]])
    got = train.target + 0.5
    total, count = absolute_error(got, train, scale)
    assert count == int(train.valid.sum())
    assert float(total) / count == pytest.approx(0.5 * 111 / 3, rel=1e-5)


def test_nothing_is_added_by_entries_that_are_not_valid():
    data = level(1.0)
    none = replace(data, valid=torch.zeros_like(data.valid))
    total, count = absolute_error(none.base + 5, none, ONE)
    assert (float(total), count) == (0, 0)


@pytest.mark.parametrize("batch", [1, 3, 4, 10])
def test_every_window_comes_once_an_epoch_and_none_is_dropped(batch):
    arm = Level()
    fit(arm, level(1.0), level(1.0), plain(steps=30, batch=batch), objective=Regression(ONE), seed=0)
    assert {len(rows) for rows in arm.seen} == {batch}
    flat = [i for rows in arm.seen for i in rows]
    epochs = [flat[i : i + 10] for i in range(0, len(flat) - 9, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_batch_is_never_larger_than_the_data():
    arm = Level()
    fit(arm, level(1.0, count=3), level(1.0), plain(steps=4, batch=64), objective=Regression(ONE), seed=0)
    assert all(sorted(rows) == [0, 1, 2] for rows in arm.seen)


def test_the_order_depends_on_the_seed_alone():
    arms = [Level(), Level(5.0), Level()]
    for arm, seed in zip(arms, (0, 0, 1), strict=True):
        fit(arm, level(1.0), level(1.0), plain(), objective=Regression(ONE), seed=seed)
    assert arms[0].seen == arms[1].seen
    assert arms[0].seen != arms[2].seen


def test_the_learning_rate_warms_up_then_falls_along_a_cosine_to_a_tenth():
    # The gradient of |level - 1e6| never changes, so each AdamW step is the learning rate itself.
    arm, at = Level(), [0.0]
    far = level(1e6)
    fit(
        arm,
        far,
        far,
        plain(steps=40, lr=0.5, warmup=0.25),
        objective=Regression(ONE),
        seed=0,
        on_step=lambda _: at.append(arm.level.item()),
    )
    rates = np.diff(at) / 0.5
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10, rtol=1e-3)
    along = np.arange(30) / 30
    np.testing.assert_allclose(rates[10:], 0.1 + 0.45 * (1 + np.cos(np.pi * along)), rtol=1e-3)


def test_every_step_is_ticked_and_evaluations_are_spread_with_one_at_the_end():
    ticks: list[int] = []
    got = fit(
        Level(),
        level(1.0),
        level(1.0),
        plain(steps=11, evaluations=4),
        objective=Regression(ONE),
        seed=0,
        on_step=ticks.append,
    )
    assert ticks == list(range(1, 12))
    assert got.curve.step == (2, 4, 6, 8, 10, 11)


def test_the_training_loss_is_that_since_the_last_evaluation():
    ticks: list[float] = []
    arm = Level()
    budget = plain(steps=4, evaluations=2)
    got = fit(
        arm,
        level(1.0),
        level(1.0),
        budget,
        objective=Regression(ONE),
        seed=0,
        on_step=lambda _: ticks.append(arm.level.item()),
    )
    at = [0.0, *ticks]
    assert got.curve.train == pytest.approx([1 - (at[0] + at[1]) / 2, 1 - (at[2] + at[3]) / 2], rel=1e-5)
    assert got.curve.validation == pytest.approx([1 - at[2], 1 - at[4]], rel=1e-5)


@pytest.mark.parametrize("weighting", SCHEMES)
def test_terms_that_are_weighed_train_together_and_their_batch_is_not_cut(weighting):
    train, validation, scale = field_batches()
    terms = {"regression": (Regression(scale), 1.0), "squares": (Squares(scale), 1.0)}
    objective = CombinedObjective(terms, weighting=weighting, selected_by=("regression",))
    arm, budget = field_arm(), Budget(20, 8, 1e-2, evaluations=2)
    before = evaluate(arm, validation, Regression(scale), 4)
    got = fit(arm, train, validation, budget, objective=objective, seed=0)
    assert got.curve.best < 0.9 * before  # the state is selected by the regression alone
    with pytest.raises(TrainingError, match=f"weighting: {weighting} compares"):
        fit(
            arm,
            train,
            validation,
            replace(budget, gradient_accumulation_steps=2),
            objective=objective,
            seed=0,
        )
