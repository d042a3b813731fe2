"""Special tokens are found wherever a model folder names them, as transformers finds them."""

import json

import pytest
import transformers
from support.tiny_llm import train_tokenizer

from st2llm.llm.special_tokens import CLASS_DEFAULTS, NAMES, read_special_tokens

TOKENIZER = train_tokenizer("single")
TOKENIZER.add_special_tokens(["<|endoftext|>", "<turn>"])
END_OF_TEXT, TURN = TOKENIZER.token_to_id("<|endoftext|>"), TOKENIZER.token_to_id("<turn>")


def read(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return read_special_tokens(folder, TOKENIZER)


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"eos_token": "</s>"}},
        {"tokenizer_config": {"eos_token": {"content": "</s>", "special": True}}},
        {"special_tokens_map": {"eos_token": "</s>"}},
        {"tokenizer_config": {"tokenizer_class": "LlamaTokenizerFast"}},
        {"config": {"eos_token_id": 2}},
        {"config": {"text_config": {"eos_token_id": [2]}}},
        {"generation_config": {"eos_token_id": 2}},
        {"tokenizer_config": {"eos_token": None}, "config": {"eos_token_id": 2}},
        {"tokenizer_config": {"eos_token": "</s>"}, "special_tokens_map": {"eos_token": "<turn>"}},
        {"tokenizer_config": {"tokenizer_class": "LlamaTokenizer"}, "config": {"eos_token_id": END_OF_TEXT}},
    ],
)
def test_the_end_of_text_is_found_in_every_file(tmp_path, files):
    special = read(tmp_path, **files)
    assert special.texts["eos_token"] == "</s>" and special.ends[0] == 2


def test_every_end_of_an_answer_is_known(tmp_path):
    special = read(
        tmp_path,
        tokenizer_config={"eos_token": "</s>"},
        config={"eos_token_id": [2, END_OF_TEXT]},
        generation_config={"eos_token_id": [TURN, 2, 10**6]},
    )
    assert special.ends == (2, END_OF_TEXT, TURN)


def test_what_does_not_exist_is_left_out(tmp_path):
    special = read(
        tmp_path,
        tokenizer_config={"bos_token": None, "eos_token": "<nowhere>", "tokenizer_class": "Qwen2Tokenizer"},
        config={"bos_token_id": 1, "pad_token_id": None, "eos_token_id": None},
    )
    assert dict(special.texts) == dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>")


def test_a_folder_that_names_nothing_has_no_end(tmp_path):
    assert read(tmp_path) == type(read(tmp_path))({}, ())


@pytest.mark.parametrize("name", CLASS_DEFAULTS)
def test_the_defaults_of_a_class_are_those_of_transformers(name):
    if not hasattr(transformers, name):
        pytest.skip("a class of earlier versions of transformers")
    theirs = getattr(transformers, name)()
    assert {key: str(getattr(theirs, key)) for key in NAMES if getattr(theirs, key)} == CLASS_DEFAULTS[name]
