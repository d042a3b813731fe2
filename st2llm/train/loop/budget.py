"""How long a module trains, and what came of it: budget, learning curve and result."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

StepCallback = Callable[[int], None]
"""Called after each optimiser step with its number, from 1."""
TrainingOutcome = Literal["converged", "improving", "rising", "stuck", "short"]
"""How a training run ended; see `LearningCurve.outcome`."""
OUTCOME_LABELS: Mapping[str, str] = {
    "converged": "converged",
    "improving": "not converged",
    "rising": "error rises",
    "stuck": "stuck at start",
    "short": "too short to tell",
}
"""The outcomes as tables, figures and the command line call them."""
_PLATEAU, _LATE_SHARE, _STEADY, _UNMOVED = 0.01, 0.1, 1e-3, 1e-4
"""Late progress below 1 % of the best loss and below 10 % of all progress is a plateau, unless the loss fell at each of
several late evaluations and by 0.1 % in all. A run whose best loss is less than 0.01 % below its first one has not
moved: no table shows such a difference."""
_LEAST_STEPS, _LEAST_EVALUATIONS = 50, 4
"""The curve of a run with fewer steps or evaluations shows no more than its warm-up and the noise of its batches."""


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
    validation_batch: int | None = None
    """Number of samples of one forward pass of an evaluation; None means `batch`. It does not change the result."""

    def lr_factor(self, step: int) -> float:
        """Factor on the learning rate at a step, from 0: linear warm-up, then a cosine down to a tenth."""
        warm = max(1, int(self.warmup_ratio * self.steps))
        if step < warm:
            return (step + 1) / warm
        progress = (step - warm) / max(1, self.steps - warm)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def summed_lr(self, steps: Sequence[int]) -> tuple[float, ...]:
        """The sum of the learning rate's factors over the first so many steps, for each of `steps`, ascending."""
        sums = [0.0, *itertools.accumulate(self.lr_factor(step) for step in range(max(steps, default=0)))]
        return tuple(sums[step] for step in steps)


@dataclass(frozen=True)
class LearningCurve:
    """Losses over time, in the objective's unit: training (mean since the last entry) and validation.

    initial: the validation loss before the first step; None where it is unknown. summed_lr: see `Budget.summed_lr`, at
    each entry; empty for a constant rate. out_of_patience: whether training ended because its patience did.
    """

    lr: float
    step: tuple[int, ...]
    train: tuple[float, ...]
    validation: tuple[float, ...]
    initial: float | None = None
    summed_lr: tuple[float, ...] = ()
    out_of_patience: bool = False

    @property
    def best(self) -> float:
        """The validation loss of the state that is kept, which may be the initial one."""
        return min(self._losses)

    @property
    def best_step(self) -> int:
        """The step of the best validation loss, 0 for the initial state."""
        return (*([] if self.initial is None else [0]), *self.step)[self._losses.index(self.best)]

    @property
    def converged(self) -> bool:
        """Whether training reached a plateau; see `outcome`."""
        return self.outcome == "converged"

    @property
    def outcome(self) -> TrainingOutcome:
        """How training ended, from the validation losses.

        short: fewer than 50 steps or 4 evaluations, too few to tell. stuck: the initial state is the best one.
        improving: the last quarter of the summed learning rate still lowered the best loss, by 1 % of it, by a tenth of
        all progress, or a little at each evaluation. Steps count by their learning rate, because a curve also flattens
        where a schedule ends: on a cosine, the last quarter is the second half of the steps. rising: the best state was
        reached before, and the last loss is more than 1 % above it. converged: none of these, or the patience ended.
        """
        if self.step[-1] < _LEAST_STEPS or len(self.step) < _LEAST_EVALUATIONS:
            return "short"
        if self.initial is not None and self.initial - self.best <= _UNMOVED * abs(self.initial):
            return "stuck"
        if self.out_of_patience:
            return "converged"
        if self._still_improves():
            return "improving"
        return "rising" if self.validation[-1] - self.best > _PLATEAU * abs(self.best) else "converged"

    def _still_improves(self) -> bool:
        spent = self.summed_lr or self.step
        early = [loss for loss, at in zip(self.validation, spent, strict=True) if at <= 0.75 * spent[-1]]
        start = math.inf if self.initial is None else self.initial
        late = min([start, *early]) - self.best
        if late > _PLATEAU * abs(self.best) or (
            start < math.inf and late > _LATE_SHARE * (start - self.best)
        ):
            return True
        last = [early[-1] if early else start, *self.validation[len(early) :]]
        falls = all(later < earlier for earlier, later in itertools.pairwise(last))
        return falls and len(last) > 2 and late > _STEADY * abs(self.best)

    @property
    def _losses(self) -> tuple[float, ...]:
        return (*(() if self.initial is None else (self.initial,)), *self.validation)


def curve_of(
    rows: Sequence[tuple[int, float, float]], budget: Budget, *, out_of_patience: bool = False
) -> LearningCurve:
    """The learning curve of a run from its rows: step, training and validation loss, the initial state first."""
    steps, losses, errors = zip(*rows[1:], strict=True)
    return LearningCurve(
        budget.lr,
        steps,
        losses,
        errors,
        initial=rows[0][2],
        summed_lr=budget.summed_lr(steps),
        out_of_patience=out_of_patience,
    )


@dataclass(frozen=True)
class FitResult:
    """A finished training run; the module holds its best state. peak_mb: highest resident memory of the process."""

    curve: LearningCurve
    seconds: float
    peak_mb: float
