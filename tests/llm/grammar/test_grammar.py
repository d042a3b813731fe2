"""The automaton of an answer says yes to all readable answers, and to nothing else."""

import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.grammars import EXACT, NARROW, THOUGHT, answer, is_readable

from st2llm.errors import ConfigError
from st2llm.llm.grammar import Automaton, AutomatonState, build_automaton
from st2llm.llm.tokenizer import FastTokenizer, load_tokenizer
from st2llm.types import Choice, Clock, FreeText, Json, Numbers, Ranking

KINDS = ["single", "merged"]
# beartype draws which items of a tuple it looks at, also of the grammars that hypothesis makes
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEW = settings(QUIET, max_examples=15)


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request, tiny) -> FastTokenizer:
    return load_tokenizer(tiny("llama", request.param))


@pytest.fixture(scope="module")
def real() -> FastTokenizer:
    return load_tokenizer("smollm2-135m")


def walk(found: Automaton, tokenizer: FastTokenizer, choose) -> tuple[list[int], AutomatonState]:
    """The tokens of an answer, without a stop, and where it ended. Every state on the way is looked at."""
    state, tokens, taken = found.start, [], 0
    while not state.ended:
        ids = np.arange(tokenizer.vocab_size) if state.allowed is None else state.allowed
        assert len(ids) and (np.diff(ids) > 0).all() and ids[-1] < tokenizer.vocab_size
        token = choose(ids.tolist())
        state = state.advance(token)
        tokens += [] if state.stopped else [token]
        taken += 1
    assert taken <= found.max_tokens and len(state.allowed) == 0
    return tokens, state


def spell(found: Automaton, tokens: list[int]) -> AutomatonState:
    """Where an answer's tokens lead, each of which must be allowed."""
    state = found.start
    for token in tokens:
        assert state.allowed is None or token in state.allowed
        state = state.advance(token)
    return state


@QUIET
@given(grammar=EXACT, seed=st.integers(0, 2**32))
def test_whatever_is_chosen_the_answer_is_readable(tokenizer, grammar, seed):
    found = build_automaton(tokenizer, grammar)
    tokens, end = walk(found, tokenizer, random.Random(seed).choice)
    assert is_readable(found.text(tokens), grammar)
    assert not end.truncated


@pytest.mark.slow
@QUIET
@given(grammar=THOUGHT, seed=st.integers(0, 2**32))
def test_whatever_is_thought_the_answer_is_readable(tokenizer, grammar, seed):
    found = build_automaton(tokenizer, grammar)
    tokens, end = walk(found, tokenizer, random.Random(seed).choice)
    assert is_readable(found.text(tokens), grammar)
    assert not end.truncated


@pytest.mark.slow
@QUIET
@given(grammar=EXACT, data=st.data())
def test_every_readable_answer_can_be_written_in_the_tokenizer_s_own_way(tokenizer, grammar, data):
    found = build_automaton(tokenizer, grammar)
    words = data.draw(answer(grammar))
    tokens = tokenizer.encode(words)
    end = spell(found, tokens)
    assert found.text(tokens) == words
    assert end.ended or end.advance(tokenizer.eos).stopped


@FEW
@given(grammar=THOUGHT, data=st.data())
def test_thoughts_may_end_with_the_model_s_own_cue(tokenizer, grammar, data):
    words = f"Hm,\n{grammar.cue} {data.draw(answer(grammar.answer))}"
    tokens = tokenizer.encode(words)
    wide = FreeText(len(tokens), grammar.cue, grammar.answer)
    found = build_automaton(tokenizer, wide)
    state, narrow = found.start, 0
    for token in tokens:
        narrow += state.allowed is not None
        state = state.advance(token)
    assert state.ended or state.advance(tokenizer.eos).stopped
    assert narrow and found.text(tokens) == words


