"""One data set and task, all predictors: trains what has to be trained and keeps what each one answered."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from st2llm.config.model import FROZEN, LLM_BACKBONES, EncoderSettings
from st2llm.config.predictors import PredictorSettings, SuiteBudget, WindowSettings
from st2llm.config.suite import Suite
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.data.windows.splits import SampleSequence, Splits, evenly_spaced
from st2llm.encode.batch import Batch
from st2llm.encode.field import FieldShape
from st2llm.encode.sequence import SequenceShape
from st2llm.errors import ConfigError
from st2llm.evaluate.controls.faults import Fault, add_anomaly_scores
from st2llm.evaluate.run.cost import Cost, count_flops, count_parameters
from st2llm.evaluate.run.data_summary import first_object
from st2llm.evaluate.run.job import Job
from st2llm.evaluate.run.models import Models, describe
from st2llm.evaluate.run.progress import ProgressReporter
from st2llm.evaluate.run.text import prompt_writing, run_text
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.evaluate.scoring.score_table import build_score_table, score
from st2llm.llm.endpoint.client import PREFIX, RemoteModel
from st2llm.llm.local import LanguageModel, require_local
from st2llm.model import checkpoint
from st2llm.model.arm import Arm, Blueprint, build
from st2llm.model.objectives.objective import Objective
from st2llm.model.objectives.supervised import of_task
from st2llm.predict import Predictor, external
from st2llm.predict import checkpoint as checkpointed
from st2llm.predict.arm import ArmPredictor
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.external import predictions_file
from st2llm.predict.preprocess import Preprocessor
from st2llm.predict.preprocess.fit import fit_preprocessor, make_blueprint
from st2llm.tasks import Task
from st2llm.train.loop.budget import Budget, FitResult, LearningCurve
from st2llm.train.loop.meter import Meter
from st2llm.train.loop.trainer import fit
from st2llm.train.loop.warmup import warm_up_encoder
from st2llm.types import Container, Prediction, Sample, SensorGraph, seed_from


def subsample_places(sample: Sample, count: int | None) -> Sample:
    """The sample asked for `count` of its places alone, evenly spaced from one that its id decides.

    All where count is None or not smaller; all that is visible stays visible. Every predictor is asked the same.
    """
    asked = sample.wanted_nodes
    if count is None or count >= len(asked):
        return sample
    start = seed_from(sample.id) % len(asked)
    kept = [asked[(start + i * len(asked) // count) % len(asked)] for i in range(count)]
    only = np.zeros_like(sample.wanted)
    only[:, kept] = True
    wanted = sample.wanted & only
    truth = None if sample.truth is None else np.where(wanted, sample.truth, np.nan)
    return replace(sample, wanted=wanted, truth=truth)


class CachedSamples(Sequence[Sample]):
    """Samples of a part, each made when it is asked for and then kept: some rules learn nothing and ask for none."""

    def __init__(self, part: SampleSequence) -> None:
        self.part = part
        self._made: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.part)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> "Sample | list[Sample]":
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        at = range(len(self))[index]
        if at not in self._made:
            self._made[at] = self.part[at]
        return self._made[at]


class Study:
    """Runs jobs on one data set and task. Everything shared by the arms is fitted once, on the training windows."""

    def __init__(
        self,
        suite: Suite,
        data: Container,
        task: Task,
        splits: Splits,
        reporter: ProgressReporter,
        given: Sequence[Predictor] = (),
        faults: Sequence[Fault] = (),
    ) -> None:
        self.faults = faults
        self.suite, self.data, self.task, self.reporter = suite, data, task, reporter
        self.given: dict[str, Predictor] = {predictor.name: predictor for predictor in given}
        self.given |= {
            p.name: predictions_file.read_predictions(Path(p.file), name=p.name)
            for p in suite.predictors
            if p.file
        }
        self.given |= {p.name: external.load_model(p.model, name=p.name) for p in suite.predictors if p.model}
        self.given |= {
            p.name: checkpointed.load_predictor(Path(p.checkpoint), name=p.name)
            for p in suite.predictors
            if p.checkpoint and p.external
        }
        self.train = CachedSamples(splits.train)
        self.validation = evenly_spaced(splits.validation, suite.validation.count)
        count = suite.windows.count if suite.windows.select == "even" else None
        self.test = evenly_spaced(splits.test, count)
        if suite.limit is not None:
            self.test = evenly_spaced(self.test, suite.limit)
        self._samples: dict[tuple[str, int], list[Sample]] = {}
        self.models = Models(suite)

    def key(self, predictor: str, seed: int) -> str:
        """Names a job's files; tasks after the suite's first carry their name."""
        suffix = "" if self.task.name == self.suite.tasks[0].name else f".{self.task.name}"
        return f"{predictor}-{seed}{suffix}"

    def jobs(self) -> list[Job]:
        """Every predictor once for each seed; rules and text run once, since a text predictor has draws instead."""
        found = []
        for predictor in self.suite.predictors:
            seeds = self.suite.seeds if predictor.trained else self.suite.seeds[:1]
            found += [Job(predictor, seed, self.task.name, self.key(predictor.name, seed)) for seed in seeds]
        return found

    def run(self, job: Job, store: RunStore) -> dict[str, Any]:
        """Finishes one job, or returns the facts of the finished one."""
        if (facts := store.finished(job.key)) is not None:
            return facts
        began = time.perf_counter()
        family = job.predictor.family
        if family == "baseline" or job.predictor.external:
            outcome = self._answered(job)
        elif family == "text":
            outcome = self._text(job)
        else:
            outcome = self._trained(job, store)
        facts = {**self._identity(job), **outcome.facts, "wall_s": time.perf_counter() - began}
        store.finish(job.key, facts, outcome.predictions, outcome.answers)
        return facts

    def _identity(self, job: Job) -> dict[str, Any]:
        p = job.predictor
        uses_llm = p.family == "text" or p.backbone in LLM_BACKBONES
        return {
            "key": job.key,
            "predictor": p.name,
            "family": p.family,
            "backbone": p.backbone,
            "pretrained": p.pretrained,
            "lora": p.set.train_adapters or p.backbone == "llm-lora",
            "llm": describe(self.models.named(p)) if uses_llm else None,
            "task": job.task,
            "seed": job.seed,
        }

    def _answered(self, job: Job) -> "Outcome":
        """A rule, or somebody else's model: it is fitted at once, or was before, and answers."""
        with Meter() as fitting:
            predictor = self._ready(job.predictor)
        test = self._asked(self._chosen(job.predictor), self.suite.windows)
        self.reporter.start(job.key, len(test))
        with Meter() as meter:
            predictions = predictor.predict(_blind(test))
        self.reporter.update(len(test))
        cost = Cost(
            train_s=fitting.seconds, predict_s_per_sample=meter.seconds / len(test), peak_mb=meter.peak_mb
        )
        return Outcome(
            facts={
                "validation": self._validate(predictor),
                "file_sha256": getattr(predictor, "sha256", None),
                "converged": None,
                "cost": cost.to_json(),
                "curves": [],
            },
            predictions=self._table(predictor, test, predictions),
        )

    def _table(
        self, predictor: Predictor, test: Sequence[Sample], predictions: Sequence[Prediction]
    ) -> pd.DataFrame:
        """Predictions beside the truth; where faults are looked for, how suspicious each reading is."""
        table = build_score_table(test, predictions)
        if self.suite.faults is None or not isinstance(self.data, SensorGraph):
            return table
        usual = list(evenly_spaced(self.train.part, self.suite.faults.training_windows))
        training = build_score_table(usual, predictor.predict(_blind(usual)))
        return add_anomaly_scores(
            table, training, self.data, self.faults, self.suite.faults.threshold_quantile
        )

    def _ready(self, settings: PredictorSettings) -> Predictor:
        if not settings.external:
            return fit_baseline(settings.name, self.train)
        if settings.name not in self.given:
            raise ConfigError(
                f"{settings.name!r} was handed over by a program, which is not here: run that program again."
            )
        return self.given[settings.name]

    def _text(self, job: Job) -> "Outcome":
        p = job.predictor
        test = self._asked(self._chosen(p), self.suite.windows)
        if p.checkpoint:
            model: LanguageModel | RemoteModel = checkpoint.tuned(
                Path(p.checkpoint), dtype=self.models.settings.dtype
            )
        else:
            model = self.models.of(p)
        writing = prompt_writing(p, model, self.train, seed=job.seed)
        run = run_text(job, model, _blind(test), writing=writing, reporter=self.reporter)
        facts = {
            "validation": None,
            "converged": None,
            "cost": run.cost.to_json(),
            "curves": [],
            **run.facts(),
        }
        return Outcome(facts, build_score_table(test, run.predictions), run.rows())

    def _trained(self, job: Job, store: RunStore) -> "Outcome":
        preprocessor = self.preprocessor
        runs, chosen, arm = self._fit_all(job, store)
        soft = job.predictor.family == "soft"
        batch = self._budget.batch
        predictor = ArmPredictor(
            job.predictor.name, arm, preprocessor, with_instructions=soft, batch_size=batch
        )
        validation = self._validate(predictor)
        if self._budget.refit:
            self._refit(job, arm, chosen.curve, store)
        test = self._asked(self._chosen(job.predictor), self.suite.windows)
        with Meter() as meter:
            predictions = predictor.predict(_blind(test))
        total, trained = count_parameters(arm)
        words = [preprocessor.instruction(sample) for sample in _blind(test)] if soft else []
        cost = Cost(
            params_total=total,
            params_trained=trained,
            flops=count_flops(arm, preprocessor.collate([test[0].without_truth()], with_instructions=soft)),
            train_s=chosen.seconds,
            predict_s_per_sample=meter.seconds / len(test),
            tokens_in=self.models.count(words) + len(words) * preprocessor.slots if soft else None,
            tokens_out=0 if soft else None,
            peak_mb=max(chosen.peak_mb, meter.peak_mb),
        )
        facts = {
            "validation": validation,
            "converged": chosen.curve.converged,
            "lr": chosen.curve.lr,
            "encoder_sha256": arm.shared_sha256,
            "cost": cost.to_json(),
            "curves": [
                {**asdict(run.curve), "chosen": run is chosen, "converged": run.curve.converged}
                for run in runs
            ],
        }
        return Outcome(facts=facts, predictions=self._table(predictor, test, predictions))

    def _fit_all(self, job: Job, store: RunStore) -> tuple[list[FitResult], FitResult, Arm]:
        """One training run for each learning rate; the run and arm with the lowest validation error are kept."""
        budget = self._budget
        train, validation = self._worded if job.predictor.family == "soft" else self._stacked
        objective = self._objective
        warm = self._warm_encoder(job.seed, store)
        runs: list[FitResult] = []
        best: tuple[FitResult, Arm] | None = None
        for rate in self._rates(job, store):
            self.reporter.start(f"{job.key} lr {rate:g}", budget.steps)
            arm = self._build(job, warm)
            done = fit(
                arm,
                train,
                validation,
                self._plan(rate),
                objective=objective,
                seed=job.seed,
                on_step=self.reporter.update,
            )
            runs.append(done)
            if best is None or done.curve.best < best[0].curve.best:
                best = (done, arm)
        if best is None:
            raise ConfigError(f"{self.suite.id}: budget.lr is empty. Give at least one learning rate.")
        return runs, *best

    def _refit(self, job: Job, arm: Arm, curve: LearningCurve, store: RunStore) -> None:
        """Trains the arm anew, as it was best on validation, with the validation windows among the training ones."""
        samples = [*self.train, *CachedSamples(self.validation)]
        data = self.preprocessor.collate(samples, with_instructions=job.predictor.family == "soft")
        fresh = self._build(job, self._warm_encoder(job.seed, store))
        steps = max(1, curve.best_step)
        self.reporter.start(f"{job.key} with validation", steps)
        plan = replace(self._plan(curve.lr), stop=steps)
        last = data.take(range(len(self.train), len(data)))
        fit(fresh, data, last, plan, objective=self._objective, seed=job.seed, on_step=self.reporter.update)
        arm.load_state_dict(fresh.state_dict())

    def _plan(self, rate: float) -> Budget:
        given = self._budget.model_dump(include={"steps", "batch", "weight_decay", "ema_decay"})
        return Budget(lr=rate, **given)

    @property
    def _budget(self) -> SuiteBudget:
        if self.suite.budget is None:
            raise ConfigError(f"{self.suite.id} trains arms and so needs a `budget`.")
        return self.suite.budget

    @cached_property
    def _objective(self) -> Objective:
        scale = torch.from_numpy(self.preprocessor.scaler.std).float()
        return of_task(self._shape, scale, squared=self._budget.loss == "squared")

    @property
    def _shape(self) -> FieldShape | SequenceShape:
        return self.preprocessor.task_shape(self.train[0], self.task)

    def _rates(self, job: Job, store: RunStore) -> list[float]:
        """Learning rates to try: the whole list for the first seed, then the one chosen there on validation."""
        first = store.finished(self.key(job.predictor.name, self.suite.seeds[0]))
        return [float(first["lr"])] if first else list(self._budget.lr)

    @cached_property
    def _stacked(self) -> tuple[Batch, Batch]:
        """Training and validation windows without words, as primitive arms take them."""
        chosen = CachedSamples(self.validation)
        return self.preprocessor.collate(self.train, with_instructions=False), self.preprocessor.collate(
            chosen, with_instructions=False
        )

    @cached_property
    def _worded(self) -> tuple[Batch, Batch]:
        """The same with the instruction of each window, for arms that read."""
        train, validation = self._stacked
        return self.preprocessor.with_instructions(train, self.train), self.preprocessor.with_instructions(
            validation, CachedSamples(self.validation)
        )

    @cached_property
    def preprocessor(self) -> Preprocessor:
        return fit_preprocessor(
            self.train,
            self.task,
            skip=self.suite.skip,
            instruction=self.suite.instruction,
            encoder=self.suite.encoder,
            up=self.suite.up,
            with_instructions=any(p.family == "soft" for p in self.suite.predictors),
        )

    def _warm_encoder(self, seed: int, store: RunStore) -> dict[str, Tensor] | None:
        """The encoder state that all arms of this seed start from; None where the suite trains none beforehand."""
        settings = self.suite.encoder.warmup
        if settings is None:
            return None
        path = store.root / "encoder" / f"{self.key('warm', seed)}.safetensors"
        if not path.exists():
            self.reporter.start(f"encoder, seed {seed}", settings.steps)
        home = self if settings.data is None else self._elsewhere(settings.data)
        return warm_up_encoder(
            path,
            home._blueprint(),
            *home._stacked,
            settings,
            objective=home._objective,
            seed=seed,
            on_step=self.reporter.update,
        )

    def _elsewhere(self, name: str) -> "Study":
        """The same question of other data, to learn from. Raises ConfigError for data of another kind."""
        suite, data = self.suite, load_data(name)
        if (kind := first_object(data).kind) != suite.kind:
            raise ConfigError(
                f"{suite.id} is a suite of kind {suite.kind}, but encoder.warmup.data names {name} of kind {kind}."
            )
        parts = split(data, self.task, stride=suite.stride_of(self.task), context=suite.split.context)
        there = Study(suite.model_copy(update={"predictors": []}), data, self.task, parts, self.reporter)
        there.models = self.models
        return there

    def _build(self, job: Job, warm: dict[str, Tensor] | None) -> Arm:
        p, lora = job.predictor, self.suite.adapt
        adapted = p.backbone in ("llm-lora", "matched") or p.set.train_adapters
        how = lora if adapted else FROZEN
        model = None
        if p.backbone in (*LLM_BACKBONES, "matched"):
            changed = adapted or p.backbone == "llm-random"
            model = self.models.fresh(p, job.seed) if changed else require_local(self.models.of(p))
        try:
            return build(str(p.backbone), self._blueprint(), seed=job.seed, warm=warm, llm=model, how=how)
        except RuntimeError as error:
            warmup = self.suite.encoder.warmup
            told = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
            if warmup is None or warmup.data is None or not told:
                raise
            raise ConfigError(
                f"What was learned on {warmup.data} does not fit {self.suite.data}: {told[0]} Leave out what belongs "
                f"to places (`encoder.drop_embeddings: [node]`), and take data of as many channels."
            ) from error

    def _blueprint(self) -> Blueprint:
        e = self.suite.encoder
        settings, up = EncoderSettings(**e.model_dump(exclude={"warmup"})), self.suite.up
        model = None
        if self.suite.llm is not None and not self.suite.llm.name.startswith(PREFIX):
            model = require_local(self.models.of())
        return make_blueprint(self._shape, self.train[0], settings, llm=model, up=up)

    def _chosen(self, predictor: PredictorSettings) -> SampleSequence:
        return evenly_spaced(self.test, predictor.set.windows)

    def _asked(self, windows: SampleSequence, settings: WindowSettings) -> list[Sample]:
        """The samples of these windows, each asked for as many places as the suite says; made once."""
        key = (windows.sha256, settings.places or 0)
        if key not in self._samples:
            self._samples[key] = [subsample_places(sample, settings.places) for sample in windows]
        return self._samples[key]

    def _validate(self, predictor: Predictor) -> float | None:
        """The primary metric on the validation windows; None where there are none, no truth in them, or a file of
        predictions has nothing of them."""
        if not len(self.validation):
            return None
        samples = self._asked(self.validation, self.suite.validation)
        if isinstance(predictor, predictions_file.PredictionsFilePredictor) and not predictor.knows(samples):
            return None
        table = build_score_table(samples, predictor.predict(_blind(samples)))
        metric = self.suite.selection_metric
        value = score(table, (metric,)).get(metric, np.nan)
        return value if np.isfinite(value) else None


@dataclass(frozen=True)
class Outcome:
    """What a finished job leaves behind."""

    facts: dict[str, Any]
    predictions: pd.DataFrame
    answers: list[dict[str, Any]] = field(default_factory=list)


def _blind(windows: Sequence[Sample]) -> list[Sample]:
    return [sample.without_truth() for sample in windows]
