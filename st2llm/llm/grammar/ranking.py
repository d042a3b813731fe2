"""Rankings of different candidates, byte by byte."""

from st2llm.errors import ConfigError
from st2llm.llm.grammar.word_lists import check_separator, check_words, stop_strings_of
from st2llm.types import Ranking


class RankingMachine:
    """A fixed number of different candidates. A state is a bit mask of the chosen ones and the text since the
    last.
    """

    def __init__(self, grammar: Ranking) -> None:
        _check_ranking(grammar)
        separator = grammar.separator.encode()
        words = [word.encode() for word in grammar.candidates]
        self._count, self._all = grammar.count, (1 << len(words)) - 1
        self._bit_of = {word: 1 << i for i, word in enumerate(words)}
        self._bit_before_separator = {word + separator: 1 << i for i, word in enumerate(words)}
        self._prefixes: dict[bytes, int] = {}
        self._separator_prefixes: dict[bytes, int] = {}
        for word, bit in self._bit_of.items():
            for n in range(len(word) + 1):
                self._prefixes[word[:n]] = self._prefixes.get(word[:n], 0) | bit
            for n in range(1, len(separator)):
                tail = word + separator[:n]
                self._separator_prefixes[tail] = self._separator_prefixes.get(tail, 0) | bit
        self.start = (0, b"")
        self.stop_strings: tuple[bytes, ...] = stop_strings_of(separator)
        self.alphabet = grammar.separator + "".join(grammar.candidates)
        longest = sorted(map(len, words), reverse=True)[: grammar.count]
        self.max_bytes = sum(longest) + (grammar.count - 1) * len(separator)

    def step(self, state: tuple[int, bytes], byte: int) -> tuple[int, bytes] | None:
        chosen, written = state
        after = written + bytes([byte])
        remaining = self._all & ~chosen
        more_items = chosen.bit_count() + 1 < self._count
        if more_items and (bit := self._bit_before_separator.get(after, 0) & remaining):
            return chosen | bit, b""
        candidates = self._prefixes.get(after, 0) | (
            self._separator_prefixes.get(after, 0) if more_items else 0
        )
        return (chosen, after) if candidates & remaining else None

    def accepts(self, state: tuple[int, bytes]) -> bool:
        chosen, written = state
        return chosen.bit_count() + 1 == self._count and bool(self._bit_of.get(written, 0) & ~chosen)

    def is_final(self, state: tuple[int, bytes]) -> bool:
        chosen, written = state
        return self.accepts(state) and self._prefixes[written] & ~chosen == self._bit_of[written]


def _check_ranking(grammar: Ranking) -> None:
    check_words("candidates", grammar.candidates)
    if not 1 <= grammar.count <= len(grammar.candidates):
        raise ConfigError(
            f"A ranking needs a count from 1 to its {len(grammar.candidates)} candidates, but count is "
            f"{grammar.count}. Lower the count or give more candidates."
        )
    check_separator("ranking", grammar.separator, grammar.candidates)
