"""The one training loop, on accelerate: AdamW, warm-up and cosine, clipping, the best state by validation.

What is trained for is an `Objective`. All that is random about a step (which windows, what is hidden) depends on the
seed and the step alone and is drawn for the whole batch, so that a run that was killed goes on as if it had not been,
and two processes, or several small batches in place of a large one, do what one does.
"""

import itertools
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from st2llm.encode.batch import Batch
from st2llm.errors import TrainingError
from st2llm.model.objectives.objective import Objective
from st2llm.train.loop.batches import BatchSource, ShuffledBatches
from st2llm.train.loop.memory import keep_freed_memory
from st2llm.train.loop.meter import Meter

StepCallback = Callable[[int], None]
"""Is told each finished step."""
_EVALUATION_STEP = -1
"""The step whose random choices every evaluation makes."""
_EMA = "average"
"""Stands among what the optimiser keeps of each weight."""


@dataclass(frozen=True)
class Budget:
    """How long an arm trains. Steps are optimiser steps of `batch` windows.

    gradient_accumulation_steps: the parts into which a batch is cut, one after the other, with the same result.
    precision: of the forward pass (weights, losses and the optimiser stay in fp32). warmup_ratio: share of the steps
    over which the learning rate rises. max_grad_norm: gradients are clipped to it. patience: evaluations without a
    better one after which training stops; None goes on to the end. stop: ends after so many of the steps and keeps the
    last state, not the best: for training anew on data that hold the validation part as well. ema_decay: what is
    evaluated and kept is the exponential moving average of the weights, which keeps this share of itself at each step
    (0: the weights alone; Polyak and Juditsky 1992).
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


@dataclass(frozen=True)
class LearningCurve:
    """Losses over time, in the objective's unit: training (since the last entry) and validation."""

    lr: float
    step: tuple[int, ...]
    train: tuple[float, ...]
    validation: tuple[float, ...]

    @property
    def best(self) -> float:
        return min(self.validation)

    @property
    def best_step(self) -> int:
        """The step of the best validation error."""
        return self.step[self.validation.index(self.best)]

    @property
    def converged(self) -> bool:
        """True where the last quarter of training lowered the best validation error by less than 1 %."""
        quarter = max(1, len(self.validation) // 4)
        before = min(self.validation[:-quarter], default=math.inf)
        return before <= self.best + 0.01 * abs(self.best)


@dataclass(frozen=True)
class FitResult:
    """A finished training run; the module holds its best state."""

    curve: LearningCurve
    seconds: float
    peak_mb: float


@dataclass
class TrainingState:
    """All that a run needs to go on from where it was: saved by a `Keeper` after each evaluation.

    rows: step, training loss, validation loss, the untrained state first. best, weights: of the best evaluation
    and the trained weights then. current, optimiser: the trained weights now, and the optimiser's tensors; last: what
    stands for the weights now, which is their average where one is kept.
    """

    step: int
    rows: list[tuple[int, float, float]]
    best: float
    weights: dict[str, Tensor]
    current: dict[str, Tensor]
    last: dict[str, Tensor] = field(default_factory=dict)
    optimiser: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0


@runtime_checkable
class Checkpointer(Protocol):
    """Keeps the progress of a run where it outlives the process."""

    def save(self, progress: TrainingState, terms: Mapping[str, float]) -> None:
        """terms: the objective's parts at this evaluation, for the log."""
        ...

    def load(self) -> TrainingState | None:
        """What was saved last; None where the run begins."""
        ...


def fit(
    arm: nn.Module,
    train: Batch | BatchSource,
    validation: Batch,
    budget: Budget,
    *,
    objective: Objective,
    seed: int,
    tick: StepCallback = lambda step: None,
    keeper: Checkpointer | None = None,
) -> FitResult:
    """Trains what requires a gradient and leaves the arm in its best state by validation error.

    The order of batches depends on `seed` alone, the same for every arm. tick: called after each step. keeper: saves
    after each evaluation; where it has something saved, training goes on from there, to the very same end.
    Raises TrainingError, naming the step, where the loss is not finite; the arm then holds its best state so far.
    """
    with Meter() as meter:
        run = _Trainer(arm, train, validation, budget, objective=objective, seed=seed, keeper=keeper)
        curve = run.through(tick)
    return FitResult(curve, meter.seconds + run.before_s, meter.peak_mb)


class _TrainingModule(nn.Module):
    """Arm and objective as one module, so that processes can share its gradients."""

    def __init__(self, arm: nn.Module, objective: Objective, *, bf16: bool) -> None:
        super().__init__()
        self.arm, self.objective, self.bf16 = arm, objective, bf16

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        device = next(self.arm.parameters()).device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.bf16):
            return {name: total.float() for name, total in self.objective.totals(self.arm, batch).items()}


