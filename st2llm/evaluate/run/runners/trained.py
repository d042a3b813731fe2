"""Trained arms, soft and primitive: fitted at each learning rate, the best one on validation predicts."""

from dataclasses import replace
from typing import Any

import pandas as pd

from st2llm.evaluate.run.cost import Cost, count_flops, count_parameters
from st2llm.evaluate.run.inputs import Inputs, shown_documents
from st2llm.evaluate.run.job import Job, Outcome
from st2llm.evaluate.run.runners.arm_checkpoint import save_arm
from st2llm.evaluate.run.runners.arm_training import ArmTraining, TrainedArm, describe_training
from st2llm.evaluate.run.runners.online import adapted
from st2llm.evaluate.run.runners.predictions import prediction_table, validation_score, validation_table
from st2llm.evaluate.run.runners.training_inputs import SeededTraining, TrainingInputs, describe_fits
from st2llm.evaluate.run.samples import without_truth
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.predict.arm import ArmPredictor
from st2llm.predict.checkpoint import load_predictor
from st2llm.retrieve.shown_documents import ShownDocuments
from st2llm.train.loop.meter import Meter
from st2llm.types import Sample


class TrainedRunner:
    """Trains the arms of a task on the same batches, from the same initial encoder weights.

    save_arms: writes each as a checkpoint into `checkpoints/` of the run folder. Raises ConfigError where the data of
    the encoder's warm-up are of another kind, or hold values of the test part.
    """

    def __init__(self, inputs: Inputs, *, save_arms: bool = False) -> None:
        self.inputs, self.save_arms = inputs, save_arms
        self._arms: dict[ShownDocuments, ArmTraining] = {}
        self.arms = self._training_of(ShownDocuments())

    def _training_of(self, shown: ShownDocuments) -> ArmTraining:
        """The training of the arms that are shown these documents; all of them share the encoder's warm-up."""
        if shown not in self._arms:
            inputs = self.inputs.showing(shown)
            self._arms[shown] = ArmTraining(inputs, SeededTraining(inputs))
        return self._arms[shown]

    def run(self, job: Job, store: RunStore) -> Outcome:
        """Trains the arm of a job, or takes the one that another run on the same training windows has lent."""
        if (lent := store.lent(job.key)) is not None:
            return self._predict_again(job, store, *lent)
        arms = self._training_of(shown_documents(job))
        training, inputs = arms.training.of(job.seed), arms.inputs
        trained = arms.train(job, store)
        arm = trained.arm
        soft = job.predictor.family == "soft"
        predictor = ArmPredictor(
            job.predictor.name,
            arm,
            training.preprocessor,
            with_instructions=soft,
            batch_size=inputs.budget.batch,
        )
        validation = validation_table(inputs, adapted(inputs, job, predictor))
        if (refitted := training.refitted) is not None:
            again = arms.refit(job, trained, store, refitted)
            predictor = replace(predictor, arm=again, preprocessor=refitted.preprocessor)
        test, served = inputs.test_samples(job.predictor), adapted(inputs, job, predictor)
        with Meter() as meter:
            predictions = served.predict(without_truth(test))
        result = {
            "validation": validation_score(inputs, validation),
            **describe_fits(trained.fits, trained.chosen),
            "training": describe_training(inputs, trained, windows=len(training.train)),
            "train_windows": len(training.train),
            "encoder_sha256": arm.shared_sha256,
            "cost": _cost(training, trained, test, meter, soft=soft).to_json(),
        }
        table = prediction_table(inputs, served, test, predictions)
        fitted_on = inputs.fitted_on["both"] + arms.warmed_up_on()
        if self.save_arms:
            kept = replace(trained, arm=predictor.arm)
            save_arm(store.checkpoint_folder(job.key), refitted or training, job, kept, fitted_on)
        return Outcome(result, table, validation=validation, fitted_on=fitted_on)

    def _predict_again(
        self, job: Job, store: RunStore, record: dict[str, Any], validation: pd.DataFrame | None
    ) -> Outcome:
        """The outcome of a lent arm on the test windows of this run; what training left is as it was recorded."""
        folder = store.checkpoint_folder(job.key)
        predictor = load_predictor(folder, name=job.predictor.name)
        inputs = self._training_of(shown_documents(job)).inputs
        test, served = inputs.test_samples(job.predictor), adapted(inputs, job, predictor)
        with Meter() as meter:
            predictions = served.predict(without_truth(test))
        cost = {**record["cost"], "predict_s_per_sample": meter.seconds / len(test)}
        table = prediction_table(inputs, served, test, predictions)
        return Outcome({**record, "cost": cost}, table, validation=validation, fitted_on=predictor.fitted_on)


def _cost(
    training: TrainingInputs, trained: TrainedArm, test: list[Sample], meter: Meter, *, soft: bool
) -> Cost:
    arm, preprocessor = trained.arm, training.preprocessor
    total, adapted = count_parameters(arm)
    copies = preprocessor.rows(1, len(test[0].place))
    texts = [preprocessor.instruction(sample) for sample in without_truth(test)] * copies if soft else []
    return Cost(
        params_total=total,
        params_trained=adapted,
        flops=count_flops(arm, preprocessor.collate([test[0].without_truth()], with_instructions=soft)),
        train_s=trained.chosen.seconds,
        predict_s_per_sample=meter.seconds / len(test),
        tokens_in=training.inputs.models.count(texts) + len(texts) * preprocessor.slots if soft else None,
        tokens_out=0 if soft else None,
        peak_mb=max(trained.chosen.peak_mb, meter.peak_mb),
    )
