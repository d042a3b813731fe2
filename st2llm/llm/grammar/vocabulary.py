"""A tokenizer's vocabulary as bytes, and a trie of them: what each token writes inside a text. Without torch."""

import functools
import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from st2llm.errors import ConfigError
from st2llm.llm.tokenizer import FastTokenizer

_CONTINUATIONS = {bytes([byte]) for byte in range(0x80, 0xC0)}
"""The bytes that follow the first of a letter in UTF-8."""
_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")


class Node:
    """A place in the trie of a sorted list of words, opened when it is looked at."""

    __slots__ = ("_children", "_depth", "_high", "_low", "_trie")

    def __init__(self, trie: "tuple[list[bytes], list[int]]", low: int, high: int, depth: int) -> None:
        self._trie, self._low, self._high, self._depth = trie, low, high, depth
        self._children: dict[int, Node] | None = None

    @property
    def tokens(self) -> list[int]:
        """Tokens that end here."""
        words, tokens = self._trie
        end = self._low
        while end < self._high and len(words[end]) == self._depth:
            end += 1
        return tokens[self._low : end]

    @property
    def children(self) -> "Mapping[int, Node]":
        """The nodes that one more byte leads to."""
        if self._children is None:
            self._children = dict(self._opened())
        return self._children

    def _opened(self) -> "list[tuple[int, Node]]":
        words, _ = self._trie
        depth = self._depth + 1
        at = self._low + len(self.tokens)
        found = []
        while at < self._high:
            end = bisect_right(words, words[at][:depth], lo=at, hi=self._high, key=lambda word: word[:depth])
            found.append((words[at][self._depth], Node(self._trie, at, end, depth)))
            at = end
        return found


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What tokens write.

    words: the bytes of each token, None for a control token. index: a token for the bytes that it writes. root: of
    the trie of the same words. Tokens that are a part of a letter only stand in both where each byte that may go on
    in a letter is a token, so that a letter once begun can be finished. breaks: tokens that are line breaks alone.
    controls: tokens that are no words.
    """

    tokenizer: FastTokenizer
    words: tuple[bytes | None, ...]
    index: Mapping[bytes, int]
    root: Node
    breaks: tuple[int, ...]
    controls: frozenset[int]

    @property
    def eos(self) -> int | None:
        return self.tokenizer.eos

    def word(self, token: int) -> bytes:
        """What a token writes: nothing for a control token, or one that only pads the model's embedding table."""
        return (self.words[token] or b"") if token < len(self.words) else b""

    def joined(self, tokens: Sequence[int]) -> bytes:
        """What these tokens write."""
        return b"".join(map(self.word, tokens))

    def text(self, tokens: Sequence[int]) -> str:
        """The words of these tokens; a letter that is not whole is U+FFFD."""
        return self.joined(tokens).decode(errors="replace")

    def missing(self, letters: str) -> str:
        """Those of the letters that neither a token of their own nor tokens of their bytes can write."""
        return "".join(letter for letter in sorted(set(letters)) if not self._writes(letter.encode()))

    def _writes(self, letter: bytes) -> bool:
        begun = (n for n in range(1, len(letter) + 1) if letter[:n] in self.index)
        return any(all(bytes([byte]) in self.index for byte in letter[n:]) for n in begun)

    def written(self, text: str) -> list[int]:
        """The tokens that write `text` inside a longer text: the tokenizer's own where they do so exactly.

        Raises ConfigError for a letter that the vocabulary cannot write.
        """
        wanted, before = text.encode(), self.tokenizer.encode("0")
        behind = self.tokenizer.encode(f"0{text}")
        for tokens in (behind[len(before) :], self.tokenizer.encode(text)):
            if all(map(self.word, tokens)) and self.joined(tokens) == wanted:
                return tokens
        return self._greedy(text)

    def _greedy(self, text: str) -> list[int]:
        tokens, rest = [], text.encode()
        while rest:
            size = next((n for n in range(len(rest), 0, -1) if rest[:n] in self.index), 0)
            if not size:
                raise ConfigError(
                    f"This model's vocabulary cannot write {text!r}: it has no token for {rest[:4]!r}. "
                    f"Choose other words."
                )
            tokens.append(self.index[rest[:size]])
            rest = rest[size:]
        return tokens