class _Trainer:
    def __init__(
        self,
        arm: nn.Module,
        train: Batch | BatchSource,
        validation: Batch,
        budget: Budget,
        *,
        objective: Objective,
        seed: int,
        keeper: Checkpointer | None,
    ) -> None:
        handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
        self.accelerator = Accelerator(mixed_precision="no", kwargs_handlers=handlers)
        if objective.whole_batch and (
            self.accelerator.num_processes > 1 or budget.gradient_accumulation_steps > 1
        ):
            raise TrainingError(
                "A contrastive objective compares all windows of a batch with each other, so the batch cannot be cut "
                "into parts. Train it in one process with gradient_accumulation_steps: 1."
            )
        device = self.accelerator.device
        self.source = (
            train if isinstance(train, BatchSource) else ShuffledBatches(train.to(device), budget.batch, seed)
        )
        parts = self.accelerator.num_processes * budget.gradient_accumulation_steps
        if parts > self.source.batch:
            raise TrainingError(
                f"A batch of {self.source.batch} windows cannot be cut into {parts} parts "
                f"({self.accelerator.num_processes} processes, gradient_accumulation_steps "
                f"{budget.gradient_accumulation_steps}). Raise budget.batch."
            )
        self.arm, self.budget, self.objective, self.seed, self.keeper = arm, budget, objective, seed, keeper
        # An encoder that is held as it is belongs to what is kept all the same.
        self.weights = {
            name: p for name, p in arm.named_parameters() if p.requires_grad or name.startswith("encoder.")
        }
        self.trained = [p for p in self.weights.values() if p.requires_grad]
        optimiser = torch.optim.AdamW(
            self.trained, lr=budget.lr, weight_decay=budget.weight_decay, fused=True, betas=(0.9, 0.999)
        )
        self.learner, self.optimiser = self.accelerator.prepare(
            _TrainingModule(arm, objective, bf16=budget.precision == "bf16"), optimiser
        )
        if device.type == "cpu":
            keep_freed_memory()
        self.validation = validation.to(device)
        self.averaged = (
            {name: p.detach().clone() for name, p in self.weights.items()} if budget.ema_decay else {}
        )
        self.running: dict[str, float] = {}
        self.seen: dict[str, int] = {}
        self.before_s = 0.0
        self.progress = self._begin()

    def _begin(self) -> TrainingState:
        found = self.keeper.load() if self.keeper else None
        if found is None:
            first = self._validate()
            kept = self._snapshot()
            return TrainingState(0, [(0, math.nan, first)], first, kept, kept)
        self._restore(found.current)
        self._restore_optimiser(found.optimiser)
        for _ in range(found.step):
            self.source.skip()
        self.before_s = found.seconds
        return found

    def through(self, tick: Callable[[int], None]) -> LearningCurve:
        budget, progress = self.budget, self.progress
        last = budget.stop or budget.steps
        every = max(1, budget.steps // budget.evaluations)
        began = time.perf_counter()
        for step in range(progress.step + 1, last + 1):
            if self._out_of_patience():
                break
            drawn = self._step(step)
            if step % every == 0 or step == last:
                self._evaluate(step, drawn, time.perf_counter() - began)
            tick(step)
        self._restore(progress.last if budget.stop else progress.weights)
        steps, losses, errors = zip(*progress.rows[1:], strict=True)
        return LearningCurve(budget.lr, steps, losses, errors)

    def _step(self, step: int) -> Batch:
        self.learner.train()
        whole: Batch = self.objective.draw(
            self.source.next().to(self.accelerator.device), _generator(self.seed, step)
        )
        torch.manual_seed(
            self.seed * 1_000_003 + step
        )  # dropout of a step, wherever training was taken up again
        counts, shares = self.objective.counts(whole), self.objective.shares
        world, here = self.accelerator.num_processes, self.accelerator.process_index
        parts = world * self.budget.gradient_accumulation_steps
        mine = [p for p in range(parts) if p % world == here]
        for i, part in enumerate(mine):
            rows = range(len(whole))[part::parts]
            last = i == len(mine) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.learner):
                totals = self.learner(whole.take(rows))
                loss = sum(shares[name] * total / max(counts[name], 1) for name, total in totals.items())
                self._check(loss, step)
                self.accelerator.backward(loss * world)
            for name, total in totals.items():
                self.running[name] = self.running.get(name, 0.0) + float(total.detach())
        for name, count in counts.items():
            self.seen[name] = self.seen.get(name, 0) + count
        for group in self.optimiser.param_groups:
            group["lr"] = self.budget.lr * _lr_factor(step - 1, self.budget)
        self.accelerator.clip_grad_norm_(self.learner.parameters(), self.budget.max_grad_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._average(step)
        return whole

    @torch.no_grad()
    def _average(self, step: int) -> None:
        kept = min(
            self.budget.ema_decay, step / (step + 9)
        )  # the first steps, far from anything, are soon forgotten
        for name, mean in self.averaged.items():
            mean.lerp_(self.weights[name], 1 - kept)

    def _check(self, loss: Tensor, step: int) -> None:
        if torch.isfinite(loss):
            return
        self._restore(self.progress.weights)
        raise TrainingError(
            f"The loss is {loss.item()} at step {step} of {self.budget.steps} (learning rate {self.budget.lr}). "
            f"The arm keeps its state of the best evaluation before. Lower budget.lr, or look for infinities."
        )

    def _evaluate(self, step: int, drawn: Batch, seconds: float) -> None:
        progress = self.progress
        summed = self.accelerator.reduce(torch.tensor(list(self.running.values()), dtype=torch.float64))
        means = {
            name: float(total) / max(self.seen[name], 1)
            for name, total in zip(self.running, summed, strict=True)
        }
        now = self._snapshot()
        if self.averaged:
            self._restore(self.averaged)
        error = self._validate()
        progress.step = step
        progress.rows.append((step, self.objective.value(means), error))
        self.running, self.seen = {}, {}
        progress.current = now
        if error < progress.best:
            progress.best, progress.weights = error, self._snapshot()
        progress.last = self._snapshot() if self.averaged else now
        self._restore(now)
        if self.keeper is not None:
            progress.optimiser, progress.seconds = self._optimiser_state(), self.before_s + seconds
            if self.accelerator.is_main_process:
                self.keeper.save(progress, {**means, **self._cosines(drawn)})
            self.accelerator.wait_for_everyone()

    def _cosines(self, drawn: Batch) -> dict[str, float]:
        """Cosines between the gradients of each two parts of the objective, on the last batch."""
        if len(self.objective.shares) < 2:
            return {}
        totals = self.objective.totals(self.arm, drawn)
        gradients = {
            name: torch.cat(
                [
                    (torch.zeros_like(p) if g is None else g).flatten()
                    for p, g in zip(
                        self.trained,
                        torch.autograd.grad(total, self.trained, retain_graph=True, allow_unused=True),
                        strict=True,
                    )
                ]
            )
            for name, total in totals.items()
        }
        return {
            f"cosine {a}, {b}": float(nn.functional.cosine_similarity(gradients[a], gradients[b], dim=0))
            for a, b in itertools.combinations(gradients, 2)
        }

    def _validate(self) -> float:
        return evaluate(self.arm, self.validation, self.objective, self.budget.batch, seed=self.seed)

    def _out_of_patience(self) -> bool:
        if self.budget.patience is None:
            return False
        errors = [error for _, _, error in self.progress.rows]
        return len(errors) - 1 - errors.index(min(errors)) >= self.budget.patience

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.weights.items()}

    @torch.no_grad()
    def _restore(self, kept: Mapping[str, Tensor]) -> None:
        for name, parameter in self.weights.items():
            parameter.copy_(kept[name])

    def _optimiser_state(self) -> dict[str, Tensor]:
        """By weight and by what is kept of it: `exp_avg/encoder.embed.values.weight`."""
        state = self.optimiser.optimizer.state
        return {
            f"{key}/{name}": torch.as_tensor(kept).detach().clone()
            for name, p in self.weights.items()
            for key, kept in state.get(p, {}).items()
        } | {f"{_EMA}/{name}": mean.clone() for name, mean in self.averaged.items()}

    def _restore_optimiser(self, kept: Mapping[str, Tensor]) -> None:
        state = self.optimiser.optimizer.state
        for path, tensor in kept.items():
            key, _, name = path.partition("/")
            weight = self.weights[name]
            if key == _EMA:
                self.averaged[name] = tensor.to(weight.device)
                continue
            state[weight][key] = tensor.clone() if key == "step" else tensor.to(weight.device)


@torch.inference_mode()
def evaluate(arm: nn.Module, data: Batch, objective: Objective, batch: int, *, seed: int = 0) -> float:
    """The objective's value over all of `data`; every sample counts, whatever the batch.

    What the objective draws at random it draws once for all of `data`, the same at each evaluation.
    """
    arm.eval()
    drawn = objective.draw(data, _generator(seed, _EVALUATION_STEP))
    totals: dict[str, float] = {}
    size = len(drawn) if objective.whole_batch else batch
    for start in range(0, len(drawn), size):
        part = drawn.take(range(start, min(start + size, len(drawn))))
        for name, total in objective.totals(arm, part).items():
            totals[name] = totals.get(name, 0.0) + float(total)
    counts = objective.counts(drawn)
    return objective.value({name: total / max(counts[name], 1) for name, total in totals.items()})


def _generator(seed: int, step: int) -> torch.Generator:
    """What a step draws depends on the seed and the step alone, wherever training was taken up again."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step + 1) % 2**63)


def _lr_factor(step: int, budget: Budget) -> float:
    """Share of the learning rate at a step: linear warm-up, then a cosine down to a tenth."""
    warm = max(1, int(budget.warmup_ratio * budget.steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, budget.steps - warm)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(done, 1.0)))
