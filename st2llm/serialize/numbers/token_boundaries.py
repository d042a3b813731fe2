"""Checks that a tokenizer always ends a token between a value and the next separator, which fast_tokenize relies on.

A text of values is cut before each separator: `12`, `,7`, `,x`. If no token crosses a cut, and the tokens between two
cuts do not depend on the text outside them, then the ids of the text are the concatenated ids of its pieces. Both
conditions are checked on the parts of the tokenizer:

- added tokens are matched in the raw text, so none may consist of the text's letters alone;
- the normalizer must be absent or leave ASCII unchanged;
- a pre-tokenizer that isolates digits cuts at each end of a run of digits, at any position;
- the splitting patterns of GPT-2, Llama 3 and Qwen 2 read from left to right and never continue after a run of letters
  or of digits; they look ahead only after blanks. So a piece ends where a value ends and a sign or blank follows, and
  the match since the last cut does not depend on the text after it;
- where no pattern splits, byte-pair merges act on the whole text. No merge crosses a cut if no entry of the vocabulary
  contains the two letters beside it; then the merges on the two sides are independent.
"""

import functools
import json
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from st2llm.serialize.numbers.batch import WordTable

_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
_BEHIND = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = frozenset(
    {
        rf"{_CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+",
        rf"(?i:{_CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_BEHIND}",
        rf"(?i:{_CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_BEHIND}",
    }
)
"""GPT-2's, Llama 3's and Qwen 2's."""
_KEEP_ASCII = ("NFC", "NFD", "NFKC", "NFKD")


def boundary_violation(tokenizer: Tokenizer, word_table: WordTable) -> str:
    """Why the cuts cannot be shown to hold for texts of these words; '' where they can."""
    letters = set(word_table.separator).union(*word_table.words)
    settings = _settings(tokenizer)
    if any(not (letter.isascii() and letter.isprintable()) or letter == "'" for letter in letters):
        return "the words hold other letters than printable ASCII, or an apostrophe"
    if any(set(token["content"]) <= letters for token in settings["added_tokens"]):
        return "an added token is made of the words' letters"
    if settings["truncation"] or settings["padding"]:
        return "texts are truncated or padded"
    kept = all(part["type"] in _KEEP_ASCII for part in _parts(settings["normalizer"], "normalizers"))
    if not kept:
        return "the text is normalized"
    if settings["model"].get("dropout"):
        return "merges are dropped at random"
    ends = {word[-1] for word in word_table.words}
    return _uncut(settings, ends, word_table.separator[0], letters)


def _uncut(settings: Mapping[str, Any], ends: set[str], separator: str, letters: set[str]) -> str:
    """Why a token may cross from the end of a word to the separator; '' where none does."""
    digits, pattern, bytewise = False, False, False
    for part in _parts(settings["pre_tokenizer"], "pretokenizers"):
        match part:
            case {"type": "Digits"}:
                digits = digits or not pattern
            case {"type": "ByteLevel", "add_prefix_space": False}:
                if part["use_regex"] and pattern:
                    return "the text is split by two patterns"
                pattern, bytewise = pattern or part["use_regex"], True
            case {"type": "Split", "behavior": "Isolated", "invert": False, "pattern": {"Regex": regex}}:
                if pattern or regex not in PATTERNS:
                    return "the text is split by a pattern that is not known, or by two"
                pattern = True
            case _:
                return f"the text is split by a {part['type']} of unknown effect"
    if separator.isalnum() or not all(end.isalnum() for end in ends):
        return "a word does not end in a letter or digit, or the separator begins with one"
    crossing = {end for end in ends if not pattern and not (digits and end.isdigit())}
    return _merged(settings["model"], crossing, separator, letters, bytewise) if crossing else ""


def _merged(
    model: Mapping[str, Any], ends: set[str], separator: str, letters: set[str], bytewise: bool
) -> str:
    """Why a merge may cross from one of these ends to the separator; '' where none does."""
    if model["type"] != "BPE" or model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        return "texts are not split, and the model is not plain byte-pair encoding"
    letter_token = {letter: "Ġ" if bytewise and letter == " " else letter for letter in letters}
    if unknown := [letter for letter in letters if letter_token[letter] not in model["vocab"]]:
        return f"the vocabulary lacks {unknown[0]!r}"
    pairs = [letter_token[end] + letter_token[separator] for end in ends]
    crossing = next((word for word in model["vocab"] if any(pair in word for pair in pairs)), None)
    return "" if crossing is None else f"the token {crossing!r} crosses from a value to the separator"


def _parts(setting: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    """The steps of a normalizer or pre-tokenizer."""
    if setting is None:
        return []
    return list(setting[inner]) if setting["type"] == "Sequence" else [setting]


@functools.lru_cache(maxsize=8)
def _settings(tokenizer: Tokenizer) -> Mapping[str, Any]:
    settings: dict[str, Any] = json.loads(tokenizer.to_str())
    return settings
