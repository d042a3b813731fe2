"""Which tokens may follow: an answer's grammar as an automaton over the tokenizer's vocabulary, without torch."""

import functools

from st2llm.llm.grammar.automaton import Automaton, Resumable, State
from st2llm.llm.grammar.byte_machines import machine, spaced
from st2llm.llm.grammar.free_text import LineAutomaton, ThoughtAutomaton
from st2llm.llm.grammar.json_schema import JsonAutomaton
from st2llm.llm.grammar.token_automaton import NarrowAutomaton
from st2llm.llm.grammar.vocabulary import Vocabulary, vocabulary
from st2llm.llm.tokenizer import FastTokenizer
from st2llm.types import FreeText, Grammar, Json

__all__ = ["FREE_TOKENS", "Automaton", "State", "automaton"]

FREE_TOKENS = 64
"""The longest answer of a prompt without a grammar."""


@functools.lru_cache(maxsize=256)
def automaton(tokenizer: FastTokenizer, grammar: Grammar | None) -> Automaton:
    """The automaton of a grammar; None is one line of free text.

    Raises ConfigError for a grammar that says nothing or contradicts itself, and for a vocabulary that cannot
    write it.
    """
    words = vocabulary(tokenizer)
    match grammar:
        case None:
            return LineAutomaton(words, FREE_TOKENS)
        case FreeText():
            return _free(words, grammar)
        case Json(schema):
            return JsonAutomaton(words, schema)
        case _:
            return NarrowAutomaton(words, machine(grammar))


def _free(words: Vocabulary, grammar: FreeText) -> Automaton:
    """Free text; where it ends in an answer, a blank stands between the cue and it."""
    if grammar.answer is None:
        return LineAutomaton(words, grammar.tokens)
    if isinstance(grammar.answer, Json):
        inner: Resumable = JsonAutomaton(words, grammar.answer.schema, spaced=True)
    else:
        inner = NarrowAutomaton(words, spaced(machine(grammar.answer)))
    return ThoughtAutomaton(words, grammar.tokens, grammar.cue, inner)
