"""Words to ids and the chat template, as transformers would, without it."""

import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from st2llm.errors import ConfigError
from st2llm.llm.grammar.vocabulary import vocabulary_of
from st2llm.llm.tokenizer import FastTokenizer, load_tokenizer
from st2llm.types import Prompt, Slot, TemplateId, Tokenizer

TALK = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "12, 14 é\n{{ 1 }}"})


def test_it_fits_the_protocol_and_reads_back_what_it_wrote(tiny):
    tokenizer = load_tokenizer(tiny())
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.decode(tokenizer.encode(" 12, é\n\nå")) == " 12, é\n\nå"


def test_no_special_token_is_added_to_words(tiny):
    assert load_tokenizer(tiny()).encode("12")[0] != 1


def test_a_plain_prompt_begins_as_the_tokenizer_itself_would_begin_it(tiny, prompt):
    tokenizer = load_tokenizer(tiny())
    theirs = AutoTokenizer.from_pretrained(tiny())("12, 13")["input_ids"]
    assert tokenizer.prompt_ids(prompt("12, 13")) == theirs
    assert theirs[0] == tokenizer.bos == 1


def test_the_chat_template_says_what_transformers_says(tiny, prompt):
    theirs = AutoTokenizer.from_pretrained(tiny())
    rendered = theirs.apply_chat_template(list(TALK), tokenize=False, add_generation_prompt=True)
    tokenizer = load_tokenizer(tiny())
    assert tokenizer.apply_chat_template(TALK) == rendered
    assert tokenizer.prompt_ids(prompt("unused", messages=TALK)) == tokenizer.encode(rendered)


@pytest.mark.parametrize("digits", ["single", "merged", "sentencepiece", "unigram"])
@pytest.mark.parametrize("text", ["12", "1,2,3", " people", "12 people walked by"])
def test_a_continuation_writes_exactly_its_text(tiny, digits, text):
    tokenizer = load_tokenizer(tiny("llama", digits))
    words = vocabulary_of(tokenizer)
    assert words.join(tokenizer.encode_continuation(text)) == text.encode()
    if digits in ("single", "merged"):
        assert tokenizer.encode_continuation(text) == tokenizer.encode(text)


@pytest.mark.parametrize("digits", ["sentencepiece", "unigram"])
def test_an_answer_and_the_words_after_a_slot_get_no_space_in_front(tiny, prompt, digits):
    tokenizer = load_tokenizer(tiny("llama", digits))
    words = vocabulary_of(tokenizer)
    assert words.text(tokenizer.answer_ids("12")[:-1]) == "12"
    pieces = tokenizer.prompt_pieces(Prompt((), ("12", SLOTS[0], "13"), "", TemplateId("t", 1, "")))
    assert [words.text(piece) for piece in pieces if not isinstance(piece, Slot)] == ["", " 12", "13"]


def test_messages_without_a_chat_template_are_refused(tiny):
    bare = load_tokenizer(tiny())
    with pytest.raises(ConfigError, match="no chat template"):
        FastTokenizer(bare.tokenizer, None, bare.special_tokens).apply_chat_template(TALK)


def test_a_template_cannot_leave_its_sandbox(tiny):
    bare = load_tokenizer(tiny())
    trick = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(ConfigError, match="refused"):
        FastTokenizer(bare.tokenizer, trick, bare.special_tokens).apply_chat_template(TALK)


def test_padding_falls_back_to_the_end_of_text(tiny):
    tokenizer = load_tokenizer(tiny())
    assert tokenizer.pad == tokenizer.eos == 2


@pytest.mark.slow
def test_tokenizer_and_grammar_leave_torch_unimported(tiny):
    code = (
        "import sys; from st2llm.llm import grammar, load_llm; from st2llm.types import Numbers\n"
        "from st2llm.llm.tokenizer import load_tokenizer\n"
        f"grammar.build_automaton(load_tokenizer({tiny()!r}), Numbers(2, 3))\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_smollm2_speaks_its_own_template_and_splits_every_digit():
    tokenizer = load_tokenizer("smollm2-135m")
    assert tokenizer.apply_chat_template(TALK[1:]).startswith(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM"
    )
    assert tokenizer.apply_chat_template(TALK).endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert len(tokenizer.encode("1234,56")) == 7
    assert len(tokenizer.encode("\n\n1")) == 2
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.vocab_size) == (1, 2, 2, 49152)


SLOTS = (Slot("a", 3), Slot("b", 2))


def test_slots_in_a_chat_stand_where_the_chat_template_puts_their_words(tiny):
    tokenizer = load_tokenizer(tiny())
    content = f"12 {SLOTS[0].tag}, 13{SLOTS[1].tag} 14"
    messages = ({"role": "user", "content": content},)
    parts = ("12 ", SLOTS[0], ", 13", SLOTS[1], " 14")
    pieces = tokenizer.prompt_pieces(Prompt(messages, parts, "", TemplateId("t", 1, "")))
    assert [piece for piece in pieces if isinstance(piece, Slot)] == list(SLOTS)
    words = ["".join(tokenizer.decode(piece) for piece in pieces if not isinstance(piece, Slot))]
    plain = tokenizer.apply_chat_template([{"role": "user", "content": "12 , 13 14"}])
    assert words == [plain]


def test_slots_in_plain_words_begin_as_the_tokenizer_begins(tiny):
    tokenizer = load_tokenizer(tiny())
    pieces = tokenizer.prompt_pieces(Prompt((), ("12 ", SLOTS[0], ", 13"), "", TemplateId("t", 1, "")))
    assert pieces == (
        (tokenizer.bos,),
        tuple(tokenizer.encode("12 ")),
        SLOTS[0],
        tuple(tokenizer.encode(", 13")),
    )
