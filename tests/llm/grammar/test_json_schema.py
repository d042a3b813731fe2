"""Answers that a JSON schema allows."""

import json
import random

import pytest

from st2llm.errors import ConfigError
from st2llm.llm.grammar import build_automaton
from st2llm.llm.grammar.json_schema import MAX_TOKENS
from st2llm.llm.tokenizer import FastTokenizer, load_tokenizer
from st2llm.types import Json

STOP = {
    "type": "object",
    "properties": {
        "place": {"enum": ["Käthe", "上海"]},
        "hour": {"type": "integer", "minimum": 0, "maximum": 23},
        "next": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["place", "hour", "next"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=["single", "merged"])
def tokenizer(request, tiny) -> FastTokenizer:
    return load_tokenizer(tiny("llama", request.param))


def draw(found, choose):
    state, tokens = found.start, []
    while not state.ended:
        token = choose(state.allowed.tolist())
        state = state.advance(token)
        tokens += [] if state.stopped else [token]
    return tokens, state


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_chosen_fits_the_schema(tokenizer, seed):
    found = build_automaton(tokenizer, Json(json.dumps(STOP)))
    tokens, end = draw(found, random.Random(seed).choice)
    answer = json.loads(found.text(tokens))
    assert list(answer) == ["place", "hour", "next"]
    assert answer["place"] in ("Käthe", "上海") and answer["hour"] in range(24)
    assert 1 <= len(answer["next"]) <= 2 and set(answer["next"]) <= {"a", "b"}
    assert not end.truncated


def test_a_whole_object_ends_without_a_stop(tokenizer):
    tokens = tokenizer.encode('{"place": "上海", "hour": 7, "next": ["b"]}')
    state = build_automaton(tokenizer, Json(json.dumps(STOP))).start
    for token in tokens:
        assert not state.ended
        state = state.advance(token)
    assert state.ended and not state.stopped


def test_a_number_ends_with_a_stop_that_is_no_part_of_it(tokenizer):
    state = build_automaton(tokenizer, Json('{"type": "integer"}')).start
    assert tokenizer.eos not in state.allowed and tokenizer.encode("\n")[0] not in state.allowed
    for token in tokenizer.encode("42"):
        state = state.advance(token)
    for stop in (tokenizer.eos, *tokenizer.encode("\n")):
        assert stop in state.allowed and state.advance(stop).stopped


def test_an_answer_without_end_is_cut(tokenizer):
    digit = tokenizer.encode("1")[0]
    state = build_automaton(tokenizer, Json('{"type": "integer"}')).start
    for _ in range(MAX_TOKENS):
        assert not state.ended
        state = state.advance(digit)
    assert state.truncated and state.ended and not state.stopped


def test_two_draws_at_one_place_share_a_state(tokenizer):
    start = build_automaton(tokenizer, Json('{"type": "integer"}')).start
    first = start.advance(tokenizer.encode("4")[0])
    assert start.advance(tokenizer.encode("4")[0]) is first


def test_one_draw_does_not_move_another(tokenizer):
    start = build_automaton(tokenizer, Json(json.dumps(STOP))).start
    before = start.allowed.tolist()
    start.advance(before[0]).advance(start.advance(before[0]).allowed.tolist()[0])
    assert start.allowed.tolist() == before


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "should be an object"),
        ('{"type": "nonsense"}', "cannot be used"),
        ('{"enum": []}', "cannot be used"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(tokenizer, schema, message):
    with pytest.raises(ConfigError, match=message):
        build_automaton(tokenizer, Json(schema))


@pytest.mark.slow
def test_a_real_vocabulary_writes_what_fits_the_schema():
    found = build_automaton(load_tokenizer("smollm2-135m"), Json(json.dumps(STOP)))
    for seed in range(20):
        tokens, _ = draw(found, random.Random(seed).choice)
        assert json.loads(found.text(tokens))["place"] in ("Käthe", "上海")
