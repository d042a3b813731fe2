"""Places are remembered, but not without end."""

import random

import pytest

from st2llm.errors import ConfigError
from st2llm.llm.grammar import token_automaton
from st2llm.llm.grammar.automaton import CUT, STOPPED, WHOLE, State
from st2llm.llm.grammar.byte_machines import machine
from st2llm.llm.grammar.vocabulary import vocabulary
from st2llm.llm.tokenizer import load_tokenizer
from st2llm.types import Ranking


def test_an_automaton_that_has_forgotten_its_places_finds_them_again(tiny, monkeypatch):
    monkeypatch.setattr(token_automaton, "_MOST_PLACES", 3)
    words = tuple(str(i) for i in range(30))
    found = token_automaton.NarrowAutomaton(vocabulary(load_tokenizer(tiny())), machine(Ranking(words, 8)))
    for seed in range(5):
        choose, state, tokens = random.Random(seed).choice, found.start, []
        while not state.ended:
            token = choose(state.ids.tolist())
            state = state.after(token)
            tokens += [] if state.stopped else [token]
        said = found.text(tokens).split(", ")
        assert len(set(said)) == 8 and set(said) <= set(words)


def test_an_answer_can_be_entered_amid_its_words(tiny):
    tokenizer = load_tokenizer(tiny())
    found = token_automaton.NarrowAutomaton(vocabulary(tokenizer), machine(Ranking(("1", "17", "2"), 2)))
    state = found.start
    for token in tokenizer.encode("17, "):
        state = state.after(token)
    assert found.begin(b"17, ") is state and found.begin(b"") is found.start
    assert found.begin(b"3") is None and found.begin(b"17, 17") is None
    assert found.begin(b"17, 2") is WHOLE


@pytest.mark.parametrize("end", [WHOLE, STOPPED, CUT])
def test_nothing_follows_an_end(end):
    assert isinstance(end, State) and end.ended and len(end.ids) == 0
    with pytest.raises(ConfigError, match="has ended"):
        end.after(3)
