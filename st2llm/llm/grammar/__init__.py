"""Constrained decoding: a grammar as an automaton over the tokenizer's vocabulary, without torch."""

import functools

from st2llm.llm.grammar.automaton import Automaton, AutomatonState, ResumableAutomaton
from st2llm.llm.grammar.build_machine import build_machine
from st2llm.llm.grammar.byte_machines import after_space
from st2llm.llm.grammar.free_text import ChainOfThoughtAutomaton, LineAutomaton
from st2llm.llm.grammar.json_schema import JsonAutomaton
from st2llm.llm.grammar.token_automaton import TokenAutomaton
from st2llm.llm.grammar.vocabulary import Vocabulary, vocabulary_of
from st2llm.llm.tokenizer import FastTokenizer
from st2llm.types import FreeText, Grammar, Json

__all__ = ["FREE_TOKENS", "Automaton", "AutomatonState", "build_automaton"]

FREE_TOKENS = 64
"""The most tokens of an answer to a prompt without a grammar."""


@functools.lru_cache(maxsize=256)
def build_automaton(tokenizer: FastTokenizer, grammar: Grammar | None) -> Automaton:
    """The automaton of a grammar; None means one line of free text.

    Raises ConfigError for an empty or contradictory grammar, and for a vocabulary that cannot write its
    answers.
    """
    token_vocabulary = vocabulary_of(tokenizer)
    match grammar:
        case None:
            return LineAutomaton(token_vocabulary, FREE_TOKENS)
        case FreeText():
            return _free_text_automaton(token_vocabulary, grammar)
        case Json(schema):
            return JsonAutomaton(token_vocabulary, schema)
        case _:
            return TokenAutomaton(token_vocabulary, build_machine(grammar))


def _free_text_automaton(token_vocabulary: Vocabulary, grammar: FreeText) -> Automaton:
    """Free text; where it ends in an answer, a space separates the cue from the answer."""
    if grammar.answer is None:
        return LineAutomaton(token_vocabulary, grammar.tokens)
    if isinstance(grammar.answer, Json):
        inner: ResumableAutomaton = JsonAutomaton(token_vocabulary, grammar.answer.schema, spaced=True)
    else:
        inner = TokenAutomaton(token_vocabulary, after_space(build_machine(grammar.answer)))
    return ChainOfThoughtAutomaton(token_vocabulary, grammar.tokens, grammar.cue, inner)
