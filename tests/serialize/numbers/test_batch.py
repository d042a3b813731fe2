"""Many series at once are what each is alone; ids straight from arrays are the tokenizer's own, or are refused."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from st2llm.errors import DataError
from st2llm.llm.tokenizer import load_tokenizer
from st2llm.serialize.numbers import Notation, ScaledIntegers, SpacedDigits, fit
from st2llm.serialize.numbers.batch import WordTable, encode_series, fit_scales
from st2llm.serialize.numbers.fast_tokenize import RaggedIds, token_ids, word_token_table
from st2llm.serialize.numbers.token_boundaries import PATTERNS, boundary_violation

GPT2, QWEN2, LLAMA3 = sorted(PATTERNS, key=lambda pattern: (pattern.count("(?i:"), "{1,3}" in pattern))
ANY = st.one_of(
    st.floats(allow_infinity=True, width=64),
    st.floats(-1e4, 1e4),
    st.integers(-5000, 5000).map(float),
    st.sampled_from([0.0, -0.0, 64.375, 1e300, -1e300, 1e-12, 0.1, 1.7e308, 5e-324]),
)
BATCHES = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 8)), elements=ANY)
NOTATIONS = st.builds(
    Notation,
    digits=st.integers(1, 4),
    separator=st.sampled_from([",", ", ", " ", "; "]),
    headroom=st.sampled_from([1.0, 1.25]),
    fixed=st.booleans(),
    signed=st.booleans(),
)
CORPUS = [
    f"{i},{(i * 7) % 1000}, {i % 97} x,x,-{i} people; walked , by at {i % 24}:00.\n" for i in range(1200)
]


def trained(splitter, size: int = 900) -> Tokenizer:
    """A byte-level tokenizer that merges all that its splitter lets it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), bytewise])


def bytewise(**settings) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, "use_regex": True, **settings})


def digits(individual: bool, **settings) -> pre_tokenizers.PreTokenizer:
    first = pre_tokenizers.Digits(individual_digits=individual)
    return pre_tokenizers.Sequence([first, bytewise(**settings)])


SPLITTERS = {
    "smollm2": digits(True),
    "runs of digits": digits(False),
    "gpt2": bytewise(),
    "llama3": split(LLAMA3),
    "qwen2": split(QWEN2),
}


@pytest.fixture(scope="module", params=sorted(SPLITTERS))
def tokenizer(request) -> Tokenizer:
    return trained(SPLITTERS[request.param])


def texts(values: np.ndarray, notation: Notation) -> list[str]:
    strategy = notation.strategy
    return [fit(strategy, row, notation).write(row) for row in values]


def tokenized(tokenizer: Tokenizer, lines: list[str]) -> list[list[int]]:
    return [list(tokenizer.encode(line, add_special_tokens=False).ids) for line in lines]


def word_table(notation: Notation | None = None) -> WordTable:
    return encode_series(np.zeros((1, 1)), notation or Notation()).word_table


@settings(max_examples=60, deadline=None)
@given(BATCHES, NOTATIONS, st.integers(0, 2), st.sampled_from([0, 10]))
def test_each_of_many_series_is_fitted_as_it_is_alone(values, notation, decimals, least_steps):
    notation = Notation(**{**vars(notation), "decimals": decimals, "least_steps": least_steps})
    try:
        alone = [ScaledIntegers.fit(row, notation) for row in values]
    except DataError:
        with pytest.raises(DataError, match="Allow more digits"):
            fit_scales(values, notation)
        return
    step, shift = fit_scales(values, notation)
    assert step.tolist() == [one.step for one in alone]
    assert shift.tolist() == [one.shift for one in alone]


@settings(max_examples=50, deadline=None)
@given(BATCHES, NOTATIONS, st.booleans())
def test_codes_are_the_words_that_each_series_writes(values, notation, apart):
    if apart:
        notation = Notation(**{**vars(notation), "strategy": "spaced-digits", "separator": ","})
    try:
        wanted = texts(values, notation)
    except DataError:
        return
    rows = encode_series(values, notation)
    assert [rows.text(i) for i in range(len(values))] == wanted


def test_the_same_words_are_one_lexicon():
    assert word_table() is word_table(Notation(headroom=2.0)) and word_table() is not word_table(
        Notation(digits=2)
    )


@pytest.mark.parametrize(
    "notation",
    [Notation(digits=5), *(Notation(strategy=name) for name in ("fixed-decimals", "scientific", "deltas"))],
)
def test_words_that_cannot_be_listed_have_no_codes(notation):
    assert encode_series(np.ones((2, 2)), notation) is None


@settings(max_examples=15, deadline=None)
@given(
    arrays(
        np.float64,
        (7, 9),
        elements=st.one_of(st.floats(-500, 900), st.just(np.nan), st.integers(0, 80).map(float)),
    ),
    NOTATIONS.filter(lambda notation: notation.digits in (2, 3)),
    st.booleans(),
)
def test_ids_from_arrays_are_the_tokenizer_s_own(tokenizer, values, notation, apart):
    if apart:
        notation = Notation(**{**vars(notation), "strategy": "spaced-digits", "separator": ","})
    found = token_ids(values, notation, tokenizer)
    assert found.lists() == tokenized(tokenizer, texts(values, notation))


