import copy
import pickle

import pytest

from st2llm.serialize.answer.unread import Unread, unread_kind


def test_a_reason_reads_as_its_words_and_knows_its_kind():
    reason = Unread("too few numbers: 3 of 24", "truncated")
    assert reason == "too few numbers: 3 of 24"
    assert unread_kind(reason) == "truncated"


def test_plain_words_are_unreadable():
    assert unread_kind("it makes no sense") == unread_kind(Unread("it makes no sense")) == "unreadable"


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda reason: pickle.loads(pickle.dumps(reason))]
)
def test_a_copy_keeps_its_kind(again):
    assert unread_kind(again(Unread("beyond", "out_of_range"))) == "out_of_range"
