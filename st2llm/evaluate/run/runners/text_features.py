"""Rules corrected by a regression from texts: words, sentence embeddings or states of a language model."""

from dataclasses import replace
from functools import partial
from typing import Any

from st2llm.evaluate.run.cost import count_parameters
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Job, Outcome, shown_documents
from st2llm.evaluate.run.runners.predictions import fit_and_predict
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.features.text import load as load_sentence_encoder
from st2llm.predict.baselines.logistic import MarkLogistic, fit_logistic
from st2llm.predict.baselines.text_features import (
    TextEncoder,
    TfidfEncoder,
    fit_text_features,
    training_texts,
)
from st2llm.predict.baselines.text_ridge import TextRidge, fit_text_ridge
from st2llm.predict.preprocess.text_states import TextStates
from st2llm.types import TrainingWindows

Fitted = TextRidge | MarkLogistic


class TextFeaturesRunner:
    """Fits the regression of a job and predicts. The states of a frozen language model are computed once a text."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self._states: dict[tuple[str, int | None, str | None, int], TextStates] = {}

    def run(self, job: Job, store: RunStore) -> Outcome:
        fitted: list[Fitted] = []
        inputs = self.inputs.showing(shown_documents(job))
        outcome = fit_and_predict(inputs, job, partial(self._fit, job, fitted))
        cost = outcome.result["cost"] | self._model_cost(fitted[0])
        return replace(outcome, result=outcome.result | self._facts(job, fitted[0]) | {"cost": cost})

    def _fit(self, job: Job, fitted: list[Fitted], train: TrainingWindows) -> Fitted:
        predictor = job.predictor
        features = fit_text_features(train, self._encoder(job, train), name=predictor.name)
        rule = self.inputs.suite.residual_rule(predictor)
        if rule == "logistic":
            fitted.append(fit_logistic(train, features))
        else:
            fitted.append(fit_text_ridge(train, features, rule=rule, name=predictor.name))
        return fitted[-1]

    def _encoder(self, job: Job, train: TrainingWindows) -> TextEncoder:
        if job.predictor.text_features == "tfidf":
            return TfidfEncoder(training_texts(train))
        if job.predictor.text_features == "minilm":
            return load_sentence_encoder("minilm")
        random = job.predictor.backbone == "llm-random"
        settings = job.predictor.set
        key = (str(job.predictor.backbone), settings.depth, settings.ending, job.seed if random else 0)
        if key not in self._states:
            self._states[key] = TextStates(self.inputs.models.drawn(job.predictor, job.seed), settings.ending)
        return self._states[key]

    def _facts(self, job: Job, fitted: Fitted) -> dict[str, Any]:
        """What the result says beside the scores."""
        predictor = job.predictor
        return {
            "penalty": fitted.penalty,
            "text_features": predictor.text_features,
            "ending": predictor.set.ending,
            "residual_of": self.inputs.suite.residual_rule(predictor),
        }

    def _model_cost(self, fitted: Fitted) -> dict[str, Any]:
        encoder = None if fitted.features is None else fitted.features.encoder
        if not isinstance(encoder, TextStates):
            return {}
        return {"params_total": count_parameters(encoder.llm.model)[0], "tokens_in": encoder.tokens_read}
