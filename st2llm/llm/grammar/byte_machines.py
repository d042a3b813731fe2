"""Deterministic byte machines that describe the answers of a grammar."""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ByteMachine(Protocol):
    """A deterministic automaton over the UTF-8 bytes of an answer; an end can be reached from every state.

    alphabet: characters of its answers. max_bytes: length of the longest answer. stop_strings: strings besides
    a line break that end an answer where it may be complete. start: the initial state.
    """

    @property
    def alphabet(self) -> str: ...

    @property
    def max_bytes(self) -> int: ...

    @property
    def stop_strings(self) -> tuple[bytes, ...]: ...

    @property
    def start(self) -> Hashable: ...

    def step(self, state: Any, byte: int) -> Hashable | None:
        """The next state; None where the byte is not allowed."""
        ...

    def accepts(self, state: Any) -> bool:
        """Whether the answer is complete in this state."""
        ...

    def is_final(self, state: Any) -> bool:
        """Whether the answer is complete and no byte may follow."""
        ...


class ChoiceMachine:
    """One of several words. A state is the text written so far."""

    start = b""
    stop_strings: tuple[bytes, ...] = ()

    def __init__(self, words: Sequence[str]) -> None:
        self._words = {word.encode() for word in words}
        self._prefixes = {word[:n] for word in self._words for n in range(len(word) + 1)}
        longer = {word[:n] for word in self._words for n in range(len(word))}
        self._final = self._words - longer
        self.alphabet = "".join(words)
        self.max_bytes = max(map(len, self._words))

    def step(self, state: bytes, byte: int) -> bytes | None:
        after = state + bytes([byte])
        return after if after in self._prefixes else None

    def accepts(self, state: bytes) -> bool:
        return state in self._words

    def is_final(self, state: bytes) -> bool:
        return state in self._final


class SequenceMachine:
    """Machines one after another. A state is the index of the current machine and its state.

    A continuation of a machine must not be a beginning of the next one.
    """

    def __init__(self, parts: Sequence[ByteMachine], stops: tuple[bytes, ...] = ()) -> None:
        self._parts, self.stop_strings = tuple(parts), stops
        self.start: tuple[int, Hashable] = (0, parts[0].start)
        self.alphabet = "".join({part.alphabet for part in parts})
        self.max_bytes = sum(part.max_bytes for part in parts)

    def step(self, state: tuple[int, Hashable], byte: int) -> tuple[int, Hashable] | None:
        index, inner = state
        part = self._parts[index]
        after = part.step(inner, byte)
        if after is None and part.accepts(inner) and index + 1 < len(self._parts):
            index, part = index + 1, self._parts[index + 1]
            after = part.step(part.start, byte)
        return None if after is None else (index, after)

    def accepts(self, state: tuple[int, Hashable]) -> bool:
        return state[0] == len(self._parts) - 1 and self._parts[-1].accepts(state[1])

    def is_final(self, state: tuple[int, Hashable]) -> bool:
        return state[0] == len(self._parts) - 1 and self._parts[-1].is_final(state[1])


class AmbiguousSequenceMachine:
    """Machines one after another, where a continuation may also be a beginning of the next one.

    A state is the set of all readings of the text: index of the machine and its state.
    """

    def __init__(self, parts: Sequence[ByteMachine], stops: tuple[bytes, ...] = ()) -> None:
        self._parts, self.stop_strings = tuple(parts), stops
        self.start: frozenset[tuple[int, Hashable]] = frozenset({(0, parts[0].start)})
        self.alphabet = "".join({part.alphabet for part in parts})
        self.max_bytes = sum(part.max_bytes for part in parts)

    def step(
        self, state: frozenset[tuple[int, Hashable]], byte: int
    ) -> frozenset[tuple[int, Hashable]] | None:
        return (
            frozenset(
                successor for index, inner in state for successor in self._successors(index, inner, byte)
            )
            or None
        )

    def accepts(self, state: frozenset[tuple[int, Hashable]]) -> bool:
        last = len(self._parts) - 1
        return any(index == last and self._parts[index].accepts(inner) for index, inner in state)

    def is_final(self, state: frozenset[tuple[int, Hashable]]) -> bool:
        last = len(self._parts) - 1
        return all(index == last and self._parts[index].is_final(inner) for index, inner in state)

    def _successors(self, index: int, inner: Any, byte: int) -> list[tuple[int, Hashable]]:
        part, successors = self._parts[index], []
        if (after := part.step(inner, byte)) is not None:
            successors.append((index, after))
        if index + 1 < len(self._parts) and part.accepts(inner):
            follower = self._parts[index + 1]
            if (after := follower.step(follower.start, byte)) is not None:
                successors.append((index + 1, after))
        return successors


def after_space(inner: ByteMachine) -> ByteMachine:
    """The machine of an answer that follows a space."""
    return SequenceMachine((ChoiceMachine((" ",)), inner), inner.stop_strings)
