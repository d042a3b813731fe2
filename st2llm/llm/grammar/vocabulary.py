"""A tokenizer's vocabulary as bytes and as a trie: what each token writes inside a text. Without torch."""

import functools
import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from st2llm.errors import ConfigError
from st2llm.llm.tokenizer import FastTokenizer

_CONTINUATIONS = {bytes([byte]) for byte in range(0x80, 0xC0)}
"""The UTF-8 continuation bytes."""
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class TrieNode:
    """A node in the trie of a sorted word list, expanded when it is visited."""

    __slots__ = ("_children", "_depth", "_high", "_low", "_trie")

    def __init__(self, trie: "tuple[list[bytes], list[int]]", low: int, high: int, depth: int) -> None:
        self._trie, self._low, self._high, self._depth = trie, low, high, depth
        self._children: dict[int, TrieNode] | None = None

    @property
    def tokens(self) -> list[int]:
        """Tokens that end here."""
        words, tokens = self._trie
        end = self._low
        while end < self._high and len(words[end]) == self._depth:
            end += 1
        return tokens[self._low : end]

    @property
    def children(self) -> "Mapping[int, TrieNode]":
        """The child nodes by byte."""
        if self._children is None:
            self._children = dict(self._expand())
        return self._children

    def _expand(self) -> "list[tuple[int, TrieNode]]":
        words, _ = self._trie
        depth = self._depth + 1
        at = self._low + len(self.tokens)
        children = []
        while at < self._high:
            end = bisect_right(words, words[at][:depth], lo=at, hi=self._high, key=lambda word: word[:depth])
            children.append((words[at][self._depth], TrieNode(self._trie, at, end, depth)))
            at = end
        return children


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The bytes of every token.

    token_bytes: the bytes of each token, None for a control token. token_of: a token for each byte string.
    root: of the trie of the same byte strings. Tokens that are only part of a character are in both where every
    UTF-8 continuation byte is a token, so that a character once begun can be completed. line_breaks: tokens
    that are only line breaks. control_tokens: tokens without text.
    """

    tokenizer: FastTokenizer
    token_bytes: tuple[bytes | None, ...]
    token_of: Mapping[bytes, int]
    root: TrieNode
    line_breaks: tuple[int, ...]
    control_tokens: frozenset[int]

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        return self.tokenizer.ends

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token: empty for control tokens and tokens that only pad the embedding table."""
        return (self.token_bytes[token] or b"") if token < len(self.token_bytes) else b""

    def join(self, tokens: Sequence[int]) -> bytes:
        """The bytes of these tokens."""
        return b"".join(map(self.bytes_of, tokens))

    def text(self, tokens: Sequence[int]) -> str:
        """The text of these tokens; an incomplete character is U+FFFD."""
        return self.join(tokens).decode(errors="replace")

    def unwritable(self, characters: str) -> str:
        """The characters that neither a single token nor tokens of their bytes can write."""
        return "".join(letter for letter in sorted(set(characters)) if not self._can_write(letter.encode()))

    def _can_write(self, character: bytes) -> bool:
        prefix_lengths = (n for n in range(1, len(character) + 1) if character[:n] in self.token_of)
        return any(all(bytes([byte]) in self.token_of for byte in character[n:]) for n in prefix_lengths)

    def tokenize_inside(self, text: str) -> list[int]:
        """The tokens that write `text` inside a longer text: the tokenizer's own where they do so exactly.

        Raises ConfigError for a character that the vocabulary cannot write.
        """
        tokens = self.tokenizer.encode_continuation(text)
        if all(map(self.bytes_of, tokens)) and self.join(tokens) == text.encode():
            return tokens
        return self._tokenize_greedily(text)

    def _tokenize_greedily(self, text: str) -> list[int]:
        tokens, rest = [], text.encode()
        while rest:
            size = next((n for n in range(len(rest), 0, -1) if rest[:n] in self.token_of), 0)
            if not size:
                raise ConfigError(
                    f"This model's vocabulary cannot write {text!r}: it has no token for {rest[:4]!r}. "
                    f"Choose other words."
                )
            tokens.append(self.token_of[rest[:size]])
            rest = rest[size:]
        return tokens


