"""Deterministic byte machines that describe the answers of a grammar."""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ByteMachine(Protocol):
    """Says of an answer's UTF-8 bytes, one after the other, which may follow; from each place an end can be reached.

    letters: those of its answers. longest: the most bytes of an answer. stops: words beside a line break that
    say that an answer is whole where it may be. start: the first place.
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
        """Where a byte leads; None where it may not follow."""
        ...

    def accepts(self, state: Any) -> bool:
        """Whether the answer is whole as it stands."""
        ...

    def is_final(self, state: Any) -> bool:
        """Whether the answer is whole and no byte may follow."""
        ...


class ChoiceMachine:
    """One of these words. A place is what was written so far."""

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
    """One machine after the other. A place is which of them, and the place within.

    No machine's continuation may be the next one's beginning.
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
    """One machine after the other, where a continuation may also be the next one's beginning.

    A place is all that can be meant by what was written: which machine, and the place within.
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
    """An answer behind a blank."""
    return SequenceMachine((ChoiceMachine((" ",)), inner), inner.stop_strings)
