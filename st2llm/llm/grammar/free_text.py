"""Free text: one line of it, or thoughts that end in an answer. Without torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from st2llm.errors import ConfigError
from st2llm.llm.grammar.automaton import CUT, STOPPED, WHOLE, Resumable, State, refuse
from st2llm.llm.grammar.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Open:
    """A state from which every token may follow."""

    leads: Callable[[int], State]
    ids: None = None
    ended: bool = False
    stopped: bool = False
    cut: bool = False

    def after(self, token: int) -> State:
        return self.leads(token)


@dataclass(frozen=True, eq=False)
class Forced:
    """A state from which one token follows."""

    ids: Int64[np.ndarray, " _"]
    behind: State
    ended: bool = False
    stopped: bool = False
    cut: bool = False

    def after(self, token: int) -> State:
        if token != self.ids[0]:
            raise refuse(token, self.ids)
        return self.behind


class LineAutomaton:
    """The first line that is not blank, at most `tokens` tokens; a control token stops it."""

    def __init__(self, vocabulary: Vocabulary, tokens: int) -> None:
        _check_tokens(tokens)
        self._vocabulary, self._states = vocabulary, dict[tuple[int, bool], Open]()
        self.longest = tokens
        self.start = self._at(0, False)

    def text(self, tokens: Sequence[int]) -> str:
        return self._vocabulary.text(tokens).lstrip().split("\n")[0]

    def _at(self, taken: int, talking: bool) -> Open:
        """The state after so many tokens; talking: something other than blanks was said."""
        if (taken, talking) not in self._states:
            self._states[taken, talking] = Open(lambda token: self._after(taken, talking, token))
        return self._states[taken, talking]

    def _after(self, taken: int, talking: bool, token: int) -> State:
        if token in self._vocabulary.controls:
            return STOPPED
        word = self._vocabulary.word(token)
        said = word if talking else word.lstrip()
        if b"\n" in said:
            return WHOLE
        return CUT if taken + 1 == self.longest else self._at(taken + 1, talking or bool(said))


class ThoughtAutomaton:
    """At most `tokens` tokens of thoughts, then a line of `cue`, a blank and an answer of `inner`'s grammar.

    The model may write the cue itself, at the start of a line. Where it has not when the tokens are used up or a
    control token came, a line break and the cue are forced. Raises ConfigError for a cue that is no line.
    """

    def __init__(self, vocabulary: Vocabulary, tokens: int, cue: str, inner: Resumable) -> None:
        _check_tokens(tokens)
        if not cue or cue.strip() != cue or cue.splitlines() != [cue]:
            raise ConfigError(
                f"The cue before an answer must be words of one line without blanks around, but it is {cue!r}. "
                f"Correct `cue`, for instance 'Answer:'."
            )
        self._vocabulary, self._inner = vocabulary, inner
        self._tokens, self._cue = tokens, cue.encode()
        forced = vocabulary.written(f"\n{cue}")
        self._forced: State = inner.start
        for token in reversed(forced):
            self._forced = Forced(np.array([token], dtype=np.int64), self._forced)
        self._states: dict[tuple[int, int | None], Open] = {}
        self.longest = tokens + len(forced) + inner.longest
        self.start = self._at(0, 0)

    def text(self, tokens: Sequence[int]) -> str:
        return self._vocabulary.text(tokens)

    def _at(self, taken: int, matched: int | None) -> Open:
        """The state after so many tokens and bytes of the cue; None: this line is none that begins with it."""
        if (taken, matched) not in self._states:
            self._states[taken, matched] = Open(lambda token: self._after(taken, matched, token))
        return self._states[taken, matched]

    def _after(self, taken: int, matched: int | None, token: int) -> State:
        if token in self._vocabulary.controls:
            return self._forced
        word = self._vocabulary.word(token)
        for i, byte in enumerate(word):
            matched = self._match(matched, byte)
            if matched == len(self._cue):
                begun = self._answer(word[i + 1 :])
                if begun is not None:
                    return begun
                matched = None
        return self._forced if taken + 1 == self._tokens else self._at(taken + 1, matched)

    def _match(self, matched: int | None, byte: int) -> int | None:
        if byte in b"\r\n":
            return 0
        if matched is not None and byte == self._cue[matched]:
            return matched + 1
        return 0 if matched == 0 and byte in b" \t" else None

    def _answer(self, rest: bytes) -> State | None:
        """The answer that a token began which runs beyond the cue, with the blank or without."""
        begun = self._inner.begin(rest)
        return begun if begun is not None or not rest else self._inner.begin(b" " + rest)


def _check_tokens(tokens: int) -> None:
    if tokens < 1:
        raise ConfigError(f"Free text needs at least 1 token, but has {tokens}. Raise `tokens`.")
