"""The automaton of an answer says yes to all readable answers, and to nothing else."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from st2llm.errors import ConfigError
from st2llm.llm import grammar
from st2llm.llm.tokenizer import load_tokenizer
from st2llm.types import Numbers

KINDS = ["single", "merged"]
NUMBERS = st.builds(
    Numbers,
    count=st.integers(1, 5),
    digits=st.integers(1, 4),
    separator=st.sampled_from([",", ", ", " ", "\n", " | "]),
)
QUIET = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def walk(automaton: grammar.Grammar, choose) -> tuple[list[int], int]:
    """Columns taken from the start until the answer is whole, without a stop."""
    state, columns = grammar.START, []
    while state >= grammar.START:
        column = choose(np.flatnonzero(automaton.step[state] != grammar.FORBIDDEN).tolist())
        state = int(automaton.step[state, column])
        columns += [] if state == grammar.STOPPED else [column]
    return columns, state


@pytest.mark.parametrize("digits", KINDS)
@QUIET
@given(wanted=NUMBERS, seed=st.integers(0, 2**32))
def test_whatever_is_chosen_the_answer_is_readable(tiny, digits, wanted, seed):
    tokenizer = load_tokenizer(tiny("llama", digits))
    automaton = grammar.numbers(tokenizer, wanted)
    columns, _ = walk(automaton, random.Random(seed).choice)
    text = automaton.text(tokenizer, columns)
    parts = text.split(wanted.separator)
    assert len(parts) == wanted.count
    assert all(re.fullmatch(rf"0|[1-9][0-9]{{0,{wanted.digits - 1}}}", part) for part in parts)
    assert len(columns) <= automaton.longest


@pytest.mark.parametrize("digits", KINDS)
@QUIET
@given(wanted=NUMBERS, data=st.data())
def test_every_readable_answer_can_be_written_in_the_tokenizer_s_own_way(tiny, digits, wanted, data):
    tokenizer = load_tokenizer(tiny("llama", digits))
    automaton = grammar.numbers(tokenizer, wanted)
    values = st.lists(st.integers(0, 10**wanted.digits - 1), min_size=wanted.count, max_size=wanted.count)
    ids = tokenizer.encode(wanted.separator.join(map(str, data.draw(values))))
    state = grammar.START
    for i in ids:
        state = int(automaton.step[state, automaton.ids.tolist().index(i)])
        assert state != grammar.FORBIDDEN
    assert state == grammar.DONE or grammar.STOPPED in automaton.step[state]


def test_merged_vocabularies_offer_several_characters_at_once(tiny):
    automaton = grammar.numbers(load_tokenizer(tiny("llama", "merged")), Numbers(3, 3))
    assert max(len(text) for text in automaton.texts) >= 3


def test_the_end_of_text_the_separator_and_a_line_break_stop_after_the_last_number(tiny):
    tokenizer = load_tokenizer(tiny())
    automaton = grammar.numbers(tokenizer, Numbers(1, 2))
    ids = automaton.ids.tolist()
    after_a_digit = automaton.step[automaton.step[grammar.START, ids.index(tokenizer.encode("4")[0])]]
    for i in (tokenizer.eos, tokenizer.encode(",")[0], tokenizer.encode("\n")[0]):
        assert after_a_digit[ids.index(i)] == grammar.STOPPED
        assert automaton.step[grammar.START, ids.index(i)] == grammar.FORBIDDEN


@pytest.mark.parametrize("wanted", [Numbers(0, 3), Numbers(3, 0), Numbers(3, 3, ""), Numbers(3, 3, "0")])
def test_a_grammar_that_says_nothing_is_refused(tiny, wanted):
    with pytest.raises(ConfigError, match="grammar needs"):
        grammar.numbers(load_tokenizer(tiny()), wanted)


def test_a_separator_that_the_vocabulary_cannot_write_is_refused(tiny):
    with pytest.raises(ConfigError, match="cannot write numbers with separator"):
        grammar.numbers(load_tokenizer(tiny()), Numbers(2, 3, "é"))


def test_a_line_of_free_text_skips_blank_tokens_and_ends_at_a_line_break(tiny):
    tokenizer = load_tokenizer(tiny())
    automaton = grammar.line(tokenizer, 9)
    state, columns = grammar.START, tokenizer.encode("\n\n12 people\n7")
    ends = [state := int(automaton.step[state, column]) for column in columns]
    assert ends.index(grammar.DONE) == len(columns) - 2
    assert automaton.text(tokenizer, columns[:-1]) == "12 people"


def test_the_module_needs_no_torch():
    source = Path(grammar.__file__).read_text(encoding="utf-8")
    assert "import torch" not in source
