"""The tokens that a machine allows: its bytes walked along the trie of a vocabulary, place by place. Without torch."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from st2llm.errors import ConfigError
from st2llm.llm.grammar.automaton import STOPPED, WHOLE, Ended, refuse
from st2llm.llm.grammar.byte_machines import Machine
from st2llm.llm.grammar.vocabulary import Vocabulary

_MOST_PLACES = 20_000
"""Places remembered at once; beyond it they are worked out anew."""


@dataclass(frozen=True, eq=False)
class Place:
    """An answer on its way: the tokens that may follow, and where each leads (None: it is a stop)."""

    automaton: "NarrowAutomaton"
    ids: Int64[np.ndarray, " _"]
    targets: Mapping[int, Hashable | None]
    ended: bool = False
    stopped: bool = False
    cut: bool = False

    def after(self, token: int) -> "Place | Ended":
        if token not in self.targets:
            raise refuse(token, self.ids)
        target = self.targets[token]
        return STOPPED if target is None else self.automaton.at(target)


class NarrowAutomaton:
    """Answers that a machine describes, over any vocabulary that has all of the machine's letters.

    Each letter is a token, or all its bytes are, so that from every place an end can be reached. Raises ConfigError
    where the vocabulary lacks a letter.
    """

    def __init__(self, vocabulary: Vocabulary, machine: Machine) -> None:
        self._vocabulary, self._machine = vocabulary, machine
        self._alphabet = frozenset(machine.letters.encode())
        if missing := vocabulary.missing(machine.letters):
            raise ConfigError(
                f"This model's vocabulary cannot write {missing!r}, which the answer's grammar asks for. Choose "
                f"other options, candidates or separators."
            )
        stops = {vocabulary.eos, *vocabulary.breaks, *(vocabulary.index.get(word) for word in machine.stops)}
        self._stops: dict[int, None] = {token: None for token in stops if token is not None}
        self._places: dict[Hashable, Place | Ended] = {}
        self._ids: dict[bytes, Int64[np.ndarray, " _"]] = {}
        self.longest = machine.longest
        self.start = self.at(machine.start)

    def text(self, tokens: Sequence[int]) -> str:
        return self._vocabulary.text(tokens)

    def at(self, place: Any) -> Place | Ended:
        """The state of a machine's place: one object as long as it is remembered."""
        if place not in self._places:
            if len(self._places) >= _MOST_PLACES:
                self._places.clear()
            self._places[place] = self._state(place)
        return self._places[place]

    def begin(self, written: bytes) -> Place | Ended | None:
        """The state of an answer that begins so; None where none does."""
        place: Hashable | None = self._machine.start
        for byte in written:
            place = None if place is None else self._machine.step(place, byte)
        return None if place is None else self.at(place)

    def _state(self, place: Any) -> Place | Ended:
        if self._machine.must_stop(place):
            return WHOLE
        targets: dict[int, Hashable | None] = dict(self._walk(place))
        if self._machine.may_stop(place):
            if not targets:
                return WHOLE
            targets = self._stops | targets
        ids = np.array(sorted(targets), dtype=np.int64)
        return Place(self, self._ids.setdefault(ids.tobytes(), ids), targets)

    def _walk(self, place: Any) -> list[tuple[int, Hashable]]:
        """Tokens that the machine takes whole, and the place behind each."""
        found = []
        open_ends = [(self._vocabulary.root, place)]
        while open_ends:
            node, here = open_ends.pop()
            children = node.children
            for byte in children.keys() & self._alphabet:
                there = self._machine.step(here, byte)
                if there is not None:
                    found += [(token, there) for token in children[byte].tokens]
                    open_ends.append((children[byte], there))
        return found
