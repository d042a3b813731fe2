"""What the conversion of a GGUF writes, and which files it refuses."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from support import gguf_file

from st2llm.errors import ArtefactError
from st2llm.llm import load_llm, model_files
from st2llm.llm.gguf.convert import convert

IDS = torch.arange(5, 45).reshape(2, 20)


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def pair(request, tiny, tmp_path_factory) -> tuple[Path, Path]:
    """A tiny model's own folder, and the one that was converted from its GGUF."""
    home = tmp_path_factory.mktemp(request.param)
    given, target = tiny(request.param), home / "converted"
    target.mkdir()
    convert(gguf_file.write(given, home / "tiny.gguf"), target)
    return Path(given), target


def test_the_converted_model_computes_the_same_logits(pair):
    given, got = (load_llm(str(folder), dtype="fp32").model for folder in pair)
    with torch.no_grad():
        torch.testing.assert_close(
            got(input_ids=IDS).logits, given(input_ids=IDS).logits, atol=1e-5, rtol=1e-5
        )


def test_the_converted_tokenizer_cuts_words_as_before(pair):
    given, got = (load_llm(str(folder), dtype="fp32").tokenizer for folder in pair)
    for text in ("12,345 people\n\n1", "walked by at 7:00.", "<s>user\n9</s>"):
        assert got.encode(text) == given.encode(text)
    assert (got.bos, got.eos) == (given.bos, given.eos)
    messages = [{"role": "user", "content": "12, 3"}]
    assert got.apply_chat_template(messages) == given.apply_chat_template(messages)


def test_the_converted_folder_says_its_context_and_no_quantisation(pair):
    _, folder = pair
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 256
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


def test_random_bytes_are_no_gguf(tmp_path):
    wrong = tmp_path / "model.gguf"
    wrong.write_bytes(os.urandom(64))
    with pytest.raises(ArtefactError, match=r"model\.gguf is a damaged GGUF, or was cut short at 64 bytes"):
        convert(wrong, tmp_path)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.9, 0.999])
def test_a_gguf_that_was_cut_short_is_refused(tiny, tmp_path, share):
    whole = gguf_file.write(tiny(), tmp_path / "whole.gguf").read_bytes()
    short = tmp_path / "short.gguf"
    short.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(
        ArtefactError, match=r"short\.gguf is a damaged GGUF, or was cut short at \d+ bytes .* again"
    ):
        convert(short, tmp_path)


def test_an_architecture_that_transformers_does_not_read_is_refused_by_name(tiny, tmp_path):
    foreign = gguf_file.write(tiny(), tmp_path / "foreign.gguf", architecture="rwkv9")
    with pytest.raises(
        ArtefactError, match=r"of the architecture 'rwkv9', which transformers .* does not read"
    ):
        convert(foreign, tmp_path)


def test_a_gguf_without_one_of_its_tensors_is_refused(tiny, tmp_path):
    partial = gguf_file.write(tiny(), tmp_path / "partial.gguf", without="blk.2.ffn_up.weight")
    with pytest.raises(
        ArtefactError, match=r"lacks 1 of the model's tensors, such as model\.layers\.2\.mlp\.up_proj"
    ):
        convert(partial, tmp_path)


def test_a_gguf_with_a_tensor_that_would_be_dropped_is_refused(tiny, tmp_path):
    scaled = gguf_file.write(tiny(), tmp_path / "scaled.gguf", extra={"rope_freqs.weight": 4})
    with pytest.raises(ArtefactError, match=r"does not know all of its tensors.*rope_freqs\.weight"):
        convert(scaled, tmp_path)


@pytest.mark.slow
def test_a_refusal_comes_through_the_process_as_one_line(tmp_path):
    wrong = tmp_path / "model.gguf"
    wrong.write_bytes(b"GGUF" + os.urandom(60))
    with pytest.raises(ArtefactError, match=r"is a damaged GGUF") as caught:
        model_files._convert("a model", wrong, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_gguf_is_loaded_by_its_path(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path / "cache"))
    path = gguf_file.write(tiny(), tmp_path / "tiny.gguf")
    llm = load_llm(str(path), dtype="fp32", depth=2)
    assert (llm.name, llm.depth, llm.pretrained) == (str(path), 2, True)
    given = load_llm(tiny(), dtype="fp32", depth=2)
    with torch.no_grad():
        torch.testing.assert_close(llm.model(input_ids=IDS).logits, given.model(input_ids=IDS).logits)


@pytest.mark.slow
def test_smollm2_becomes_fp32_safetensors_without_a_trace_of_quantisation():
    folder = model_files.packaged_folder("smollm2-135m")
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert (config["num_hidden_layers"], config["tie_word_embeddings"]) == (30, True)
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 8192
    with safe_open(folder / "model.safetensors", framework="np") as weights:
        names = weights.keys()
        assert {weights.get_slice(name).get_dtype() for name in names} == {"F32"}
