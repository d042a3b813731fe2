"""Trained arms, soft and primitive: fitted at each learning rate, the best one on validation predicts."""

from dataclasses import asdict, replace

from torch import Tensor

from st2llm.config.model import FROZEN, LLM_BACKBONES
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.errors import ConfigError
from st2llm.evaluate.run.cost import Cost, count_flops, count_parameters
from st2llm.evaluate.run.data_summary import first_object
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.job import Job, Outcome
from st2llm.evaluate.run.runners.predictions import prediction_table, validation_score, validation_table
from st2llm.evaluate.run.runners.training_inputs import TrainingInputs
from st2llm.evaluate.run.samples import without_truth
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.llm.local import require_local
from st2llm.model.arm import Arm, build_arm
from st2llm.predict.arm import ArmPredictor
from st2llm.train.loop.budget import Budget, FitResult, LearningCurve
from st2llm.train.loop.meter import Meter
from st2llm.train.loop.trainer import fit
from st2llm.train.loop.warmup import warm_up_encoder
from st2llm.types import Sample, TrainingWindows


class TrainedRunner:
    """Trains the arms of a task on the same batches, from the same initial encoder weights."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.training = TrainingInputs(inputs)

    def run(self, job: Job, store: RunStore) -> Outcome:
        inputs, preprocessor, budget = self.inputs, self.training.preprocessor, self.inputs.budget
        fits, chosen, arm = self._fit_all(job, store)
        soft = job.predictor.family == "soft"
        predictor = ArmPredictor(
            job.predictor.name, arm, preprocessor, with_instructions=soft, batch_size=budget.batch
        )
        validation = validation_table(inputs, predictor)
        if (samples := inputs.refit_windows) is not None:
            self._refit(job, arm, chosen.curve, store, samples)
        test = inputs.test_samples(job.predictor)
        with Meter() as meter:
            predictions = predictor.predict(without_truth(test))
        result = {
            "validation": validation_score(inputs, validation),
            "converged": chosen.curve.converged,
            "training_state": chosen.curve.outcome,
            "lr": chosen.curve.lr,
            "encoder_sha256": arm.shared_sha256,
            "cost": self._cost(arm, test, chosen, meter, soft=soft).to_json(),
            "curves": [
                {
                    **asdict(done.curve),
                    "chosen": done is chosen,
                    "converged": done.curve.converged,
                    "training_state": done.curve.outcome,
                }
                for done in fits
            ],
        }
        table = prediction_table(inputs, predictor, test, predictions)
        return Outcome(result, table, validation=validation)

    def _cost(self, arm: Arm, test: list[Sample], chosen: FitResult, meter: Meter, *, soft: bool) -> Cost:
        preprocessor = self.training.preprocessor
        total, trained = count_parameters(arm)
        texts = [preprocessor.instruction(sample) for sample in without_truth(test)] if soft else []
        return Cost(
            params_total=total,
            params_trained=trained,
            flops=count_flops(arm, preprocessor.collate([test[0].without_truth()], with_instructions=soft)),
            train_s=chosen.seconds,
            predict_s_per_sample=meter.seconds / len(test),
            tokens_in=self.inputs.models.count(texts) + len(texts) * preprocessor.slots if soft else None,
            tokens_out=0 if soft else None,
            peak_mb=max(chosen.peak_mb, meter.peak_mb),
        )

    def _fit_all(self, job: Job, store: RunStore) -> tuple[list[FitResult], FitResult, Arm]:
        """One training run for each learning rate; also the run with the lowest validation loss, and its arm."""
        soft, reporter = job.predictor.family == "soft", self.inputs.reporter
        train, validation = self.training.batches_with_instructions if soft else self.training.batches
        initial = self._initial_encoder(job.seed, store)
        fits: list[FitResult] = []
        best: tuple[FitResult, Arm] | None = None
        for rate in self._learning_rates(job, store):
            reporter.start(f"{job.key} lr {rate:g}", self.inputs.budget.steps)
            arm = self._build(job, initial)
            done = fit(
                arm,
                train,
                validation,
                self._budget(rate),
                objective=self.training.objective,
                seed=job.seed,
                on_step=reporter.update,
            )
            fits.append(done)
            if best is None or done.curve.best < best[0].curve.best:
                best = (done, arm)
        if best is None:
            raise ConfigError(f"{self.inputs.suite.id}: budget.lr is empty. Give at least one learning rate.")
        return fits, *best

    def _refit(
        self, job: Job, arm: Arm, curve: LearningCurve, store: RunStore, samples: TrainingWindows
    ) -> None:
        """Trains the arm again on all of `samples` (training, then validation), for the steps that were best before."""
        inputs, reporter = self.inputs, self.inputs.reporter
        data = self.training.preprocessor.collate(samples, with_instructions=job.predictor.family == "soft")
        fresh = self._build(job, self._initial_encoder(job.seed, store))
        steps = max(1, curve.best_step)
        reporter.start(f"{job.key} with validation", steps)
        budget = replace(self._budget(curve.lr), stop=steps)
        last = data.take(range(len(inputs.train), len(data)))
        objective = self.training.objective
        fit(fresh, data, last, budget, objective=objective, seed=job.seed, on_step=reporter.update)
        arm.load_state_dict(fresh.state_dict())

    def _budget(self, rate: float) -> Budget:
        settings = self.inputs.budget.model_dump(include={"steps", "batch", "weight_decay", "ema_decay"})
        return Budget(lr=rate, **settings)

    def _learning_rates(self, job: Job, store: RunStore) -> list[float]:
        """The whole list for the first seed, then the rate that was chosen there on validation."""
        first = store.finished(self.inputs.key(job.predictor.name, self.inputs.suite.seeds[0]))
        return [float(first["lr"])] if first else list(self.inputs.budget.lr)

    def _initial_encoder(self, seed: int, store: RunStore) -> dict[str, Tensor] | None:
        """The warmed-up encoder state that all arms of a seed start from; None where the suite warms none up."""
        settings = self.inputs.suite.encoder.warmup
        if settings is None:
            return None
        path = store.root / "encoder" / f"{self.inputs.key('warm', seed)}.safetensors"
        if not path.exists():
            self.inputs.reporter.start(f"encoder, seed {seed}", settings.steps)
        training = self.training if settings.data is None else self._training_on(settings.data)
        return warm_up_encoder(
            path,
            training.blueprint(),
            *training.batches,
            settings,
            objective=training.objective,
            seed=seed,
            on_step=self.inputs.reporter.update,
        )

    def _training_on(self, name: str) -> TrainingInputs:
        """The same task on other data. Raises ConfigError for data of another kind."""
        inputs, suite, data = self.inputs, self.inputs.suite, load_data(name)
        if (kind := first_object(data).kind) != suite.kind:
            raise ConfigError(
                f"{suite.id} is a suite of kind {suite.kind}, but encoder.warmup.data names {name} of kind {kind}."
            )
        splits = split(data, inputs.task, stride=suite.stride_of(inputs.task), context=suite.split.context)
        without_predictors = suite.model_copy(update={"predictors": []})
        task_data = TaskData(data, inputs.task, splits)
        return TrainingInputs(Inputs(without_predictors, task_data, inputs.reporter, models=inputs.models))

    def _build(self, job: Job, initial: dict[str, Tensor] | None) -> Arm:
        suite, models, predictor = self.inputs.suite, self.inputs.models, job.predictor
        adapted = predictor.backbone in ("llm-lora", "matched") or predictor.set.train_adapters
        model = None
        if predictor.backbone in (*LLM_BACKBONES, "matched"):
            changed = adapted or predictor.backbone == "llm-random"
            model = models.fresh(predictor, job.seed) if changed else require_local(models.of(predictor))
        try:
            return build_arm(
                str(predictor.backbone),
                self.training.blueprint(),
                seed=job.seed,
                init_weights=initial,
                llm=model,
                adaptation=suite.adapt if adapted else FROZEN,
            )
        except RuntimeError as error:
            warmup = suite.encoder.warmup
            mismatches = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
            if warmup is None or warmup.data is None or not mismatches:
                raise
            raise ConfigError(
                f"The encoder warmed up on {warmup.data} does not fit {suite.data}: {mismatches[0]} Leave out what "
                f"belongs to places (`encoder.drop_embeddings: [node]`), and take data of as many channels."
            ) from error
