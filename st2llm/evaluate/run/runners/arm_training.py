"""Training runs of arms: one for each learning rate; those that share a frozen language model run as one stack."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from st2llm.config.model import FROZEN, LLM_BACKBONES
from st2llm.config.predictors import PredictorSettings, TrainingSettings
from st2llm.data import load_data
from st2llm.data.windows.fitted_on import NOT_FITTED, FittedOn, refuse_overlap
from st2llm.encode.batch import Batch, TensorBatch
from st2llm.errors import ConfigError
from st2llm.evaluate.run.data_summary import data_sha256
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Job, JobGroup
from st2llm.evaluate.run.runners.training_inputs import (
    SeededTraining,
    TrainingInputs,
    fit_budget,
    inputs_of_other_data,
    learning_rates,
)
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.llm.local import LanguageModel, require_local
from st2llm.model import checkpoint
from st2llm.model.arm import Arm, ArmSpec, build_arm, fit_prompt_norm
from st2llm.model.arm_stack import share_prompts
from st2llm.model.backbone import LLMBackbone
from st2llm.train.loop.budget import FitResult
from st2llm.train.loop.stack import StackMember, fit_stack
from st2llm.train.loop.trainer import fit
from st2llm.train.loop.warmup import warm_up_encoder
from st2llm.types import first_object

LARGEST_STACK = 8
"""Training runs that share one pass, at most; their activations are in memory together."""


@dataclass(frozen=True)
class TrainedArm:
    """The training runs of one job, the one with the lowest validation loss, and its arm in its best state."""

    fits: tuple[FitResult, ...]
    chosen: FitResult
    arm: Arm


class ArmTraining:
    """Trains the arms of a task on the same batches, from the same initial encoder weights.

    Raises ConfigError where the data of the encoder's warm-up are of another kind, or hold values of the test part.
    """

    def __init__(self, inputs: Inputs, training: SeededTraining) -> None:
        self.inputs, self.training = inputs, training
        self._trained: dict[str, TrainedArm] = {}
        if (
            any(predictor.trained for predictor in inputs.suite.predictors)
            and (fitted := self.warmed_up_on()).known
        ):
            setting = "encoder.warmup.data" if inputs.suite.init_from is None else "init_from"
            who = f"The encoder of {inputs.suite.id} ({setting})"
            refuse_overlap(fitted, inputs.test_coverage, who=who)

    def warmed_up_on(self) -> FittedOn:
        """The data that the encoder was trained on before: those of its warm-up and of `init_from`."""
        other, start = self._other_training, self.inputs.suite.init_from
        warmed_up = NOT_FITTED if other is None else other.inputs.fitted_on["both"]
        if start is None:
            return warmed_up
        return warmed_up + checkpoint.checkpoint_fitted_on(checkpoint.read_checkpoint(Path(start)))

    @property
    def warmup_data_sha256(self) -> str | None:
        """The hash of the other data that the encoder is warmed up on; None where it is the suite's own."""
        return None if self._other_training is None else data_sha256(self._other_training.inputs.data)

    @property
    def init_from_sha256(self) -> str | None:
        """The hash of the checkpoint that arms start from; None where they start from nothing."""
        start = self.inputs.suite.init_from
        return None if start is None else checkpoint.sha256_of(checkpoint.read_checkpoint(Path(start)).folder)

    def train(self, job: Job, store: RunStore) -> TrainedArm:
        """The trained arm of a job.

        Seeds of one frozen model are trained together once a single learning rate is left for them, those that are not
        finished in the run folder; the others are kept here until their own job runs. Raises ConfigError for a warm
        encoder that does not fit the data.
        """
        if job.key not in self._trained:
            rates = learning_rates(self.inputs, job, store)
            if shares_frozen_model(job.predictor):
                self._train_stacked(self._stack_of(job, rates, store), rates, store)
            else:
                self._trained[job.key] = self._train_alone(job, rates, store)
        return self._trained.pop(job.key)

    def untrained(self, job: Job, batch: Batch) -> Arm:
        """The arm of a job before any training, also of its encoder. batch: some windows, for the norm of prompts."""
        blueprint = self.training.of(job.seed).blueprint()
        arm = self._build(job, None, self._language_model(job), blueprint)
        _fit_prompt_norm(arm, job, batch)
        return arm

    def refit(self, job: Job, trained: TrainedArm, store: RunStore, training: TrainingInputs) -> Arm:
        """The arm, trained again on all windows of `training` (training, then validation) with its preprocessor.

        It is trained for the steps that were best before.
        """
        inputs, reporter, curve = self.inputs, self.inputs.reporter, trained.chosen.curve
        preprocessor = training.preprocessor
        data = preprocessor.for_training(
            preprocessor.collate(training.train, with_instructions=job.predictor.family == "soft")
        )
        llm = self._language_model(job) if is_adapted(job.predictor) else _model_of(trained.arm)
        fresh = self._build(job, self.initial_encoder(job.seed, store), llm, training.blueprint())
        _fit_prompt_norm(fresh, job, data)
        steps = max(1, curve.best_step)
        reporter.start(f"{job.key} with validation", steps)
        budget = replace(fit_budget(inputs, curve.lr), stop=steps, patience=None)
        first = preprocessor.rows(len(inputs.training_windows(job.seed)), len(inputs.train[0].place))
        last = data.take(range(first, len(data)))
        fit(fresh, data, last, budget, objective=training.objective, seed=job.seed, on_step=reporter.update)
        return fresh

    def groups(self, predictor: PredictorSettings) -> list[JobGroup]:
        """The jobs of a predictor in the groups in which `train` trains them, in the order of seeds.

        With several learning rates, other seeds wait for the rate that the first seed chooses.
        """
        first, *others = self.inputs.jobs(predictor)
        several = len(self.inputs.budget.lr) > 1
        if not self._stacks_seeds(predictor):
            return [JobGroup((first,)), *(JobGroup((job,), first if several else None) for job in others)]
        if not several:
            return [JobGroup((first, *others))]
        return [JobGroup((first,)), *([JobGroup(tuple(others), first)] if others else [])]

    def _stack_of(self, job: Job, rates: Sequence[float], store: RunStore) -> list[Job]:
        """The jobs that are trained together."""
        if len(rates) > 1 or not self._stacks_seeds(job.predictor):
            return [job]
        return [each for each in self.inputs.jobs(job.predictor) if store.finished(each.key) is None]

    def _stacks_seeds(self, predictor: PredictorSettings) -> bool:
        """Whether seeds are trained together: not those that draw their own weights, documents or windows."""
        own = predictor.backbone == "llm-random" or predictor.set.documents == "shuffled"
        return shares_frozen_model(predictor) and not own and self.training.shares_windows

    def _train_stacked(self, jobs: Sequence[Job], rates: Sequence[float], store: RunStore) -> None:
        members: list[StackMember] = []
        for job in jobs:
            initial, llm = self.initial_encoder(job.seed, store), self._language_model(job)
            for rate in rates:
                arm = self._build_for_training(job, initial, llm, like=members[0].arm if members else None)
                members.append(StackMember(arm, job.seed, rate))
        fits: list[FitResult] = []
        for start in range(0, len(members), LARGEST_STACK):
            fits += self._fit(_label(jobs, rates), members[start : start + LARGEST_STACK])
        for i, job in enumerate(jobs):
            own = range(i * len(rates), (i + 1) * len(rates))
            best = min(own, key=lambda k: fits[k].curve.best)
            self._trained[job.key] = TrainedArm(tuple(fits[k] for k in own), fits[best], members[best].arm)

    def _train_alone(self, job: Job, rates: Sequence[float], store: RunStore) -> TrainedArm:
        """One learning rate after the other; only the best arm is kept, since each may hold a model of its own."""
        initial, fits = self.initial_encoder(job.seed, store), []
        best: tuple[FitResult, Arm] | None = None
        for rate in rates:
            arm = self._build_for_training(job, initial, self._language_model(job))
            fits += self._fit(
                _label([job], [rate]), [StackMember(arm, job.seed, rate)], soft=job.predictor.family == "soft"
            )
            if best is None or fits[-1].curve.best < best[0].curve.best:
                best = (fits[-1], arm)
        if best is None:
            raise ConfigError(f"{self.inputs.suite.id}: budget.lr is empty. Give at least one learning rate.")
        return TrainedArm(tuple(fits), *best)

    def _fit(self, label: str, members: Sequence[StackMember], *, soft: bool = True) -> list[FitResult]:
        training = self.training.of(members[0].seed)
        train, validation = training.batches_with_instructions if soft else training.batches
        self.inputs.reporter.start(label, self.inputs.budget.steps)
        return fit_stack(
            members,
            train,
            validation,
            fit_budget(self.inputs, members[0].lr),
            objective=training.objective,
            on_step=self.inputs.reporter.update,
        )

    def encoder_path(self, seed: int, store: RunStore) -> Path:
        """The file of the warmed-up encoder of a seed."""
        return store.root / "encoder" / f"{self.inputs.key('warm', seed)}.safetensors"

    def initial_encoder(self, seed: int, store: RunStore) -> dict[str, Tensor] | None:
        """The warmed-up encoder state that all arms of a seed start from; None where the suite warms none up."""
        settings = self.inputs.suite.encoder.warmup
        if settings is None:
            return None
        path = self.encoder_path(seed, store)
        training = self._other_training or self.training.of(seed)
        with store.lock(f"{path.parent.name}-{path.stem}"):  # processes that share the folder warm it up once
            if not path.exists():
                self.inputs.reporter.start(f"encoder, seed {seed}", settings.steps)
            return warm_up_encoder(
                path,
                training.blueprint(),
                *training.batches,
                settings,
                objective=training.objective,
                seed=seed,
                on_step=self.inputs.reporter.update,
            )

    @cached_property
    def _other_training(self) -> TrainingInputs | None:
        """The same task on the data of the warm-up; None where it has none of its own.

        Raises ConfigError for data of another kind.
        """
        inputs, suite = self.inputs, self.inputs.suite
        if suite.encoder.warmup is None or suite.encoder.warmup.data is None:
            return None
        name = suite.encoder.warmup.data
        data = load_data(name)
        if (kind := first_object(data).kind) != suite.kind:
            raise ConfigError(
                f"{suite.id} is a suite of kind {suite.kind}, but encoder.warmup.data names {name} of kind {kind}."
            )
        other = inputs_of_other_data(inputs, data, {"train": TrainingSettings()})
        return TrainingInputs(other, suite.seeds[0])

    def _language_model(self, job: Job) -> LanguageModel | None:
        """The model of an arm: of its own where it is adapted or random, else the shared one; None for other arms."""
        predictor, models = job.predictor, self.inputs.models
        if predictor.backbone not in (*LLM_BACKBONES, "matched"):
            return None
        if is_adapted(predictor) or predictor.backbone == "llm-random":
            return models.fresh(predictor, job.seed)
        return require_local(models.of(predictor))

    def _build_for_training(
        self,
        job: Job,
        initial: dict[str, Tensor] | None,
        llm: LanguageModel | None,
        *,
        like: Arm | None = None,
    ) -> Arm:
        """The untrained arm of a job. like: one of the same frozen model, whose read prompts it uses."""
        training = self.training.of(job.seed)
        arm = self._build(job, initial, llm, training.blueprint())
        if like is not None:
            share_prompts([like, arm])
        soft = job.predictor.family == "soft"
        _fit_prompt_norm(arm, job, training.batches_with_instructions[0] if soft else None)
        return arm

    def _build(
        self, job: Job, initial: dict[str, Tensor] | None, llm: LanguageModel | None, blueprint: ArmSpec
    ) -> Arm:
        suite = self.inputs.suite
        try:
            arm = build_arm(
                str(job.predictor.backbone),
                blueprint,
                seed=job.seed,
                init_weights=initial,
                llm=llm,
                adaptation=suite.adapt if is_adapted(job.predictor) else FROZEN,
            )
            if suite.init_from is not None:
                checkpoint.load_encoder(arm, Path(suite.init_from), self.inputs.train[0], heads=True)
            return arm
        except RuntimeError as error:
            warmup = suite.encoder.warmup
            mismatches = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
            if warmup is None or warmup.data is None or not mismatches:
                raise
            raise ConfigError(
                f"The encoder warmed up on {warmup.data} does not fit {suite.data}: {mismatches[0]} Leave out what "
                f"belongs to places (`encoder.drop_embeddings: [node]`), and take data of as many channels."
            ) from error


