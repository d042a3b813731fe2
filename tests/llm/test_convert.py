"""What the conversion of the embedded model writes."""

import json
import os

import pytest
from safetensors import safe_open

from st2llm.errors import ArtefactError
from st2llm.llm import source


def test_a_file_that_is_no_gguf_is_an_error_of_one_line(tmp_path):
    wrong = tmp_path / "model.gguf"
    wrong.write_bytes(os.urandom(64))
    with pytest.raises(ArtefactError, match=r"could not be converted to safetensors") as caught:
        source._convert("smollm2-135m", wrong, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_smollm2_becomes_fp32_safetensors_without_a_trace_of_quantisation():
    folder = source.converted("smollm2-135m")
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert (config["num_hidden_layers"], config["tie_word_embeddings"]) == (30, True)
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 8192
    with safe_open(folder / "model.safetensors", framework="np") as weights:
        names = weights.keys()
        assert {weights.get_slice(name).get_dtype() for name in names} == {"F32"}