@functools.lru_cache(maxsize=8)
def vocabulary(tokenizer: FastTokenizer) -> Vocabulary:
    """The vocabulary of a tokenizer as bytes, worked out once."""
    added = tokenizer.tokenizer.get_added_tokens_decoder()
    controls = {token for token, entry in added.items() if entry.special}
    controls |= set() if tokenizer.eos is None else {tokenizer.eos}
    words = _words(tokenizer)
    for token, entry in added.items():
        words[token] = entry.content.encode()
    for token in controls:
        words[token] = None
    pairs = sorted((word, token) for token, word in enumerate(words) if word)
    if not {word for word, _ in pairs} >= _CONTINUATIONS:
        pairs = [(word, token) for word, token in pairs if _whole(word)]
    trie = [word for word, _ in pairs], [token for _, token in pairs]
    return Vocabulary(
        tokenizer=tokenizer,
        words=tuple(words),
        index=dict(reversed(pairs)),
        root=Node(trie, 0, len(pairs), 0),
        breaks=tuple(token for word, token in pairs if not word.strip(b"\r\n")),
        controls=frozenset(controls),
    )


@functools.lru_cache(maxsize=8)
def token_texts(tokenizer: FastTokenizer) -> tuple[str, ...]:
    """How every token of the vocabulary reads inside a text.

    Each is decoded behind a digit, since some decoders drop the space of a text's first token.
    """
    anchor = tokenizer.encode("0")[-1]
    before = len(tokenizer.decode([anchor]))
    pairs = [[anchor, i] for i in range(tokenizer.vocab_size)]
    return tuple(text[before:] for text in tokenizer.tokenizer.decode_batch(pairs, skip_special_tokens=False))


def _words(tokenizer: FastTokenizer) -> list[bytes | None]:
    """The bytes of each token as the tokenizer's decoder has them."""
    kinds = _decoders(tokenizer)
    entries = tokenizer.tokenizer.get_vocab(with_added_tokens=False)
    words: list[bytes | None]
    if "ByteLevel" in kinds:
        words, letters = [None] * tokenizer.vocab_size, _letters()
        for name, token in entries.items():
            words[token] = _bytes_of(name, letters)
        return words
    words = [None if "\ufffd" in text else text.encode() for text in token_texts(tokenizer)]
    if "ByteFallback" in kinds:
        for name, token in entries.items():
            if part := _FALLBACK.fullmatch(name):
                words[token] = bytes([int(part.group(1), 16)])
    return words


def _decoders(tokenizer: FastTokenizer) -> set[str]:
    """The names of the steps that the tokenizer decodes by."""
    decoder = tokenizer.tokenizer.decoder
    settings = {} if decoder is None else json.loads(decoder.__getstate__())
    return {str(step.get("type")) for step in (settings, *settings.get("decoders", ()))}


@functools.cache
def _letters() -> dict[int, int]:
    """The byte that each letter of a byte-level vocabulary stands for (Radford et al. 2019); others beyond Latin-1."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    strange = dict.fromkeys(hidden, 0xFFFF)
    return strange | {byte: byte for byte in shown} | {256 + i: byte for i, byte in enumerate(hidden)}


def _bytes_of(name: str, letters: dict[int, int]) -> bytes:
    try:
        return name.translate(letters).encode("latin-1")
    except UnicodeEncodeError:
        return name.encode()


def _whole(word: bytes) -> bool:
    try:
        word.decode()
    except UnicodeDecodeError:
        return False
    return True
