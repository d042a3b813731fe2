"""Places are remembered, but not without end."""

import random

import pytest

from st2llm.errors import ConfigError
from st2llm.llm.grammar import token_automaton
from st2llm.llm.grammar.automaton import COMPLETE, STOPPED, TRUNCATED, AutomatonState
from st2llm.llm.grammar.build_machine import build_machine
from st2llm.llm.grammar.vocabulary import vocabulary_of
from st2llm.llm.tokenizer import load_tokenizer
from st2llm.types import Ranking


def test_an_automaton_that_has_forgotten_its_places_finds_them_again(tiny, monkeypatch):
    monkeypatch.setattr(token_automaton, "_MAX_CACHED_STATES", 3)
    words = tuple(str(i) for i in range(30))
    found = token_automaton.TokenAutomaton(
        vocabulary_of(load_tokenizer(tiny())), build_machine(Ranking(words, 8))
    )
    for seed in range(5):
        choose, state, tokens = random.Random(seed).choice, found.start, []
        while not state.ended:
            token = choose(state.allowed.tolist())
            state = state.advance(token)
            tokens += [] if state.stopped else [token]
        said = found.text(tokens).split(", ")
        assert len(set(said)) == 8 and set(said) <= set(words)


def test_an_answer_can_be_entered_amid_its_words(tiny):
    tokenizer = load_tokenizer(tiny())
    found = token_automaton.TokenAutomaton(
        vocabulary_of(tokenizer), build_machine(Ranking(("1", "17", "2"), 2))
    )
    state = found.start
    for token in tokenizer.encode("17, "):
        state = state.advance(token)
    assert found.resume(b"17, ") is state and found.resume(b"") is found.start
    assert found.resume(b"3") is None and found.resume(b"17, 17") is None
    assert found.resume(b"17, 2") is COMPLETE


@pytest.mark.parametrize("end", [COMPLETE, STOPPED, TRUNCATED])
def test_nothing_follows_an_end(end):
    assert isinstance(end, AutomatonState) and end.ended and len(end.allowed) == 0
    with pytest.raises(ConfigError, match="has ended"):
        end.advance(3)
