"""Token ids of many series directly from arrays, without their text."""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32, Int64
from tokenizers import Tokenizer

from st2llm.serialize.numbers.batch import WordTable, encode_series
from st2llm.serialize.numbers.notation import Notation
from st2llm.serialize.numbers.token_boundaries import boundary_violation

_TEXTS = 200
_LONGEST = 40


@dataclass(frozen=True)
class RaggedIds:
    """Concatenated token ids of several texts. ends: end of the ids of each text."""

    ids: Int32[np.ndarray, " token"]
    ends: Int64[np.ndarray, " batch"]

    def lists(self) -> list[list[int]]:
        """The ids of each text."""
        ids, starts = self.ids.tolist(), itertools.chain((0,), self.ends.tolist())
        return [ids[start:end] for start, end in zip(starts, self.ends.tolist(), strict=False)]


@dataclass(frozen=True, eq=False)
class WordTokenTable:
    """The token ids of each word of a table, for the first value of a text and for values after a separator.

    padded: a row for each word, first those that begin a text, then the others. lengths: number of ids of each row.
    Made by `word_token_table`, which checks that the ids of a word depend on nothing else.
    """

    padded: Int32[np.ndarray, "word token"]
    lengths: Int64[np.ndarray, " word"]

    def ids(self, codes: Int64[np.ndarray, "batch time"]) -> RaggedIds:
        """The token ids of series of codes."""
        rows = codes + len(self.lengths) // 2
        rows[:, :1] = codes[:, :1]
        lengths = self.lengths[rows]
        kept = np.arange(self.padded.shape[1]) < lengths[:, :, None]
        return RaggedIds(self.padded[rows][kept], lengths.sum(axis=1).cumsum())


def token_ids(
    values: Float64[np.ndarray, "batch time"], notation: Notation, tokenizer: Tokenizer
) -> RaggedIds | None:
    """The token ids of each series, fitted to its own values and written in the notation.

    They equal the ids that the tokenizer gives the text. None where this cannot be proved for the tokenizer, or where
    the strategy's words cannot be listed; then tokenize the text. Raises DataError where a series does not fit into
    the digits.
    """
    rows = encode_series(values, notation)
    path = None if rows is None else word_token_table(tokenizer, rows.word_table)
    return None if rows is None or path is None else path.ids(rows.codes)


@functools.lru_cache(maxsize=32)
def word_token_table(tokenizer: Tokenizer, word_table: WordTable) -> WordTokenTable | None:
    """The cached table of a tokenizer for these words; None where `boundary_violation` finds a reason against it.

    The table is also checked by experiment: each word and many texts are tokenized and compared.
    """
    if boundary_violation(tokenizer, word_table):
        return None
    texts = [*word_table.words, *(word_table.separator + word for word in word_table.words)]
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    padded = np.zeros((len(ids), max(map(len, ids))), dtype=np.int32)
    for row, word_ids in zip(padded, ids, strict=True):
        row[: len(word_ids)] = word_ids
    path = WordTokenTable(padded, np.array([len(word_ids) for word_ids in ids], dtype=np.int64))
    return path if _agrees(path, tokenizer, word_table) else None


def _agrees(path: WordTokenTable, tokenizer: Tokenizer, word_table: WordTable) -> bool:
    """Whether table and tokenizer agree on each word after a separator, and on random texts."""
    rng, count = np.random.default_rng(0), len(word_table.words)
    all_codes = np.resize(rng.permutation(count), (-(-count // _LONGEST), _LONGEST))
    random_codes = [rng.integers(0, count, size=(1, 1 + i % _LONGEST)) for i in range(_TEXTS)]
    for codes in (all_codes, *random_codes):
        texts = [word_table.separator.join(word_table.words[code] for code in row) for row in codes.tolist()]
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        if path.ids(codes.astype(np.int64)).lists() != [list(encoding.ids) for encoding in encodings]:
            return False
    return True
