"""How long a module trains, and what came of it: budget, learning curve and result."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

StepCallback = Callable[[int], None]
"""Called after each optimiser step with its number, from 1."""


@dataclass(frozen=True)
class Budget:
    """How long a module trains. Steps are optimiser steps of `batch` samples.

    warmup_ratio: share of the steps over which the learning rate rises. max_grad_norm: gradients are clipped to it.
    gradient_accumulation_steps: number of parts that a batch is cut into, one after the other, with the same result.
    precision: of the forward pass; weights, losses and the optimiser stay in fp32. patience: training stops after so
    many evaluations without a better one; None never stops early. stop: stops after so many steps and keeps the last
    state, not the best, for training again on data that include the validation part. ema_decay: decay of the
    exponential moving average of the weights, which is then what is evaluated and kept; 0 keeps the weights themselves
    (Polyak and Juditsky 1992).
    """

    steps: int
    batch: int
    lr: float
    evaluations: int = 10
    warmup_ratio: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    gradient_accumulation_steps: int = 1
    precision: Literal["no", "bf16"] = "no"
    patience: int | None = None
    stop: int | None = None
    ema_decay: float = 0.0

    def lr_factor(self, step: int) -> float:
        """Factor on the learning rate at a step, from 0: linear warm-up, then a cosine down to a tenth."""
        warm = max(1, int(self.warmup_ratio * self.steps))
        if step < warm:
            return (step + 1) / warm
        progress = (step - warm) / max(1, self.steps - warm)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * min(progress, 1.0)))


@dataclass(frozen=True)
class LearningCurve:
    """Losses over time, in the objective's unit: training (mean since the last entry) and validation."""

    lr: float
    step: tuple[int, ...]
    train: tuple[float, ...]
    validation: tuple[float, ...]

    @property
    def best(self) -> float:
        return min(self.validation)

    @property
    def best_step(self) -> int:
        """The step of the best validation loss."""
        return self.step[self.validation.index(self.best)]

    @property
    def converged(self) -> bool:
        """True where the last quarter of training lowered the best validation loss by less than 1 %."""
        quarter = max(1, len(self.validation) // 4)
        before = min(self.validation[:-quarter], default=math.inf)
        return before <= self.best + 0.01 * abs(self.best)


@dataclass(frozen=True)
class FitResult:
    """A finished training run; the module holds its best state. peak_mb: highest resident memory of the process."""

    curve: LearningCurve
    seconds: float
    peak_mb: float
