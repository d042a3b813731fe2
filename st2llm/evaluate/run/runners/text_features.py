"""Rules corrected by a regression from texts: words, sentence embeddings or states of a language model."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from st2llm.evaluate.run.cost import count_parameters
from st2llm.evaluate.run.inputs import Inputs, shown_documents
from st2llm.evaluate.run.job import Job, Outcome
from st2llm.evaluate.run.runners.predictions import fit_and_predict
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.features.text import load as load_sentence_encoder
from st2llm.predict.baselines.logistic import MarkLogistic, fit_logistic
from st2llm.predict.baselines.text_features import (
    TextEncoder,
    TextMatrix,
    TfidfEncoder,
    fit_text_features,
    texts_of,
    training_texts,
)
from st2llm.predict.baselines.text_ridge import TextRidge, fit_text_ridge
from st2llm.predict.preprocess.text_states import TextStates
from st2llm.types import Sample, TrainingWindows

Fitted = TextRidge | MarkLogistic


class TextFeaturesRunner:
    """Fits the regression of a job and predicts. The states of a frozen language model are computed once a text."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self._encoders: dict[str, MeteredEncoder] = {}

    def run(self, job: Job, store: RunStore) -> Outcome:
        fitted: list[Fitted] = []
        inputs = self.inputs.showing(shown_documents(job))
        outcome = fit_and_predict(inputs, job, partial(self._fit, job, fitted))
        cost = outcome.result["cost"]
        cost |= self._reading_cost(inputs, job, fitted[0], cost)
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
            return self._metered("minilm", lambda: load_sentence_encoder("minilm"))
        random = job.predictor.backbone == "llm-random"
        settings = job.predictor.set
        key = (str(job.predictor.backbone), settings.depth, settings.ending, job.seed if random else 0)
        return self._metered(
            str(key), lambda: TextStates(self.inputs.models.drawn(job.predictor, job.seed), settings.ending)
        )

    def _metered(self, key: str, load: Callable[[], TextEncoder]) -> "MeteredEncoder":
        """The encoder of a key, loaded once: it keeps what it has read for later jobs."""
        if key not in self._encoders:
            self._encoders[key] = MeteredEncoder(load())
        return self._encoders[key]

    def _facts(self, job: Job, fitted: Fitted) -> dict[str, Any]:
        """What the result says beside the scores."""
        predictor = job.predictor
        return {
            "penalty": fitted.penalty,
            "text_features": predictor.text_features,
            "ending": predictor.set.ending,
            "residual_of": self.inputs.suite.residual_rule(predictor),
        }

    def _reading_cost(
        self, inputs: Inputs, job: Job, fitted: Fitted, cost: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What an encoder adds to the cost of a job: texts that an earlier job has read cost what they cost it."""
        encoder = None if fitted.features is None else fitted.features.encoder
        if not isinstance(encoder, MeteredEncoder):
            return {}
        test = inputs.test_samples(job.predictor)
        seconds = encoder.seconds_of(_texts(inputs.training_windows(job.seed)))
        per_sample = encoder.seconds_of(_texts(test)) / len(test)
        read = {
            "train_s": max(cost["train_s"], seconds),
            "predict_s_per_sample": max(cost["predict_s_per_sample"], per_sample),
        }
        if not isinstance(states := encoder.encoder, TextStates):
            return read
        return {
            **read,
            "params_total": count_parameters(states.llm.model)[0],
            "tokens_in": self.inputs.models.count(sorted(_texts(test))),
        }


class MeteredEncoder:
    """An encoder that keeps what it has read, and the time that reading took: in proportion to characters."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self._characters: dict[str, int] = {}
        self._seconds = 0.0

    def encode(self, texts: Sequence[str]) -> TextMatrix:
        new = {text: len(text) for text in texts if text not in self._characters}
        began = time.perf_counter()
        rows = self.encoder.encode(texts)
        if new:
            self._seconds += time.perf_counter() - began
            self._characters |= new
        return rows

    def seconds_of(self, texts: Iterable[str]) -> float:
        """The seconds that reading these texts takes, each once; 0 for texts that were never read."""
        characters = sum(self._characters.get(text, 0) for text in set(texts))
        return self._seconds * characters / max(1, sum(self._characters.values()))


def _texts(samples: Iterable[Sample]) -> set[str]:
    """The texts of the wanted places of samples."""
    return {text for sample in samples for node in sample.wanted_nodes for text in texts_of(sample, node)}