@FEW
@given(grammar=NARROW)
def test_the_shortest_and_the_longest_choice_end_as_well(tokenizer, grammar):
    found = build_automaton(tokenizer, grammar)
    for choose in (min, max, lambda ids: ids[len(ids) // 2]):
        tokens, _ = walk(found, tokenizer, choose)
        assert is_readable(found.text(tokens), grammar)


def test_one_place_is_one_state_and_the_same_tokens_are_one_array(tokenizer):
    found = build_automaton(tokenizer, Numbers(3, 3))
    assert spell(found, tokenizer.encode("1,23")) is spell(found, tokenizer.encode("9,87"))
    first, second = (spell(found, tokenizer.encode(text)) for text in ("1", "1,1"))
    assert first is not second and first.allowed is second.allowed
    assert build_automaton(tokenizer, Numbers(3, 3)) is found


def test_a_forced_token_is_the_only_one(tiny):
    tokenizer = load_tokenizer(tiny())
    found = build_automaton(tokenizer, Numbers(2, 3))
    assert spell(found, tokenizer.encode("123")).allowed.tolist() == tokenizer.encode(",")
    assert spell(found, tokenizer.encode("0")).allowed.tolist() == tokenizer.encode(",")


def test_merged_vocabularies_offer_several_letters_at_once(tiny):
    tokenizer = load_tokenizer(tiny("llama", "merged"))
    found = build_automaton(tokenizer, Numbers(3, 3))
    offered = [tokenizer.decode([token]) for token in found.start.allowed.tolist()]
    assert max(map(len, offered)) >= 3
    behind = found.start.advance(tokenizer.encode("1")[0])
    assert any("," in tokenizer.decode([token]).rstrip(",") for token in behind.allowed.tolist())


def test_the_end_of_text_the_separator_and_a_line_break_stop_after_the_last_number(tiny):
    tokenizer = load_tokenizer(tiny())
    start = build_automaton(tokenizer, Numbers(1, 2)).start
    after_a_digit = start.advance(tokenizer.encode("4")[0])
    for token in (tokenizer.eos, tokenizer.encode(",")[0], tokenizer.encode("\n")[0]):
        assert after_a_digit.advance(token).stopped and token not in start.allowed
    whole = after_a_digit.advance(tokenizer.encode("2")[0])
    assert whole.ended and not whole.stopped and not whole.truncated


def test_an_answer_that_may_go_on_ends_with_a_stop(tokenizer):
    found = build_automaton(tokenizer, Ranking(("1", "17", "170"), 2, ";"))
    end = spell(found, tokenizer.encode("170;1"))
    assert end.advance(tokenizer.eos).stopped and end.advance(tokenizer.encode(";")[0]).stopped
    assert spell(found, tokenizer.encode("1;170")).ended


def test_letters_of_several_bytes_are_written_whole(tokenizer):
    found = build_automaton(tokenizer, Choice(("上海", "上京", "Käthe")))
    tokens = tokenizer.encode("上海")
    assert len(tokens) > 2
    assert spell(found, tokens).ended and found.text(tokens) == "上海"


@pytest.mark.parametrize(
    "grammar", [Numbers(2, 3), Choice(("上海", "a")), FreeText(3), Json('{"type": "integer"}')]
)
def test_a_token_that_may_not_follow_is_refused(tokenizer, grammar):
    state = build_automaton(tokenizer, grammar).start
    if grammar == FreeText(3):
        state = state.advance(tokenizer.eos)
    with pytest.raises(ConfigError, match="follow"):
        state.advance(tokenizer.encode("q")[0])


def test_no_grammar_is_one_line_of_free_text(tokenizer):
    found = build_automaton(tokenizer, None)
    assert found.start.allowed is None and found.max_tokens == 64


@pytest.mark.slow
@settings(QUIET, max_examples=150)
@given(grammar=st.one_of(EXACT, THOUGHT), seed=st.integers(0, 2**32))
def test_a_real_vocabulary_writes_readable_answers_alone(real, grammar, seed):
    found = build_automaton(real, grammar)
    tokens, _ = walk(found, real, random.Random(seed).choice)
    assert is_readable(found.text(tokens), grammar)


@pytest.mark.slow
@settings(QUIET, max_examples=150)
@given(grammar=EXACT, data=st.data())
def test_a_real_vocabulary_accepts_its_own_way_of_writing(real, grammar, data):
    words = data.draw(answer(grammar))
    end = spell(build_automaton(real, grammar), real.encode(words))
    assert end.ended or end.advance(real.eos).stopped


def test_states_and_automata_are_what_the_engine_expects(tokenizer):
    for grammar in (None, Numbers(2, 3), Clock(), FreeText(3, answer=Clock()), Json('{"type": "integer"}')):
        found = build_automaton(tokenizer, grammar)
        assert isinstance(found, Automaton) and isinstance(found.start, AutomatonState)


@pytest.mark.slow
def test_the_modules_need_no_torch():
    code = (
        "import sys; from st2llm.llm.grammar import automaton, json_schema; "
        "assert automaton and json_schema and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
