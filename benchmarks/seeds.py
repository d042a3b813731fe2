"""Seconds that a seed of a frozen arm takes: one seed at a time with fused attention, against a stack of seeds.

python benchmarks/seeds.py [--json] [--suites NAME ...] [--seeds N] [--rounds N] [--backbone NAME]

Both variants take turns within each round. A seed is all steps and evaluations of the suite's budget, without the
early stop of `patience`; times are medians over rounds. Other programs on the machine lengthen wall-clock seconds more
than processor seconds, so the ratio is of the latter.

before: `fit` for each seed, attention by PyTorch's fused kernel. after: `fit_stack`, attention by matrix products.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import torch

from st2llm.config.suite import Suite, load_suites
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.progress import NO_PROGRESS
from st2llm.evaluate.run.runners.training_inputs import TrainingInputs
from st2llm.llm.local import require_local
from st2llm.model import attention
from st2llm.model.arm import build_arm
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.stack import StackMember, fit_stack
from st2llm.train.loop.trainer import evaluate

STEPS = 8
WANTED = 3.0
SUITES = ("demo", "five-kinds-event")


@dataclass(frozen=True)
class Seconds:
    """Wall-clock and processor seconds."""

    wall: float
    processor: float


def measure(work: Callable[[], object]) -> Seconds:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - processor)


@contextmanager
def fused_attention() -> Iterator[None]:
    """The attention kernel of earlier versions."""
    with patch.object(attention, "LARGEST_SCORES", 0):
        yield


class Arms:
    """A suite's frozen arm with several seeds, and the times of its training steps and evaluations."""

    def __init__(self, suite: Suite, backbone: str, seeds: int) -> None:
        data, task = load_data(suite.data), suite.tasks[0]
        splits = split(data, task, stride=suite.stride_of(task), context=suite.split.context)
        inputs = Inputs(suite, TaskData(data, task, splits), NO_PROGRESS)
        training = TrainingInputs(inputs)
        self.budget = inputs.budget
        self.train, self.validation = training.batches_with_instructions
        self.objective = training.objective
        model = require_local(inputs.models.of(suite.predictor(backbone)))
        self.dtype = str(model.dtype).removeprefix("torch.")
        self.members = [
            StackMember(
                build_arm(backbone, training.blueprint(), seed=seed, llm=model), seed, self.budget.lr[0]
            )
            for seed in range(seeds)
        ]
        for member in self.members:  # prompts are read once, by either variant
            self.evaluate(member, self.budget.batch)

    def evaluate(self, member: StackMember, batch: int) -> float:
        return evaluate(member.arm, self.validation, self.objective, batch)

    def fit(self, members: list[StackMember], steps: int) -> None:
        budget = Budget(steps, self.budget.batch, self.budget.lr[0], evaluations=1)
        few = self.validation.take(range(1))
        fit_stack(members, self.train, few, budget, objective=self.objective)

    def before(self) -> Seconds:
        with fused_attention():
            step = measure(lambda: self.fit(self.members[:1], STEPS))
            evaluation = measure(lambda: self.evaluate(self.members[0], self.budget.batch))
        return self._seed(step, evaluation, members=1)

    def after(self) -> Seconds:
        step = measure(lambda: self.fit(self.members, STEPS))
        batch = self.budget.batch * len(self.members)
        evaluation = measure(lambda: self.evaluate(self.members[0], batch))
        return self._seed(step, evaluation, members=len(self.members))

    def _seed(self, steps: Seconds, evaluation: Seconds, *, members: int) -> Seconds:
        """A whole seed: the budget's steps, and its evaluations with that of the untrained arm."""
        share, evaluations = self.budget.steps / STEPS / members, self.budget.evaluations + 1
        return Seconds(
            share * steps.wall + evaluations * evaluation.wall,
            share * steps.processor + evaluations * evaluation.processor,
        )


def compare(name: str, backbone: str, seeds: int, rounds: int) -> dict[str, float | str]:
    """Median seconds a seed of both variants, in turn in each round; the first round is not counted."""
    arms = Arms(load_suites(name)[0], backbone, seeds)
    pairs = [(arms.before(), arms.after()) for _ in range(rounds + 1)][1:]
    median = statistics.median
    result = {
        f"{side}_{clock}_s": median(getattr(pair[i], clock) for pair in pairs)
        for i, side in enumerate(("before", "after"))
        for clock in ("wall", "processor")
    }
    ratio = median(before.processor / after.processor for before, after in pairs)
    return {"suite": name, "dtype": arms.dtype, "ratio": ratio, **result}


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--json", action="store_true", help="print one JSON object a suite")
    reader.add_argument("--suites", nargs="+", default=list(SUITES))
    reader.add_argument("--backbone", default="llm-frozen")
    reader.add_argument("--seeds", type=int, default=3)
    reader.add_argument("--rounds", type=int, default=3)
    asked = reader.parse_args()
    torch.manual_seed(0)
    for name in asked.suites:
        found = compare(name, asked.backbone, asked.seeds, asked.rounds)
        if asked.json:
            print(json.dumps(found))
            continue
        print(
            f"{name}, {asked.backbone} in {found['dtype']}, {asked.seeds} seeds, median of {asked.rounds} rounds"
        )
        for clock in ("processor", "wall"):
            before, after = found[f"before_{clock}_s"], found[f"after_{clock}_s"]
            print(f"  {clock:>9} seconds a seed: {before:6.1f} before, {after:6.1f} after")
        print(f"  ratio of processor seconds: {found['ratio']:.2f} (target, with early stopping: {WANTED:g})")


if __name__ == "__main__":
    main()
