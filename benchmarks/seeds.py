"""Processor seconds that a seed of a frozen arm takes: as before stacks of seeds, against how suites run now.

python benchmarks/seeds.py [--json] [--suites NAME ...] [--seeds N] [--rounds N] [--backbone NAME]

Both variants take turns within each round; times are medians over rounds. Other programs on the machine lengthen
wall-clock seconds more than processor seconds, so the latter are given. Few steps, evaluations and windows are timed
and counted as often as the suite has them, without the early stop of `patience`.

before: `fit` for each seed, attention by PyTorch's fused kernel, fp32 products by torch's own library, encoders that
compute all tokens of their last layer, graph attention by torch-geometric, training steps with accelerate's clipping
and torch's seeding of all devices, the text of each window's prompt rendered. now: `fit_stack`, and the code as it is.
training: all steps and evaluations of the budget. prompts: those that the model reads in training, evaluation and
test; before, each seed read its own. job: also the warm-up of the seed's encoder, predictions of validation and test
windows, and what all seeds share (tensors, texts of prompts, the model), divided by the number of seeds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor

from st2llm.config.suite import Suite, load_suites
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.encode.batch import Batch
from st2llm.encode.layers import linear, short_attention
from st2llm.encode.layers.graph_layers import GraphLayer
from st2llm.encode.layers.transformer import Transformer
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.progress import NO_PROGRESS
from st2llm.evaluate.run.runners.training_inputs import TrainingInputs
from st2llm.evaluate.run.samples import without_truth
from st2llm.llm.local import require_local
from st2llm.model import arm as arm_module
from st2llm.model import attention
from st2llm.model.arm import EncoderWithHead, build_arm
from st2llm.model.arm_stack import share_prompts
from st2llm.predict.arm import ArmPredictor
from st2llm.predict.preprocess.instruction import render_instructions
from st2llm.train.loop.batches import ShuffledBatches
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.stack import StackMember, fit_stack
from st2llm.train.loop.trainer import Trainer, evaluate, fit

STEPS, WARMUP_STEPS = (2, 8), (4, 24)
"""Steps of a short and a longer run; their difference leaves out what a run does once."""
WINDOWS, RENDERED = 8, 200
WANTED = 3.0
SUITES = ("demo", "five-kinds-event", "five-kinds-graph")
PARTS = ("training", "prompts", "warmup", "prediction", "shared", "job")


def processor_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def seconds_per_step(train: Callable[[int], object], steps: tuple[int, int]) -> float:
    """Processor seconds of one step. train: takes the number of steps."""
    short, longer = (processor_seconds(partial(train, count)) for count in steps)
    return (longer - short) / (steps[1] - steps[0])


@contextmanager
def earlier_code() -> Iterator[None]:
    """Attention, products, encoders and training steps as in versions before stacks of seeds."""

    def all_tokens(self: Transformer, z: Tensor) -> Tensor:
        for layer in self.layers:
            z = layer(z)
        return z

    def last_token(self: Transformer, z: Tensor) -> Tensor:
        return all_tokens(self, z)[:, -1]

    def draw(self: Trainer, step: int) -> Batch:
        self.learner.train()
        batch = drawn(self, step)
        torch.manual_seed(self.seed * 1_000_003 + step)
        return batch

    def clip_gradients(self: Trainer) -> None:
        self.accelerator.clip_grad_norm_(self.learner.parameters(), self.budget.max_grad_norm)

    drawn = Trainer.draw
    with ExitStack() as stack:
        for owner, name, value in (
            (attention, "LARGEST_SCORES", 0),
            (linear, "_AVAILABLE", False),
            (short_attention, "MOST_TOKENS", 0),
            (Transformer, "forward", all_tokens),
            (Transformer, "last_token", last_token),
            (GraphLayer, "_dense_graph", lambda *_: None),
            (arm_module, "reads_query_alone", lambda _: False),
            (Trainer, "draw", draw),
            (Trainer, "_clip_gradients", clip_gradients),
        ):
            stack.enter_context(patch.object(owner, name, value))
        yield


class Arms:
    """A suite's frozen arm with several seeds, and the times of the parts of its job."""

    def __init__(self, suite: Suite, backbone: str, seeds: int) -> None:
        began = time.process_time()
        data, task = load_data(suite.data), suite.tasks[0]
        splits = split(data, task, stride=suite.stride_of(task), context=suite.split.context)
        self.inputs = Inputs(suite, TaskData(data, task, splits), NO_PROGRESS)
        self.training = TrainingInputs(self.inputs, 0)
        self.predictor = suite.predictor(backbone)
        self.train, self.validation = self.training.batches_with_instructions
        model = require_local(self.inputs.models.of(self.predictor))
        self.dtype = str(model.dtype).removeprefix("torch.")
        rate = self.inputs.budget.lr[0]
        self.members = [
            StackMember(build_arm(backbone, self.training.blueprint(), seed=seed, llm=model), seed, rate)
            for seed in range(seeds)
        ]
        self.shared = (time.process_time() - began) / seeds
        self.shared_before = self.shared + self._rendered_one_by_one() / seeds
        # Prompts of the timed steps and windows are read now, those of a whole job are counted by `_prompts`.
        share_prompts([member.arm for member in self.members])
        cache = self.members[0].arm.backbone.prompt_cache
        texts = sorted(self._drawn(range(seeds), STEPS[1]) | self._held_out())
        self.seconds_per_prompt = processor_seconds(lambda: cache.lookup(texts)) / len(texts)

    def now(self) -> dict[str, float]:
        return self._seed(self.members, self.shared)

    def before(self) -> dict[str, float]:
        with earlier_code():
            return self._seed(self.members[:1], self.shared_before)

    def _rendered_one_by_one(self) -> float:
        """Seconds that the texts of all prompts take beyond those now, where each window has its own."""
        prompts, windows = self.training.preprocessor, self.inputs.train
        few = [windows[i] for i in range(min(len(windows), RENDERED))]
        now = processor_seconds(lambda: render_instructions(prompts.template, few, prompts.slots))
        alone = processor_seconds(lambda: [prompts.instruction(sample) for sample in few])
        return max(0.0, alone - now) * (len(windows) + len(self.inputs.validation)) / len(few)

    def _seed(self, members: list[StackMember], shared: float) -> dict[str, float]:
        """Seconds of the parts of one seed, trained in a stack of these members."""
        times = {
            "training": self._training(members),
            "prompts": self._prompts(len(members)),
            "warmup": self._warmup(),
            "prediction": self._prediction(),
        }
        return {**times, "shared": shared, "job": sum(times.values()) + shared}

    def _training(self, members: list[StackMember]) -> float:
        budget = self.inputs.budget
        few, objective = self.validation.take(range(1)), self.training.objective

        def train(count: int) -> object:
            short = Budget(count, budget.batch, budget.lr[0], evaluations=1)
            return fit_stack(members, self.train, few, short, objective=objective)

        step = seconds_per_step(train, STEPS)
        size = budget.batch * len(members)
        part = self.validation.take(range(min(len(self.validation), size)))
        evaluation = processor_seconds(lambda: self._evaluate(members[0], part, size))
        evaluations = (budget.evaluations + 1) * len(self.validation) / len(part)
        return step * budget.steps / len(members) + evaluation * evaluations

    def _prompts(self, seeds: int) -> float:
        """Seconds a seed of reading the prompts that these seeds draw, each once."""
        texts = self._drawn(range(seeds), self.inputs.budget.steps) | self._held_out()
        return self.seconds_per_prompt * len(texts) / seeds

    def _drawn(self, seeds: Iterable[int], steps: int) -> set[str]:
        """The prompts of the training windows of so many steps."""
        texts: set[str] = set()
        for seed in seeds:
            batches = ShuffledBatches(self.train, self.inputs.budget.batch, seed)
            for _ in range(steps):
                texts.update(batches.next().prompts)
        return texts

    def _held_out(self) -> set[str]:
        instruction = self.training.preprocessor.instruction
        test = without_truth(self.inputs.test_samples(self.predictor))
        return {*self.validation.prompts, *(instruction(sample) for sample in test)}

    def _evaluate(self, member: StackMember, part: object, batch: int) -> float:
        return evaluate(member.arm, part, self.training.objective, batch)

    def _warmup(self) -> float:
        """Seconds of the encoder's own training."""
        settings = self.inputs.suite.encoder.warmup
        if settings is None:
            return 0.0
        probe, objective = EncoderWithHead(self.training.blueprint(), seed=0), self.training.objective
        train, validation = self.training.batches
        few = validation.take(range(1))

        def warm_up(count: int) -> object:
            short = Budget(count, settings.batch, settings.lr, evaluations=1)
            return fit(probe, train, few, short, objective=objective, seed=0)

        step = seconds_per_step(warm_up, WARMUP_STEPS)
        evaluation = processor_seconds(lambda: evaluate(probe, validation, objective, settings.batch))
        return step * settings.steps + evaluation * (Budget(1, 1, 1.0).evaluations + 1)

    def _prediction(self) -> float:
        """Seconds of predicting the windows of validation and test."""
        samples, arm = self.inputs.test_samples(self.predictor), self.members[0].arm
        predictor = ArmPredictor(
            "arm",
            arm,
            self.training.preprocessor,
            with_instructions=True,
            batch_size=self.inputs.budget.batch,
        )
        few = without_truth(samples[:WINDOWS])
        share = (len(samples) + len(self.inputs.validation)) / len(few)
        return share * processor_seconds(lambda: predictor.predict(few))


