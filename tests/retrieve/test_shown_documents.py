"""A predictor is shown the documents that its suite sets; nothing else of a sample changes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import st2llm
from st2llm.predict.baselines.text_features import texts_of, training_texts
from st2llm.retrieve.shown_documents import ShownDocuments, most_relevant
from st2llm.types import Document, DocumentSet, TrainingWindows

DAY = 86_400


@pytest.fixture(scope="module")
def train():
    """Windows of two places, in which a document about all and one about `north` are published each day."""
    times = pd.date_range("2024-01-01", periods=60, freq="D", tz="UTC")
    values = pd.DataFrame(np.arange(120.0).reshape(60, 2), index=times, columns=["north", "south"])
    data = st2llm.SensorGraph.from_pandas(values)
    documents = tuple(
        Document(f"{place or 'all'} on day {day}", int(time), int(time), int(time) - 1, place, "news")
        for day, time in enumerate(data.time)
        for place in ("", "north")
    )
    data = replace(data, documents=DocumentSet(documents, {"news": st2llm.types.DocumentLimits(count=3)}))
    return st2llm.split(data, st2llm.tasks.forecast(history=4, horizon=1), stride=1).train


def texts(sample):
    return [document.text for document in sample.side.documents]


def test_the_newest_documents_are_those_of_each_place(train):
    (sample,) = train.map(ShownDocuments(newest=1).of)[3:4]
    assert sorted(texts(sample)) == sorted(texts(train[3])[:2])
    assert {document.place for document in sample.side.documents} == {"", "north"}


def test_no_documents_leave_everything_else(train):
    shown = train.map(ShownDocuments("none").of)[3]
    assert texts(shown) == [] and texts(train[3]) != []
    assert shown.id == train[3].id and np.array_equal(shown.values, train[3].values, equal_nan=True)


def test_shuffled_documents_are_those_of_other_samples_each_once(train):
    shown = train.map(ShownDocuments("shuffled", seed=1).of)
    assert [sample.id for sample in shown] == [sample.id for sample in train]
    assert sorted(map(texts, shown)) == sorted(map(texts, train)) != list(map(texts, shown))
    assert list(map(texts, shown)) != list(map(texts, train.map(ShownDocuments("shuffled", seed=2).of)))


def test_a_selection_of_shuffled_samples_keeps_their_documents(train):
    """Caught: partners that are drawn anew within the selected windows."""
    shown = train.map(ShownDocuments("shuffled", seed=1).of)
    assert [texts(sample) for sample in shown.select([5, 2])] == [texts(shown[5]), texts(shown[2])]
    assert texts(shown[2:4][1]) == texts(shown[3])


def test_shuffled_documents_of_another_object_are_read_as_those_of_the_sample(train):
    """Caught: a suite of storms stopped, since texts of another storm were about another place than the sample."""
    objects = []
    for i, window in enumerate(train[:5]):
        document = replace(window.side.documents[0], text=f"{i}", place=f"storm-{i}")
        one = window.at("north")
        objects.append(replace(one, place=(document.place,), side=replace(one.side, documents=(document,))))
    shown = TrainingWindows(objects).map(ShownDocuments("shuffled", seed=1).of)
    assert [s.side.documents[0].place for s in shown] == [s.place[0] for s in objects]
    assert sorted(training_texts(shown)) == sorted(training_texts(TrainingWindows(objects))) == list("01234")
    assert [texts_of(s, 0) for s in shown] != [texts_of(s, 0) for s in objects]


class Letters:
    """Embeds a text as the counts of its letters."""

    def encode(self, sentences):
        return np.array(
            [[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in sentences]
        )


def test_the_most_relevant_documents_are_like_the_question_in_the_order_of_publication(train):
    documents = tuple(Document(text, 0, 0, 0, "", "news") for text in ("aaab", "zzz", "aaa", "zzzz", "abab"))
    sample = replace(train[0], question="aaa", side=replace(train[0].side, documents=documents))
    assert [d.text for d in most_relevant(sample, 2, Letters())] == ["aaab", "aaa"]


def test_shuffling_exchanges_the_names_of_places_that_are_asked_for_as_a_whole_alike_in_every_window(train):
    days = pd.date_range("2024-01-01", periods=20, freq="D", tz="UTC")
    values = pd.DataFrame(np.arange(120.0).reshape(20, 6), index=days, columns=list("abcdef"))
    data = st2llm.SensorGraph.from_pandas(values)
    windows = st2llm.split(data, st2llm.tasks.krige(length=1), stride=1).train
    shown = windows.map(ShownDocuments("shuffled", seed=1).of)
    (names,) = {sample.side.labels for sample in shown}
    assert sorted(names) == list("abcdef") != list(names)
    assert shown[0].place == windows[0].place
    assert train.map(ShownDocuments("shuffled", seed=1).of)[0].side.labels == train[0].side.labels
