"""Rules corrected by a ridge regression from texts: words, sentence embeddings or states of a language model."""

from dataclasses import replace
from functools import partial
from typing import Any

from st2llm.evaluate.run.cost import count_parameters
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Job, Outcome
from st2llm.evaluate.run.runners.predictions import fit_and_predict
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.features.text import load as load_sentence_encoder
from st2llm.predict.baselines.text_ridge import (
    TextEncoder,
    TextRidge,
    TfidfEncoder,
    fit_text_ridge,
    training_texts,
)
from st2llm.predict.preprocess.text_states import TextStates
from st2llm.types import TrainingWindows


class TextFeaturesRunner:
    """Fits the text ridge of a job and predicts. The states of a frozen language model are computed once a text."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self._states: dict[tuple[str, int | None, int], TextStates] = {}

    def run(self, job: Job, store: RunStore) -> Outcome:
        fitted: list[TextRidge] = []
        outcome = fit_and_predict(self.inputs, job, partial(self._fit, job, fitted))
        cost = outcome.result["cost"] | self._model_cost(fitted[0])
        return replace(outcome, result=outcome.result | self._facts(job, fitted[0]) | {"cost": cost})

    def _fit(self, job: Job, fitted: list[TextRidge], train: TrainingWindows) -> TextRidge:
        predictor = job.predictor
        shuffle = job.seed if predictor.set.documents == "shuffled" else None
        ridge = fit_text_ridge(
            train,
            self._encoder(job, train),
            rule=self.inputs.suite.residual_rule(predictor),
            name=predictor.name,
            shuffle=shuffle,
        )
        fitted.append(ridge)
        return ridge

    def _encoder(self, job: Job, train: TrainingWindows) -> TextEncoder:
        if job.predictor.text_features == "tfidf":
            return TfidfEncoder(training_texts(train))
        if job.predictor.text_features == "minilm":
            return load_sentence_encoder("minilm")
        random = job.predictor.backbone == "llm-random"
        key = (str(job.predictor.backbone), job.predictor.set.depth, job.seed if random else 0)
        if key not in self._states:
            self._states[key] = TextStates(self.inputs.models.drawn(job.predictor, job.seed))
        return self._states[key]

    def _facts(self, job: Job, ridge: TextRidge) -> dict[str, Any]:
        """What the result says beside the scores."""
        predictor = job.predictor
        return {
            "penalty": ridge.penalty,
            "text_features": predictor.text_features,
            "documents": predictor.set.documents,
            "residual_of": self.inputs.suite.residual_rule(predictor),
        }

    def _model_cost(self, ridge: TextRidge) -> dict[str, Any]:
        if not isinstance(ridge.encoder, TextStates):
            return {}
        return {
            "params_total": count_parameters(ridge.encoder.llm.model)[0],
            "tokens_in": ridge.encoder.tokens_read,
        }