def test_smollm2_s_ids_come_from_arrays():
    tokenizer = load_tokenizer("smollm2-135m").tokenizer
    rng = np.random.default_rng(0)
    values = np.where(rng.random((50, 12)) < 0.1, np.nan, rng.normal(40, 300, (50, 12)))
    for notation in (Notation(), Notation(signed=True), Notation(decimals=1), Notation(separator=" ")):
        assert token_ids(values, notation, tokenizer).lists() == tokenized(tokenizer, texts(values, notation))


def test_a_token_may_hold_several_digits():
    tokenizer = trained(split(LLAMA3))
    path = word_token_table(tokenizer, word_table())
    assert path.lengths.min() == 1 and path.padded.shape[1] < 4


def test_merges_over_a_whole_text_are_followed_where_none_crosses_to_the_separator():
    vocabulary = {letter: i for i, letter in enumerate("0123456789,x")} | {"12": 12, "123": 13, ",1": 14}
    apart = Tokenizer(models.BPE(vocabulary, [("1", "2"), ("12", "3"), (",", "1")]))
    values = np.array([[12.0, 123.0, 112.0, np.nan, 100.0], [1.0, 11.0, 999.0, 12.0, 3.0]])
    assert token_ids(values, Notation(), apart).lists() == tokenized(apart, texts(values, Notation()))
    crossing = Tokenizer(models.BPE({**vocabulary, "2,": 15}, [("1", "2"), ("2", ",")]))
    assert (
        "'2,' crosses" in boundary_violation(crossing, word_table())
        and token_ids(values, Notation(), crossing) is None
    )


def with_token(content: str) -> Tokenizer:
    tokenizer = trained(digits(True))
    tokenizer.add_tokens([AddedToken(content)])
    return tokenizer


def normalized(normalizer) -> Tokenizer:
    tokenizer = trained(digits(True))
    tokenizer.normalizer = normalizer
    return tokenizer


def dropping() -> Tokenizer:
    tokenizer = trained(digits(True))
    tokenizer.model.dropout = 0.1
    return tokenizer


def cut() -> Tokenizer:
    tokenizer = trained(digits(True))
    tokenizer.enable_truncation(5)
    return tokenizer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: trained(bytewise(use_regex=False)), "crosses from a value"),
        (lambda: trained(bytewise(add_prefix_space=True)), "a ByteLevel of unknown effect"),
        (lambda: trained(pre_tokenizers.Metaspace()), "a Metaspace of unknown effect"),
        (lambda: trained(split(r"\d+,|.")), "a pattern that is not known"),
        (lambda: trained(pre_tokenizers.Sequence([split(GPT2), bytewise()])), "unknown effect|two"),
        (lambda: with_token("12,"), "an added token"),
        (lambda: normalized(normalizers.Prepend("_")), "normalized"),
        (
            lambda: normalized(normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])),
            "normalized",
        ),
        (dropping, "at random"),
        (cut, "truncated"),
    ],
)
def test_a_tokenizer_that_cannot_be_shown_to_be_followed_is_stepped_aside(make, message):
    tokenizer = make()
    assert re.search(message, boundary_violation(tokenizer, word_table()))
    assert token_ids(np.ones((2, 2)), Notation(), tokenizer) is None


@pytest.mark.parametrize(
    ("words", "separator", "message"),
    [
        (("1", "ä"), ",", "printable ASCII"),
        (("1",), "\n", "printable ASCII"),
        (("'s",), ",", "an apostrophe"),
        (("1", "-"), ",", "does not end in a letter or digit"),
        (("1",), "x", "does not end in a letter or digit"),
    ],
)
def test_words_that_a_pattern_may_join_are_refused(words, separator, message):
    assert message in boundary_violation(trained(digits(True)), WordTable(words, separator))


def test_what_leaves_ascii_alone_is_no_normalizer():
    assert boundary_violation(normalized(normalizers.NFC()), word_table()) == ""
    assert boundary_violation(with_token("<|place|>"), word_table()) == ""


def test_a_table_that_does_not_agree_with_its_tokenizer_is_not_used(monkeypatch):
    tokenizer = trained(bytewise(use_regex=False))
    monkeypatch.setattr("st2llm.serialize.numbers.fast_tokenize.boundary_violation", lambda *_: "")
    assert word_token_table(tokenizer, word_table(Notation(digits=2))) is None


def test_ragged_ids_are_lists_again():
    ragged = RaggedIds(np.array([1, 2, 3], dtype=np.int32), np.array([2, 2, 3], dtype=np.int64))
    assert ragged.lists() == [[1, 2], [], [3]]


def test_spaced_digits_are_those_of_their_class():
    values = np.array([[5.0, 120.0]])
    rows = encode_series(values, Notation(strategy="spaced-digits"))
    assert rows.text(0) == SpacedDigits.fit(values[0]).write(values[0]) == "5 , 1 2 0"
