"""Sentences as vectors: a tiny encoder of our own for the mechanism, the real one in the slow tests."""

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from support import tiny_llm
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from st2llm.errors import ArtefactError, ConfigError
from st2llm.features import text


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("encoder")
    tokens = PreTrainedTokenizerFast(
        tokenizer_object=tiny_llm.train_tokenizer("single"),
        unk_token="<unk>",
        pad_token="</s>",
        model_max_length=32,
    )
    bert = BertModel(BertConfig(
        vocab_size=len(tokens), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    ))  # fmt: skip
    for part in (bert, tokens):
        part.save_pretrained(home / "bert")
    inner = Transformer(str(home / "bert"), max_seq_length=32)
    SentenceTransformer(modules=[inner, Pooling(16)], device="cpu").save(str(home / "whole"))
    return home / "whole"


def test_each_text_gets_a_vector_of_length_one_in_order(folder):
    encoder = text.load(str(folder), "cpu")
    rows = encoder.encode(["12 people", "7 people walked by", "12 people"])
    assert rows.shape == (3, 16) and rows.dtype == np.float32 and encoder.width == 16
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.array_equal(rows[0], rows[2]) and not np.allclose(rows[0], rows[1])


def test_a_text_that_is_known_is_not_encoded_again(folder, monkeypatch):
    encoder = text.SentenceEncoder("tiny", text.load(str(folder), "cpu").model)
    given = []
    whole = encoder.model.encode
    monkeypatch.setattr(
        encoder.model, "encode", lambda texts, **how: given.append(texts) or whole(texts, **how)
    )
    first = encoder.encode(["a", "b", "a"])
    again = encoder.encode(["b", "c"])
    assert given == [["a", "b"], ["c"]] and np.array_equal(first[1], again[0])


def test_no_text_gives_no_row(folder):
    assert text.load(str(folder), "cpu").encode([]).shape == (0, 16)


def test_an_encoder_is_loaded_once_and_never_learns(folder):
    encoder = text.load(str(folder), "cpu")
    assert text.load(str(folder), "cpu") is encoder
    assert not encoder.model.training and not any(p.requires_grad for p in encoder.model.parameters())


def test_a_name_that_is_no_encoder_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="minilm"):
        text.load("minilmm")


def test_a_folder_that_holds_no_encoder_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match="cannot be loaded"):
        text.load(str(tmp_path))


@pytest.mark.slow
def test_minilm_finds_the_sentence_that_means_the_same():
    encoder = text.load("minilm", "cpu")
    rows = encoder.encode(
        ["Heavy rain in the city.", "It is pouring downtown.", "The museum is free on Sundays."]
    )
    likeness = rows @ rows.T
    assert rows.shape == (3, 384) and likeness[0, 1] > 0.4 > likeness[0, 2] + 0.1
