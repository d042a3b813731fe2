"""Free text ends at a line break, or in an answer, whatever the model thinks."""

import random

import pytest

from st2llm.errors import ConfigError
from st2llm.llm.grammar import build_automaton
from st2llm.llm.tokenizer import FastTokenizer, load_tokenizer
from st2llm.types import Choice, FreeText, Json, Numbers

TWO = Numbers(2, 2)


@pytest.fixture(scope="module", params=["single", "merged"])
def tokenizer(request, tiny) -> FastTokenizer:
    return load_tokenizer(tiny("llama", request.param))


def states(found, tokens):
    """The states behind each token, from the first."""
    state, seen = found.start, []
    for token in tokens:
        seen.append(state := state.advance(token))
    return seen


def complete(found, tokens, choose):
    """An answer that begins with these tokens and goes on as `choose` chooses; its tokens."""
    state, tokens = (states(found, tokens) or [found.start])[-1], list(tokens)
    while not state.ended:
        token = choose(state.allowed.tolist())
        state = state.advance(token)
        tokens += [] if state.stopped else [token]
    return tokens


def test_a_line_skips_blank_tokens_and_ends_at_a_line_break(tiny):
    tokenizer = load_tokenizer(tiny())
    found = build_automaton(tokenizer, FreeText(19))
    tokens = tokenizer.encode("\n\n12 people\n7")
    ends = [state.ended for state in states(found, tokens[:-1])]
    assert ends == [False] * (len(ends) - 1) + [True]
    assert found.text(tokens[:-1]) == "12 people"


def test_a_line_is_cut_when_its_tokens_are_used_up(tokenizer):
    found = build_automaton(tokenizer, FreeText(3))
    first, second, third = states(found, tokenizer.encode("q") * 3)
    assert third.truncated and third.ended and not (first.ended or second.ended)
    assert found.max_tokens == 3 and found.start.allowed is None


def test_a_control_token_stops_a_line(tokenizer):
    (state,) = states(build_automaton(tokenizer, FreeText(3)), [tokenizer.eos])
    assert state.ended and state.stopped and not state.truncated


def test_the_cue_is_forced_when_the_tokens_are_used_up(tokenizer):
    found = build_automaton(tokenizer, FreeText(4, "So:", TWO))
    thought = tokenizer.encode("q") * 4
    tokens = complete(found, thought, min)
    assert found.text(tokens).startswith("qqqq\nSo: ")
    assert len(tokens) <= found.max_tokens
    forced = states(found, tokens)[3 : 3 + len(tokenizer.encode("\nSo:"))]
    assert all(len(state.allowed) == 1 for state in forced)


def test_the_end_of_text_while_thinking_leads_to_the_cue(tokenizer):
    found = build_automaton(tokenizer, FreeText(9, "So:", TWO))
    tokens = complete(found, [*tokenizer.encode("q"), tokenizer.eos], max)
    assert found.text(tokens).startswith("q\nSo: ")


@pytest.mark.parametrize(
    ("thought", "narrow"),
    [
        ("Hm.\nSo:", True),
        ("So:", True),
        (" So:", True),
        ("\n  So:", True),
        ("So So:", False),
        ("\nSo", False),
        ("\nSooo:", False),
        ("and So:", False),
    ],
)
def test_the_answer_begins_where_a_line_begins_with_the_cue(tokenizer, thought, narrow):
    tokens = tokenizer.encode(thought)
    found = build_automaton(tokenizer, FreeText(len(tokens) + 5, "So:", TWO))
    state = states(found, tokens)[-1]
    assert (state.allowed is not None) == narrow
    if narrow:
        rest = complete(found, tokens, random.Random(0).choice)
        assert found.text(rest).startswith(f"{thought} ")


def test_a_cue_at_the_very_last_token_is_enough(tokenizer):
    tokens = tokenizer.encode("q\nSo:")
    found = build_automaton(tokenizer, FreeText(len(tokens), "So:", TWO))
    assert found.text(complete(found, tokens, min)).count("So:") == 1


def glued(tokenizer, cue):
    """A token that runs on beyond its first letter into ' 1' or so, and the cue that makes it cross."""
    words = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size)]
    return next((token, word) for token, word in enumerate(words) if word[:2] == cue and word[2:].isdigit())


def test_a_token_that_runs_beyond_the_cue_begins_the_answer(tiny):
    tokenizer = load_tokenizer(tiny("llama", "merged"))
    token, word = glued(tokenizer, ", ")
    found = build_automaton(tokenizer, FreeText(9, ",", Numbers(1, 9)))
    state = found.start.advance(token)
    assert state.allowed is not None
    tokens = complete(found, [token], min)
    assert found.text(tokens).startswith(word)


def test_a_token_that_runs_beyond_the_cue_into_no_answer_is_a_thought(tiny):
    tokenizer = load_tokenizer(tiny("llama", "merged"))
    token, word = glued(tokenizer, ", ")
    found = build_automaton(tokenizer, FreeText(9, ",", Choice(("yes", "no"))))
    assert found.start.advance(token).allowed is None
    assert found.text(complete(found, [token, tokenizer.eos], min)) == f"{word}\n, no"


def test_an_answer_in_json_may_be_glued_to_the_cue(tiny):
    tokenizer = load_tokenizer(tiny("llama", "merged"))
    token, word = glued(tokenizer, ", ")
    found = build_automaton(tokenizer, FreeText(9, ",", Json('{"type": "integer"}')))
    assert found.start.advance(token).advance(tokenizer.eos).stopped
    assert found.text([token]) == word


def test_a_token_beyond_the_vocabulary_is_an_empty_thought(tokenizer):
    found = build_automaton(tokenizer, FreeText(3, "So:", TWO))
    assert found.start.advance(tokenizer.vocab_size + 7).allowed is None
    assert found.text([tokenizer.vocab_size + 7]) == ""


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (FreeText(0), "at least 1 token"),
        (FreeText(0, "So:", TWO), "at least 1 token"),
        (FreeText(9, "", TWO), "must be one line"),
        (FreeText(9, "So: ", TWO), "must be one line"),
        (FreeText(9, "So\nthen:", TWO), "must be one line"),
        (FreeText(9, "So:", Numbers(0, 1)), "at least 1 number"),
    ],
)
def test_thoughts_that_cannot_end_are_refused(tokenizer, grammar, message):
    with pytest.raises(ConfigError, match=message):
        build_automaton(tokenizer, grammar)
