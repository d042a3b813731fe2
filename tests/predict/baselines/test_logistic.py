"""Marks have probabilities: from numbers alone, and from documents that say more than the numbers."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import st2llm
from st2llm import metrics
from st2llm.errors import DataError
from st2llm.evaluate.scoring.score_table import build_score_table
from st2llm.evaluate.scoring.totals import score
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.baselines.logistic import fit_logistic
from st2llm.predict.baselines.text_features import TfidfEncoder, fit_text_features, training_texts
from st2llm.tasks import next_event
from st2llm.types import Document, DocumentLimits, DocumentSet

EVENTS = 300


def strikes(*, one_mark=False):
    """Every fifth flight is disturbed; a document of a minute before the flight before says so."""
    rng = np.random.default_rng(1)
    disturbed = rng.random(EVENTS) < 0.2
    times = pd.date_range("2024-01-01", periods=EVENTS, freq="6h", tz="UTC")
    marks = ["calm" if one_mark or not each else "disturbed" for each in disturbed]
    data = st2llm.Events.from_pandas(pd.DataFrame({"time": times, "mark": marks}), mark="mark")
    published = data.time - 6 * 3600 - 60
    texts = ("Nothing happened.", "The crew reported smoke.")
    documents = tuple(
        Document(texts[int(each)], int(at), int(at), int(at), "", "log")
        for each, at in zip(disturbed, published, strict=True)
    )
    return replace(data, documents=DocumentSet(documents, {"log": DocumentLimits(count=1)}))


def parts(data):
    return st2llm.split(data, next_event(history=3, asked=("mark",)))


def log_loss(predictor, samples):
    frame = build_score_table(samples, predictor.predict([replace(s, truth=None) for s in samples]))
    return score(frame, metrics.LABEL_METRICS)["log_loss"]


def test_texts_lower_the_log_loss_of_marks_that_numbers_do_not_tell():
    splits = parts(strikes())
    features = fit_text_features(splits.train, TfidfEncoder(training_texts(splits.train)), name="words")
    numbers, words = fit_logistic(splits.train, None), fit_logistic(splits.train, features)
    test = list(splits.test)
    frequencies = log_loss(fit_baseline("median-gap", splits.train), test)
    assert abs(log_loss(numbers, test) - frequencies) < 0.05 and 0.3 < frequencies < 0.8
    assert log_loss(words, test) < 0.1


def test_probabilities_are_those_of_all_marks_and_their_score_is_the_logarithm():
    splits = parts(strikes())
    sample = splits.test[0]
    (prediction,) = fit_baseline("logistic", splits.train).predict([replace(sample, truth=None)])
    assert sorted(prediction.ranking) == ["calm", "disturbed"]
    assert math.isclose(sum(prediction.probabilities), 1.0) and prediction.probabilities[0] > 0.5
    assert metrics.log_loss("calm", ("calm", "disturbed"), (0.8, 0.2)) == -math.log(0.8)
    assert metrics.log_loss("other", ("calm",), (1.0,)) == -math.log(metrics.LEAST_PROBABILITY)


def test_predictors_without_probabilities_have_no_log_loss():
    splits = parts(strikes())
    frame = build_score_table(
        list(splits.test), fit_baseline("last-gap", splits.train).predict(list(splits.test))
    )
    assert "log_loss" not in score(frame, metrics.LABEL_METRICS) and "mrr" in score(
        frame, metrics.LABEL_METRICS
    )


def test_a_single_mark_cannot_be_told_apart():
    with pytest.raises(DataError, match="training windows have 1"):
        fit_baseline("logistic", parts(strikes(one_mark=True)).train)
