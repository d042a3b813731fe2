"""A vocabulary knows the bytes that each token writes, whatever kind of tokenizer it is."""

import time

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from st2llm.errors import ConfigError
from st2llm.llm.grammar import build_automaton
from st2llm.llm.grammar.vocabulary import token_texts, vocabulary_of
from st2llm.llm.tokenizer import FastTokenizer, load_tokenizer
from st2llm.types import Choice, Numbers

SPECIALS = ["<unk>", "<s>", "</s>"]


def sentencepiece(letters: str, fallback: bool) -> FastTokenizer:
    """As llama's first: blanks are ▁, unknown letters are bytes where there is a fallback."""
    pieces = [*SPECIALS, *((f"<0x{byte:02X}>" for byte in range(256)) if fallback else ()), *letters]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=fallback, unk_token="<unk>"
        )
    )
    tokenizer.add_special_tokens(SPECIALS)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return FastTokenizer(tokenizer, None, {"eos_token": "</s>"})


@pytest.mark.parametrize("digits", ["single", "merged"])
@pytest.mark.parametrize("text", ["12, 34\n", "Käthe 上海", "\x07\n\r\n  x"])
def test_the_tokens_of_a_text_write_its_bytes(tiny, digits, text):
    words = vocabulary_of(load_tokenizer(tiny("llama", digits)))
    assert words.join(words.tokenizer.encode(text)) == text.encode()


def test_words_are_those_that_the_tokenizer_decodes(tiny):
    tokenizer = load_tokenizer(tiny())
    words, texts = vocabulary_of(tokenizer).token_bytes, token_texts(tokenizer)
    pairs = [(word, text) for word, text in zip(words, texts, strict=True) if word is not None]
    assert len(pairs) > 256
    assert all(word.decode(errors="replace") == text for word, text in pairs)


def test_control_tokens_write_nothing(tiny):
    words = vocabulary_of(load_tokenizer(tiny()))
    assert words.ends == (2,) and words.token_bytes[2] is None and words.control_tokens == {0, 1, 2}
    assert b"</s>" not in words.token_of


def test_the_trie_holds_every_token_at_the_end_of_its_bytes(tiny):
    words = vocabulary_of(load_tokenizer(tiny("llama", "merged")))
    for token, word in enumerate(words.token_bytes):
        node = words.root
        for byte in word or b"":
            node = node.children[byte]
        assert (token in node.tokens) == (word is not None)


@pytest.mark.parametrize("text", ["\nAnswer:", " 12", "Käthe", "上"])
def test_words_are_written_in_tokens_that_stand_inside_a_text(tiny, text):
    for digits in ("single", "merged"):
        words = vocabulary_of(load_tokenizer(tiny("llama", digits)))
        assert words.text(words.tokenize_inside(text)) == text


def test_a_blank_glued_to_a_letter_is_told_from_the_letter():
    words = vocabulary_of(sentencepiece("▁0129,aé", fallback=False))
    assert words.token_bytes[words.token_of[b" "]] == b" "
    assert (
        words.text(words.tokenize_inside(" 12")) == " 12" and words.text(words.tokenize_inside("12")) == "12"
    )


def test_letters_beyond_a_vocabulary_are_written_in_its_bytes():
    words = vocabulary_of(sentencepiece("▁0129,aé", fallback=True))
    assert words.unwritable("é上 ,") == "" and words.text(words.tokenize_inside("上é")) == "上é"
    found = build_automaton(words.tokenizer, Choice(("上", "é", "上é")))
    state = found.start
    for token in words.tokenize_inside("上é"):
        state = state.advance(token)
    assert state.ended


def test_a_letter_that_cannot_be_written_is_named():
    tokenizer = sentencepiece("▁0129,aé", fallback=False)
    with pytest.raises(ConfigError, match="cannot write '上海'"):
        build_automaton(tokenizer, Choice(("上海", "a")))
    with pytest.raises(ConfigError, match="cannot write '345678'"):
        build_automaton(tokenizer, Numbers(2, 3))
    with pytest.raises(ConfigError, match="no token for"):
        vocabulary_of(tokenizer).tokenize_inside("a上")


def test_a_part_of_a_letter_is_no_token_where_the_rest_may_be_missing():
    pieces = {"<unk>": 0, "Ã": 1, "©": 2, "a": 3, "b": 4, "0": 5}
    tokenizer = Tokenizer(models.BPE(pieces, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = vocabulary_of(FastTokenizer(tokenizer, None, {}))
    assert words.token_bytes[1] == b"\xc3" and b"\xc3" not in words.token_of
    assert words.unwritable("aé") == "é"


@pytest.mark.slow
def test_a_vocabulary_of_a_quarter_of_a_million_is_read_about_as_fast_as_it_is_listed():
    pieces = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    pieces |= {f"Ġw{i}": len(pieces) + i for i in range(250_000)}
    tokenizer = Tokenizer(models.BPE(pieces, []))
    tokenizer.decoder = decoders.ByteLevel()
    began = time.perf_counter()
    tokenizer.get_vocab()
    listed = time.perf_counter() - began
    words = vocabulary_of(FastTokenizer(tokenizer, None, {}))
    assert len(words.token_bytes) == len(pieces)
    assert time.perf_counter() - began < 40 * listed
