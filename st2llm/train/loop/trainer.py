"""The training loop, on accelerate: AdamW, warm-up and cosine, gradient clipping, the best state by validation.

What is minimised is an `Objective`. All random choices of a step (which samples, what is masked) depend on the seed and
the step alone and are drawn for the whole batch. So a run that was killed resumes to the same result, and several
processes or gradient accumulation give the same result as one process with the whole batch.
"""

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from st2llm.devices import is_cpu, seed_generator
from st2llm.encode.batch import Batch
from st2llm.errors import TrainingError
from st2llm.llm.local import decoder_layers
from st2llm.model.objectives.objective import Objective
from st2llm.model.prompted import PromptedLM
from st2llm.train.loop import sharding
from st2llm.train.loop.batches import BatchSource, ShuffledBatches
from st2llm.train.loop.budget import Budget, FitResult, LearningCurve, StepCallback, curve_of
from st2llm.train.loop.memory import keep_freed_memory
from st2llm.train.loop.meter import Meter
from st2llm.train.loop.state import Checkpointer, TrainingState
from st2llm.train.loop.weighting import SCHEMES, cosines, shared_gradients

_EVALUATION_STEP = -1
"""Stands for the step in the random seed of every evaluation."""
_EMA = "average"
"""Prefix of the moving averages among the tensors of the optimiser."""
_WEIGHTING = "weighting"
"""Prefix of what a weighting of terms has learned, likewise."""


def fit(
    module: nn.Module,
    train: Batch | BatchSource,
    validation: Batch,
    budget: Budget,
    *,
    objective: Objective,
    seed: int,
    on_step: StepCallback = lambda step: None,
    checkpointer: Checkpointer | None = None,
) -> FitResult:
    """Trains the parameters that require a gradient, and leaves the module in its best state by validation loss.

    The order of batches depends on `seed` alone, the same for every module. on_step: called after each step.
    checkpointer: saves after each evaluation; where it has a saved state, training resumes from there, to the same
    result. Raises TrainingError, naming the step, where the loss is not finite; the module then holds its best state.
    """
    with Meter() as meter:
        run = Trainer(
            module, train, validation, budget, objective=objective, seed=seed, checkpointer=checkpointer
        )
        curve = run.train(on_step)
    return FitResult(curve, meter.seconds + run.earlier_s, meter.peak_mb)


class _TrainingModule(nn.Module):
    """The trained module and its objective as one module, so that DDP synchronises its gradients."""

    def __init__(self, module: nn.Module, objective: Objective, *, bf16: bool) -> None:
        super().__init__()
        self.module, self.objective, self.bf16 = module, objective, bf16

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        device = next(self.module.parameters()).device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.bf16):
            return {name: total.float() for name, total in self.objective.totals(self.module, batch).items()}


