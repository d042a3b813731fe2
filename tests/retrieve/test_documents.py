import numpy as np
import pytest
from support import five_kinds

from st2llm.errors import DataError
from st2llm.features.text import load
from st2llm.retrieve.documents import (
    DocumentIndex,
    IndexedDocument,
    SentenceEncoder,
    documents_from_notes,
    documents_from_places,
    with_documents,
)
from st2llm.serialize.template.template import load_prompt
from st2llm.types import Note

WORDS = ("rain", "concert", "station", "snow")


class CountWords:
    """A vector that counts four words."""

    def encode(self, texts):
        return np.array([[text.lower().count(word) for word in WORDS] for text in texts], dtype=np.float32)


DOCUMENTS = [
    IndexedDocument("a", "Heavy rain and more rain", "weather", published_s=100),
    IndexedDocument("b", "A concert at the arena", "event"),
    IndexedDocument("c", "A station with a concert hall", "poi", place="gate-1"),
]


def test_the_nearest_in_meaning_comes_first():
    index = DocumentIndex.fit(DOCUMENTS, CountWords())
    assert isinstance(CountWords(), SentenceEncoder)
    hits = index.similar("Is there a concert?", 2)
    assert [hit.document.id for hit in hits] == ["b", "c"]
    assert hits[0].score == pytest.approx(1.0) and hits[1].score == pytest.approx(2**-0.5)


def test_what_became_known_later_is_not_found():
    index = DocumentIndex.fit(DOCUMENTS, CountWords())
    assert next(h.document.id for h in index.similar("rain", 3, at_s=100)) == "a"
    assert "a" not in [h.document.id for h in index.similar("rain", 3, at_s=99)]


def test_what_is_about_another_place_is_left_out():
    index = DocumentIndex.fit(DOCUMENTS, CountWords())
    assert [h.document.id for h in index.similar("station", 3, place="gate-2")] == ["a", "b"]
    assert index.similar("station", 3, place="gate-1")[0].document.id == "c"


def test_documents_published_before_the_target_join_the_notes_of_a_sample_and_its_prompt():
    sample = five_kinds.field_samples(five_kinds.graph(), 24, 6)[0].at("gate-0")
    start = int(sample.time[sample.first_wanted_step])
    index = DocumentIndex.fit(
        [
            IndexedDocument("early", "A concert near the station", published_s=start - 3600),
            IndexedDocument("late", "A concert was at the station", published_s=start),
            IndexedDocument("elsewhere", "A station and a concert", place="gate-1"),
        ],
        CountWords(),
    )
    found = with_documents(sample, index, k=3, query="concert at the station")
    assert found.side.notes == (*sample.side.notes, "A concert near the station")
    assert "A concert near the station" in load_prompt("graph/forecast").render(found).text
    assert with_documents(found, index, query="concert").side.notes == found.side.notes


def test_notes_and_places_become_documents():
    (note,) = documents_from_notes([Note(5, 9, "A concert")])
    assert (note.text, note.start, note.end, note.category) == ("A concert", 5, 9, "event")
    found = documents_from_places(five_kinds.graph(), ["by the station", "", "a park"])
    assert [d.place for d in found] == ["gate-0", "gate-2"]
    with pytest.raises(DataError, match="2 texts"):
        documents_from_places(five_kinds.graph(), ["a", "b"])


def test_no_documents_an_empty_one_and_a_bad_encoder_are_refused():
    with pytest.raises(DataError, match="at least one"):
        DocumentIndex.fit([], CountWords())
    with pytest.raises(DataError, match="'x' has no text"):
        DocumentIndex.fit([IndexedDocument("x", "  ")], CountWords())

    class Lost:
        def encode(self, texts):
            return np.zeros((0, 3), dtype=np.float32)

    with pytest.raises(DataError, match="finite vector"):
        DocumentIndex.fit(DOCUMENTS, Lost())


@pytest.mark.slow
def test_the_real_encoder_finds_the_document_that_means_the_same_in_other_words():
    index = DocumentIndex.fit(
        [
            IndexedDocument("a", "A football match fills the stadium in the evening.", "event"),
            IndexedDocument("b", "Heavy rain and gusts are forecast for the afternoon.", "weather"),
            IndexedDocument("c", "The museum of modern art is next to the square.", "poi", place="gate-1"),
            IndexedDocument("d", "Trains are not running because of a strike.", "event"),
        ],
        load("minilm"),
    )
    asked = {
        "Will it be wet and windy?": "b",
        "Many fans come to see the teams play.": "a",
        "Where can one look at paintings?": "c",
        "Commuters have to find another way to work.": "d",
    }
    assert {words: index.similar(words, 1)[0].document.id for words in asked} == asked
    assert all(hit.score < 0.999 for words in asked for hit in index.similar(words, 1))