def compare(name: str, backbone: str, seeds: int, rounds: int) -> dict[str, float | str]:
    """Median seconds a seed of both variants, in turn in each round; the first round is not counted."""
    arms = Arms(load_suites(name)[0], backbone, seeds)
    pairs = [(arms.before(), arms.now()) for _ in range(rounds + 1)][1:]
    median = statistics.median
    result: dict[str, float | str] = {"suite": name, "dtype": arms.dtype}
    for part in PARTS:
        result[f"{part}_before_s"] = median(before[part] for before, _ in pairs)
        result[f"{part}_now_s"] = median(now[part] for _, now in pairs)
        result[f"{part}_ratio"] = median(before[part] / now[part] for before, now in pairs)
    return result


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
            print(json.dumps(found), flush=True)
            continue
        print(
            f"{name}, {asked.backbone} in {found['dtype']}, {asked.seeds} seeds, median of {asked.rounds} rounds: "
            f"processor seconds a seed"
        )
        for part in PARTS:
            before, now, ratio = (found[f"{part}_{key}"] for key in ("before_s", "now_s", "ratio"))
            print(
                f"  {part:>10}: {before:6.1f} before, {now:6.1f} now, ratio {ratio:.2f} (target: {WANTED:g})",
                flush=True,
            )


if __name__ == "__main__":
    main()
