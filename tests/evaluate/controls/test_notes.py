"""The notes of the three parts of a split share no word, so that only learned meanings relate them."""

import itertools
import re

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from st2llm.evaluate.controls.notes import CARRIERS, LEVELS, WORDS, level_note

LISTS = [(part, level) for part in WORDS for level in range(len(LEVELS))]
_ENDINGS = re.compile(r"(ing|ed|less|ful|able|al|ly|ous|ish|ic|ive|ate|ary|ar|y|s|e)$")


def stems(part, level):
    """A crude stemmer that rather cuts too much: at most five letters, without prefixes and endings."""
    words = (re.sub(r"^(un|in|over)", "", word) for word in WORDS[part][level])
    return {_ENDINGS.sub("", word)[:5] for word in words}


def notes_of(part):
    """Every note of a part, with its level."""
    rows = [
        (carrier.format(word), level)
        for level, words in enumerate(WORDS[part])
        for word in words
        for carrier in CARRIERS
    ]
    return [text for text, _ in rows], np.array([level for _, level in rows])


def probe_accuracy(vectorizer, part):
    """Accuracy on a part of a logistic regression that was trained on the training notes."""
    probe = make_pipeline(vectorizer, LogisticRegression(max_iter=500, C=10.0))
    probe.fit(*notes_of("train"))
    return probe.score(*notes_of(part))


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(LISTS, 2)))
def test_no_stem_is_in_two_lists(one, other):
    assert not stems(*one) & stems(*other)


def test_no_word_of_a_list_is_in_a_carrier():
    carriers = set(re.findall(r"\w+", " ".join(CARRIERS).lower()))
    assert not carriers & {word for part in WORDS.values() for words in part for word in words}


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_bag_of_words_is_at_chance(part):
    independent = sum(map(len, WORDS[part]))
    half_width = 1.96 * np.sqrt(2 / 9 / independent)
    assert abs(probe_accuracy(CountVectorizer(), part) - 1 / 3) <= half_width


@pytest.mark.parametrize("lengths", [(1, 3), (2, 4), (3, 5)])
def test_character_n_grams_are_near_chance(lengths):
    half_width = 1.96 * np.sqrt(2 / 9 / sum(map(len, WORDS["test"])))
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=lengths)
    assert abs(probe_accuracy(vectorizer, "test") - 1 / 3) <= half_width


def test_a_note_is_made_of_the_words_of_its_part_and_level():
    rng = np.random.default_rng(0)
    for part, level in LISTS:
        note = level_note(part, LEVELS[level], rng)
        assert any(note == carrier.format(word) for carrier in CARRIERS for word in WORDS[part][level])