def describe_training(inputs: Inputs, trained: TrainedArm, *, windows: int) -> dict[str, Any]:
    """What an arm was trained with, the warm-up of the encoder included. windows: those that it was trained on.

    samples_seen: windows that the encoder and the arm were trained on, each time counted. epochs: the same as a
    multiple of the training windows, without a warm-up on other data. refit: whether the arm was then trained once
    more, its scaler and base rule fitted again, on training and validation windows.
    """
    budget, warmup = inputs.budget, inputs.suite.encoder.warmup
    steps = trained.chosen.curve.step[-1]
    warm = warmup.steps * warmup.batch if warmup else 0
    own = steps * budget.batch
    here = own + (0 if warmup is None or warmup.data else warm)
    return {
        "warmup_steps": warmup.steps if warmup else 0,
        "steps": steps,
        "batch": budget.batch,
        "lr_candidates": list(budget.lr),
        "samples_seen": warm + own,
        "epochs": here / windows,
        "refit": budget.refit,
    }


def is_adapted(predictor: PredictorSettings) -> bool:
    """Whether the arm trains part of its language model, or takes its size from one that would."""
    return predictor.backbone in ("llm-lora", "matched") or predictor.set.train_adapters


def shares_frozen_model(predictor: PredictorSettings) -> bool:
    """Whether several training runs of the arm can read through one frozen language model."""
    return predictor.backbone in LLM_BACKBONES and not is_adapted(predictor)


def _fit_prompt_norm(arm: Arm, job: Job, batch: Batch | None) -> None:
    if job.predictor.family == "soft":
        fit_prompt_norm(arm, batch.prompts if isinstance(batch, TensorBatch) else ())


def _label(jobs: Sequence[Job], rates: Sequence[float]) -> str:
    """`llm-frozen-0 together with seed 1 and seed 2, lr 0.001`."""
    others = " and ".join(f"seed {job.seed}" for job in jobs[1:])
    together = f" together with {others}" if others else ""
    return f"{jobs[0].key}{together}, lr {' and '.join(f'{rate:g}' for rate in rates)}"


def _model_of(arm: Arm) -> LanguageModel | None:
    return arm.backbone.llm if isinstance(arm.backbone, LLMBackbone) else None
