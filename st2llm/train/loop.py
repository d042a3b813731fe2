"""The one training loop, on accelerate: AdamW, warm-up and cosine, clipping, the best state by validation."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.encode.batch import FieldBatch
from st2llm.errors import TrainingError
from st2llm.train.meter import Meter


@dataclass(frozen=True)
class Budget:
    """How long every arm trains. Steps are optimiser steps of `batch` windows."""

    steps: int
    batch: int
    lr: float
    evaluations: int = 10
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0


@dataclass(frozen=True)
class Curve:
    """Losses over time: mean absolute error in raw units, training (since the last entry) and validation."""

    lr: float
    step: tuple[int, ...]
    train: tuple[float, ...]
    validation: tuple[float, ...]

    @property
    def best(self) -> float:
        return min(self.validation)

    @property
    def converged(self) -> bool:
        """True where the last quarter of training lowered the best validation error by less than 1 %."""
        quarter = max(1, len(self.validation) // 4)
        before = min(self.validation[:-quarter], default=math.inf)
        return before <= self.best * 1.01


@dataclass(frozen=True)
class Fit:
    """A finished training run; the module holds its best state."""

    curve: Curve
    seconds: float
    peak_mb: float


def absolute_error(
    got: Float[Tensor, "batch time node channel"], batch: FieldBatch, scale: Float[Tensor, "node channel"]
) -> tuple[Float[Tensor, ""], int]:
    """Sum of absolute errors in raw units over valid entries, and their count.

    scale: raw units per standardised unit. The sum, not a mean of batch means, so that pooling is exact.
    """
    error = (got - batch.target).abs() * scale
    return (error * batch.valid).sum(), int(batch.valid.sum())


def fit(
    arm: nn.Module,
    train: FieldBatch,
    validation: FieldBatch,
    budget: Budget,
    *,
    scale: Float[Tensor, "node channel"],
    seed: int,
    tick: Callable[[int], None] = lambda step: None,
) -> Fit:
    """Trains what requires a gradient and leaves the arm in its best state by validation error.

    The order of batches depends on `seed` alone, the same for every arm. tick: called after each step.
    Raises TrainingError, naming the step, where the loss is not finite; the arm then holds its best state so far.
    """
    with Meter() as meter:
        curve = _train(arm, train, validation, budget, scale=scale, seed=seed, tick=tick)
    return Fit(curve, meter.seconds, meter.peak_mb)


def _train(
    arm: nn.Module,
    train: FieldBatch,
    validation: FieldBatch,
    budget: Budget,
    *,
    scale: Float[Tensor, "node channel"],
    seed: int,
    tick: Callable[[int], None],
) -> Curve:
    accelerator = Accelerator(mixed_precision="no")
    weights = [p for p in arm.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=budget.lr, weight_decay=budget.weight_decay, fused=True)
    plan = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, budget))
    model, stepper = accelerator.prepare(arm, optimiser)
    device = accelerator.device
    train, validation, scale = train.to(device), validation.to(device), scale.to(device)
    order = _Order(len(train), budget.batch, seed)
    every = max(1, budget.steps // budget.evaluations)
    typical = float(scale.mean())
    rows: list[tuple[int, float, float]] = [(0, math.nan, evaluate(model, validation, scale, budget.batch))]
    best, kept = rows[0][2], _snapshot(arm)
    running, seen = 0.0, 0
    for step in range(1, budget.steps + 1):
        model.train()
        batch = train.take(order.next())
        total, count = absolute_error(model(batch), batch, scale)
        loss = total / max(count, 1) / typical
        if not torch.isfinite(loss):
            _restore(arm, kept)
            raise TrainingError(
                f"The loss is {loss.item()} at step {step} of {budget.steps} (learning rate {budget.lr}). "
                f"The arm keeps its state of the best evaluation before. Lower budget.lr, or look for infinities."
            )
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(weights, budget.clip)
        stepper.step()
        plan.step()
        stepper.zero_grad()
        running, seen = running + float(total.detach()), seen + count
        if step % every == 0 or step == budget.steps:
            error = evaluate(model, validation, scale, budget.batch)
            rows.append((step, running / max(seen, 1), error))
            running, seen = 0.0, 0
            if error < best:
                best, kept = error, _snapshot(arm)
        tick(step)
    _restore(arm, kept)
    steps, losses, errors = zip(*rows[1:], strict=True)
    return Curve(budget.lr, steps, losses, errors)


@torch.inference_mode()
def evaluate(arm: nn.Module, data: FieldBatch, scale: Float[Tensor, "node channel"], batch: int) -> float:
    """Mean absolute error in raw units, pooled over all valid entries; every sample counts, whatever the batch."""
    arm.eval()
    total, count = 0.0, 0
    for start in range(0, len(data), batch):
        part = data.take(range(start, min(start + batch, len(data))))
        summed, entries = absolute_error(arm(part), part, scale)
        total, count = total + float(summed), count + entries
    return total / max(count, 1)


class _Order:
    """Positions of the next batch: epochs of seeded permutations, wrapping around so that none is left out."""

    def __init__(self, length: int, batch: int, seed: int) -> None:
        self.length, self.batch = length, min(batch, length)
        self.generator = torch.Generator().manual_seed(seed)
        self.queue: list[int] = []

    def next(self) -> list[int]:
        while len(self.queue) < self.batch:
            self.queue += torch.randperm(self.length, generator=self.generator).tolist()
        picked, self.queue = self.queue[: self.batch], self.queue[self.batch :]
        return picked


def _rate(step: int, budget: Budget) -> float:
    """Share of the learning rate at a step: linear warm-up, then a cosine down to a tenth."""
    warm = max(1, int(budget.warmup * budget.steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, budget.steps - warm)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(done, 1.0)))


def _snapshot(arm: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in arm.named_parameters() if p.requires_grad}


@torch.no_grad()
def _restore(arm: nn.Module, kept: dict[str, Tensor]) -> None:
    for name, parameter in arm.named_parameters():
        if name in kept:
            parameter.copy_(kept[name])
