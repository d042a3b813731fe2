"""A ridge regression from documents corrects a rule where they say more than the numbers, and only there."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import st2llm
from st2llm.errors import DataError
from st2llm.predict.baselines.text_features import (
    TfidfEncoder,
    fit_text_features,
    texts_of,
    training_texts,
)
from st2llm.predict.baselines.text_ridge import fit_text_ridge
from st2llm.retrieve.shown_documents import ShownDocuments
from st2llm.types import Document, DocumentSet

DAYS = 240
STEP_S = 86_400


def town(*, told=True, about_places=False):
    """Daily noise, and 30 more at each place on the day after a document that says so."""
    rng = np.random.default_rng(0)
    busy = rng.random((DAYS, 2)) < 0.5
    if not about_places:
        busy[:, 1] = busy[:, 0]
    values = 50 + 30 * busy + rng.normal(0, 2, busy.shape)
    times = pd.date_range("2024-01-01", periods=DAYS, freq="D", tz="UTC")
    data = st2llm.SensorGraph.from_pandas(pd.DataFrame(values, index=times, columns=["north", "south"]))
    places = [(0, "north"), (1, "south")] if about_places else [(0, "")]
    documents = [
        Document(
            text="A market is announced." if busy[day, column] else "Nothing is announced.",
            start=int(data.time[day]),
            end=int(data.time[day]) + STEP_S,
            published=int(data.time[day]) - STEP_S,
            place=place,
            source="news",
        )
        for day in range(1, DAYS)
        for column, place in places
    ]
    limits = {"news": st2llm.types.DocumentLimits(count=1)}
    return replace(data, documents=DocumentSet(tuple(documents) if told else (), limits))


def parts(data):
    return st2llm.split(data, st2llm.tasks.forecast(history=4, horizon=1), stride=1)


def error(predictor, samples):
    truths = [sample.truth[-1] for sample in samples]
    return float(
        np.mean([np.abs(p.value[-1] - t) for p, t in zip(predictor.predict(samples), truths, strict=True)])
    )


def fitted(data, shown=ShownDocuments()):  # noqa: B008 - frozen
    splits = parts(data)
    train, test = splits.train.map(shown.of), splits.test.map(shown.of)
    features = fit_text_features(train, TfidfEncoder(training_texts(train)), name="words")
    return fit_text_ridge(train, features, rule="ridge", name="words"), list(test)


@pytest.mark.parametrize("about_places", [False, True])
def test_what_documents_say_corrects_the_rule_at_the_places_that_they_are_about(about_places):
    ridge, test = fitted(town(about_places=about_places))
    assert error(ridge.rule, test) > 10
    assert error(ridge, test) < 4


def test_documents_of_other_windows_leave_the_rule_as_it_is():
    """Caught: a penalty that is chosen on the rows that the regression is fitted on."""
    ridge, test = fitted(town(), ShownDocuments("shuffled", seed=3))
    assert error(ridge, test) > 0.9 * error(ridge.rule, test)


def test_predictions_do_not_depend_on_the_other_samples():
    ridge, test = fitted(town())
    together = ridge.predict(test)
    assert np.array_equal(ridge.predict(test[5:6])[0].value, together[5].value, equal_nan=True)


def test_a_place_without_values_of_its_own_is_known_by_its_name():
    sample = parts(town()).test[0]
    assert texts_of(sample, 0) == ["A market is announced."] or texts_of(sample, 0) == [
        "Nothing is announced."
    ]
    hidden = replace(
        sample,
        visible=sample.visible & [[[False], [True]]],
        side=replace(sample.side, place_texts=("the station", "")),
    )
    assert texts_of(hidden, 0)[-1] == "north. the station"
    assert len(texts_of(hidden, 1)) == 1


def test_data_without_documents_are_refused():
    with pytest.raises(DataError, match="hold no word"):
        fitted(town(told=False))
    splits = parts(town(told=False))
    with pytest.raises(DataError, match="shows no text in"):
        fit_text_features(splits.train, TfidfEncoder(["a word"]), name="words")
