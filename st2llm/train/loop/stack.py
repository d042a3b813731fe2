"""Trains several arms of one frozen language model together (other seeds, other learning rates) in one pass per step.

Each member has its own encoder, projections and head, its own optimiser, batches and random draws, as if it was
trained alone by `fit`; the results are the same up to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator

from st2llm.encode.batch import Batch
from st2llm.model.arm import Arm
from st2llm.model.arm_stack import encode_batch, run_backbones, share_prompts
from st2llm.model.objectives.objective import Objective
from st2llm.train.loop.budget import Budget, FitResult, StepCallback
from st2llm.train.loop.meter import Meter
from st2llm.train.loop.trainer import Trainer, fit


@dataclass(frozen=True)
class StackMember:
    """One training run of a stack. lr: in place of that of the budget."""

    arm: Arm
    seed: int
    lr: float


def fit_stack(
    members: Sequence[StackMember],
    train: Batch,
    validation: Batch,
    budget: Budget,
    *,
    objective: Objective,
    on_step: StepCallback = lambda step: None,
) -> list[FitResult]:
    """Trains each member, and leaves its arm in its best state by validation loss.

    A member that runs out of patience leaves the stack. seconds of a result: those of the stack, divided by the number
    of its members. Under several processes, gradient accumulation or bf16, members are trained one after the other.
    Raises ConfigError where members share no frozen language model, TrainingError, naming seed and step, where the
    loss of a member is not finite.
    """
    parts = Accelerator(mixed_precision="no").num_processes * budget.gradient_accumulation_steps
    if len(members) == 1 or parts > 1 or budget.precision != "no":
        return [
            fit(
                m.arm,
                train,
                validation,
                replace(budget, lr=m.lr),
                objective=objective,
                seed=m.seed,
                on_step=on_step,
            )
            for m in members
        ]
    share_prompts([member.arm for member in members])
    with Meter() as meter:
        runs = _start(members, train, validation, budget, objective)
        for step in range(1, runs[0].trainer.last_step + 1):
            if not (running := [run for run in runs if not run.trainer.out_of_patience]):
                break
            _step(running, step)
            on_step(step)
        curves = [run.trainer.finish() for run in runs]
    return [FitResult(curve, meter.seconds / len(members), meter.peak_mb) for curve in curves]


@dataclass(frozen=True)
class _Run:
    arm: Arm
    trainer: Trainer


def _start(
    members: Sequence[StackMember], train: Batch, validation: Batch, budget: Budget, objective: Objective
) -> list[_Run]:
    """The runs of the members. A validation batch is as large as the training batch of the whole stack."""
    device = Accelerator(mixed_precision="no").device
    train, validation = train.to(device), validation.to(device)
    larger = replace(budget, validation_batch=budget.batch * len(members))
    return [
        _Run(
            member.arm,
            Trainer(
                member.arm,
                train,
                validation,
                replace(larger, lr=member.lr),
                objective=objective,
                seed=member.seed,
                checkpointer=None,
            ),
        )
        for member in members
    ]


def _step(runs: Sequence[_Run], step: int) -> None:
    """One optimiser step of each run. An encoder runs right after its batch was drawn, which seeds its dropout."""
    encoded = []
    for run in runs:
        batch = run.trainer.draw(step)
        encoded.append(encode_batch(run.arm, batch))
    losses = []
    for run, part, read_out in zip(runs, encoded, run_backbones(encoded), strict=True):
        objective = run.trainer.objective
        totals = objective.totals(read_out, part.batch)
        losses.append(run.trainer.loss(totals, objective.counts(part.batch), step))
    torch.autograd.backward(losses)
    for run, part in zip(runs, encoded, strict=True):
        run.trainer.update(part.batch, step)