@functools.lru_cache(maxsize=8)
def vocabulary_of(tokenizer: FastTokenizer) -> Vocabulary:
    """The byte vocabulary of a tokenizer, computed once."""
    added = tokenizer.tokenizer.get_added_tokens_decoder()
    control_tokens = {token for token, entry in added.items() if entry.special}
    control_tokens |= set(tokenizer.ends)
    token_bytes = _token_bytes(tokenizer)
    for token, entry in added.items():
        token_bytes[token] = entry.content.encode()
    for token in control_tokens:
        token_bytes[token] = None
    pairs = sorted((word, token) for token, word in enumerate(token_bytes) if word)
    if not {word for word, _ in pairs} >= _CONTINUATIONS:
        pairs = [(word, token) for word, token in pairs if _is_valid_utf8(word)]
    trie = [word for word, _ in pairs], [token for _, token in pairs]
    return Vocabulary(
        tokenizer=tokenizer,
        token_bytes=tuple(token_bytes),
        token_of=dict(reversed(pairs)),
        root=TrieNode(trie, 0, len(pairs), 0),
        line_breaks=tuple(token for word, token in pairs if not word.strip(b"\r\n")),
        control_tokens=frozenset(control_tokens),
    )


@functools.lru_cache(maxsize=8)
def token_texts(tokenizer: FastTokenizer) -> tuple[str, ...]:
    """The text of every token of the vocabulary as it appears inside a text.

    Each is decoded after a digit, since some decoders drop the leading space of a text's first token.
    """
    anchor = tokenizer.encode("0")[-1]
    before = len(tokenizer.decode([anchor]))
    pairs = [[anchor, i] for i in range(tokenizer.vocab_size)]
    return tuple(text[before:] for text in tokenizer.tokenizer.decode_batch(pairs, skip_special_tokens=False))


def _token_bytes(tokenizer: FastTokenizer) -> list[bytes | None]:
    """The bytes of each token according to the tokenizer's decoder."""
    decoders = _decoders(tokenizer)
    entries = tokenizer.tokenizer.get_vocab(with_added_tokens=False)
    token_bytes: list[bytes | None]
    if "ByteLevel" in decoders:
        token_bytes, byte_of_character = [None] * tokenizer.vocab_size, _byte_of_character()
        for name, token in entries.items():
            token_bytes[token] = _bytes_of_name(name, byte_of_character)
        return token_bytes
    token_bytes = [None if "\ufffd" in text else text.encode() for text in token_texts(tokenizer)]
    if "ByteFallback" in decoders:
        for name, token in entries.items():
            if part := _BYTE_TOKEN.fullmatch(name):
                token_bytes[token] = bytes([int(part.group(1), 16)])
    return token_bytes


def _decoders(tokenizer: FastTokenizer) -> set[str]:
    """The names of the tokenizer's decoding steps."""
    decoder = tokenizer.tokenizer.decoder
    settings = {} if decoder is None else json.loads(decoder.__getstate__())
    return {str(step.get("type")) for step in (settings, *settings.get("decoders", ()))}


@functools.cache
def _byte_of_character() -> dict[int, int]:
    """The byte that each character of a byte-level vocabulary stands for (Radford et al. 2019); others map beyond
    Latin-1.
    """
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    unmapped = dict.fromkeys(hidden, 0xFFFF)
    return unmapped | {byte: byte for byte in shown} | {256 + i: byte for i, byte in enumerate(hidden)}


def _bytes_of_name(name: str, byte_of_character: dict[int, int]) -> bytes:
    try:
        return name.translate(byte_of_character).encode("latin-1")
    except UnicodeEncodeError:
        return name.encode()


def _is_valid_utf8(word: bytes) -> bool:
    try:
        word.decode()
    except UnicodeDecodeError:
        return False
    return True