class Trainer:
    """One training run. `train` runs it whole; a stack of runs calls `draw`, `loss` and `update` at each step."""

    def __init__(
        self,
        module: nn.Module,
        train: Batch | BatchSource,
        validation: Batch,
        budget: Budget,
        *,
        objective: Objective,
        seed: int,
        checkpointer: Checkpointer | None,
    ) -> None:
        sharding.check_launch()
        handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
        self.accelerator = Accelerator(mixed_precision="no", kwargs_handlers=handlers)
        device = self.accelerator.device
        self.batches = (
            train if isinstance(train, BatchSource) else ShuffledBatches(train.to(device), budget.batch, seed)
        )
        self.module, self.budget, self.objective = module, budget, objective
        self.sharded = self.accelerator.num_processes > 1 and sharding.is_asked_for()
        if self.sharded:
            _shard(module, device)
        self.seed, self.checkpointer = seed, checkpointer
        scheme = SCHEMES.get(objective.weighting)
        self.weighting = None if scheme is None else scheme(tuple(objective.term_weights))
        self._check_parts()
        # A frozen encoder is saved as well.
        self.weights = {
            name: p for name, p in module.named_parameters() if p.requires_grad or name.startswith("encoder.")
        }
        self.trained = [p for p in self.weights.values() if p.requires_grad]
        learner = _TrainingModule(module, objective, bf16=budget.precision == "bf16")
        self.learner = learner if self.sharded else self.accelerator.prepare(learner)
        # Not wrapped by accelerate, whose optimiser looks for other packages at every step.
        self.optimiser = torch.optim.AdamW(
            [{"params": group} for group in sharding.groups(self.trained)],
            lr=budget.lr,
            weight_decay=budget.weight_decay,
            fused=True,
            betas=(0.9, 0.999),
        )
        if is_cpu(device):
            keep_freed_memory()
        self.validation = validation.to(device)
        self.averaged = (
            {name: p.detach().clone() for name, p in self.weights.items()} if budget.ema_decay else {}
        )
        self.totals: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.earlier_s = 0.0
        self._began = time.perf_counter()
        self.state = self._initial_state()

    def _check_parts(self) -> None:
        """Raises TrainingError where a batch cannot be cut into a part for each process and accumulation step."""
        processes, accumulation = self.accelerator.num_processes, self.budget.gradient_accumulation_steps
        parts = processes * accumulation
        if self.objective.whole_batch and parts > 1:
            raise TrainingError(
                "A contrastive objective compares all samples of a batch with each other, so the batch cannot be cut "
                "into parts. Train it in one process with gradient_accumulation_steps: 1."
            )
        if self.weighting is not None and parts > 1:
            raise TrainingError(
                f"weighting: {self.objective.weighting} compares the terms over the whole batch, so the batch cannot "
                f"be cut into parts. Train in one process with gradient_accumulation_steps: 1, or with fixed weights."
            )
        if parts > self.batches.batch:
            raise TrainingError(
                f"A batch of {self.batches.batch} samples cannot be cut into {parts} parts ({processes} processes, "
                f"gradient_accumulation_steps {accumulation}). Raise budget.batch."
            )

    def _initial_state(self) -> TrainingState:
        saved = self.checkpointer.load() if self.checkpointer else None
        if saved is None:
            first = self._validate()
            snapshot = self._snapshot()
            return TrainingState(0, [(0, math.nan, first)], first, snapshot, snapshot)
        self._restore(saved.current)
        self._restore_optimiser(saved.optimiser)
        for _ in range(saved.step):
            self.batches.skip()
        self.earlier_s = saved.seconds
        return saved

    def train(self, on_step: StepCallback) -> LearningCurve:
        for step in range(self.state.step + 1, self.last_step + 1):
            if self.out_of_patience:
                break
            drawn = self.draw(step)
            self._accumulate_gradients(drawn, step)
            self.update(drawn, step)
            on_step(step)
        return self.finish()

    @property
    def last_step(self) -> int:
        return self.budget.stop or self.budget.steps

    def finish(self) -> LearningCurve:
        """Puts the best state (or the last one, see `Budget.stop`) into the module."""
        self._restore(self.state.last if self.budget.stop else self.state.weights)
        return curve_of(self.state.rows, self.budget, out_of_patience=self.out_of_patience)

    def draw(self, step: int) -> Batch:
        """The batch of a step. Also seeds the global generator, which dropout draws from."""
        if not self.module.training:  # an evaluation came before; setting all submodules takes milliseconds
            self.learner.train()
        device = self.accelerator.device
        batch: Batch = self.objective.draw(self.batches.next().to(device), _generator(self.seed, step))
        # Dropout of a step is the same wherever training was taken up again.
        seed_generator(device, self.seed * 1_000_003 + step)
        return batch

    def _accumulate_gradients(self, batch: Batch, step: int) -> None:
        """Computes the gradients of a batch, in a part for each process and accumulation step."""
        counts = self.objective.counts(batch)
        if self.weighting is not None:
            totals = self.learner(batch)
            self.loss(totals, counts, step)
            self.weighting.backward(self._terms(totals, counts), self.trained)
            return
        world, here = self.accelerator.num_processes, self.accelerator.process_index
        parts = world * self.budget.gradient_accumulation_steps
        mine = [p for p in range(parts) if p % world == here]
        for i, part in enumerate(mine):
            rows = range(len(batch))[part::parts]
            last = i == len(mine) - 1
            with nullcontext() if last or self.sharded else self.accelerator.no_sync(self.learner):
                loss = self.loss(self.learner(batch.take(rows)), counts, step)
                self.accelerator.backward(loss * world)
        if self.sharded:
            sharding.average_gradients(self.trained)

    def loss(self, totals: Mapping[str, Tensor], counts: Mapping[str, int], step: int) -> Tensor:
        """The loss of a batch, or of a part of one, from its totals, which are added to the learning curve.

        counts: of the whole batch. Raises TrainingError where the loss is not finite.
        """
        loss = torch.stack(list(self._terms(totals, counts).values())).sum()
        self._check(loss, step)
        for name, total in totals.items():
            self.totals[name] = self.totals.get(name, 0.0) + float(total.detach())
        return loss

    def _terms(self, totals: Mapping[str, Tensor], counts: Mapping[str, int]) -> dict[str, Tensor]:
        """The weighted mean of each term."""
        shares = self.objective.term_weights
        return {name: shares[name] * total / max(counts[name], 1) for name, total in totals.items()}

    def update(self, batch: Batch, step: int) -> None:
        """One optimiser step with the gradients of a batch; then the validation loss, where it is due."""
        for name, count in self.objective.counts(batch).items():
            self.counts[name] = self.counts.get(name, 0) + count
        for group in self.optimiser.param_groups:
            group["lr"] = self.budget.lr * self.budget.lr_factor(step - 1)
        self._clip_gradients()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._average(step)
        every = max(1, self.budget.steps // self.budget.evaluations)
        if step % every == 0 or step == self.last_step:
            self._evaluate(step, batch)

    def _clip_gradients(self) -> None:
        """Also where several processes train: each holds the gradients of the whole batch."""
        clip = sharding.clip_gradients if self.sharded else nn.utils.clip_grad_norm_
        clip(self.trained, self.budget.max_grad_norm)

    @torch.no_grad()
    def _average(self, step: int) -> None:
        decay = min(
            self.budget.ema_decay, step / (step + 9)
        )  # the first steps, far from anything, are soon forgotten
        for name, mean in self.averaged.items():
            mean.lerp_(self.weights[name], 1 - decay)

    def _check(self, loss: Tensor, step: int) -> None:
        if torch.isfinite(loss):
            return
        self._restore(self.state.weights)
        raise TrainingError(
            f"The loss is {loss.item()} at step {step} of {self.budget.steps} (seed {self.seed}, learning rate "
            f"{self.budget.lr}). "
            f"The module keeps its best state so far. Lower budget.lr, or look for infinities in the data."
        )

    def _evaluate(self, step: int, drawn: Batch) -> None:
        state = self.state
        summed = self.accelerator.reduce(torch.tensor(list(self.totals.values()), dtype=torch.float64))
        means = {
            name: float(total) / max(self.counts[name], 1)
            for name, total in zip(self.totals, summed, strict=True)
        }
        now = self._snapshot()
        if self.averaged:
            self._restore(self.averaged)
        error = self._validate()
        state.step = step
        state.rows.append((step, self.objective.selection_score(means), error))
        self.totals, self.counts = {}, {}
        state.current = now
        if error < state.best:
            state.best, state.weights = error, self._snapshot()
        state.last = self._snapshot() if self.averaged else now
        self._restore(now)
        if self.checkpointer is not None:
            state.optimiser = self._optimiser_state()
            state.seconds = self.earlier_s + time.perf_counter() - self._began
            if self.accelerator.is_main_process:
                self.checkpointer.save(state, {**means, **self._term_facts(drawn)})
            self.accelerator.wait_for_everyone()

    def _term_facts(self, drawn: Batch) -> dict[str, float]:
        """Of several terms: the cosines of their gradients on shared parameters, on the last batch, and the weights
        that were learned.
        """
        if len(self.objective.term_weights) < 2:
            return {}
        totals = self.objective.totals(self.module, drawn)
        weights = {} if self.weighting is None else self.weighting.weights
        return cosines(shared_gradients(totals, self.trained)) | {
            f"weight {name}": weight for name, weight in weights.items()
        }

    def _validate(self) -> float:
        size = self.budget.validation_batch or self.budget.batch
        return evaluate(self.module, self.validation, self.objective, size, seed=self.seed)

    @property
    def out_of_patience(self) -> bool:
        """Whether the last `budget.patience` evaluations were no better than an earlier one."""
        if self.budget.patience is None:
            return False
        errors = [error for _, _, error in self.state.rows]
        return len(errors) - 1 - errors.index(min(errors)) >= self.budget.patience

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: sharding.gather(p) for name, p in self.weights.items()}

    @torch.no_grad()
    def _restore(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.weights.items():
            parameter.copy_(sharding.place_like(values[name], parameter))

    def _optimiser_state(self) -> dict[str, Tensor]:
        """The optimiser's tensors by name and weight, such as `exp_avg/encoder.embed.values.weight`."""
        state = self.optimiser.state
        return (
            {
                f"{key}/{name}": sharding.gather(torch.as_tensor(tensor))
                for name, p in self.weights.items()
                for key, tensor in state.get(p, {}).items()
            }
            | {f"{_EMA}/{name}": sharding.gather(mean) for name, mean in self.averaged.items()}
            | self._weighting_state()
        )

    def _weighting_state(self) -> dict[str, Tensor]:
        learned = {} if self.weighting is None else self.weighting.state()
        return {f"{_WEIGHTING}/{name}": tensor for name, tensor in learned.items()}

    def _restore_optimiser(self, tensors: Mapping[str, Tensor]) -> None:
        state = self.optimiser.state
        prefix = f"{_WEIGHTING}/"
        if self.weighting is not None:
            self.weighting.restore(
                {path.removeprefix(prefix): t for path, t in tensors.items() if path.startswith(prefix)}
            )
        for path, tensor in tensors.items():
            key, _, name = path.partition("/")
            if key == _WEIGHTING:
                continue
            weight = self.weights[name]
            if key == _EMA:
                self.averaged[name] = sharding.place_like(tensor, weight)
                continue
            state[weight][key] = tensor.clone() if key == "step" else sharding.place_like(tensor, weight)


def _shard(module: nn.Module, device: torch.device) -> None:
    """Spreads the layers of a language model over the processes. Raises TrainingError for another module.

    With an encoder, the first process alone goes on to use the module after training, which takes all of them.
    """
    if not isinstance(module, PromptedLM) or hasattr(module, "encoder") or module.llm.quant != "none":
        raise TrainingError(
            "FSDP spreads the layers of a language model that is trained on instructions, without quantisation, but "
            "this run trains something else. Launch it with a config without FSDP, such as "
            "alignment/accelerate/eight-gpus.yaml."
        )
    sharding.shard(module.to(device).backbone.base, decoder_layers(module.llm.model), device)


@torch.no_grad()  # inference mode would leave gathered layers that no later step can train with
def evaluate(module: nn.Module, data: Batch, objective: Objective, batch: int, *, seed: int = 0) -> float:
    """The objective's value over all of `data`; it does not depend on the batch size.

    Random choices of the objective are drawn once for all of `data`, the same at each evaluation.
    """
    module.eval()
    drawn = objective.draw(data, _generator(seed, _EVALUATION_STEP))
    totals: dict[str, float] = {}
    size = len(drawn) if objective.whole_batch else batch
    for start in range(0, len(drawn), size):
        part = drawn.take(range(start, min(start + size, len(drawn))))
        for name, total in objective.totals(module, part).items():
            totals[name] = totals.get(name, 0.0) + float(total)
    counts = objective.counts(drawn)
    return objective.selection_score({name: total / max(counts[name], 1) for name, total in totals.items()})


def _generator(seed: int, step: int) -> torch.Generator:
    """The generator of one step: it depends on the seed and the step alone, so that a resumed run draws the same."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step + 1) % 2**63)
