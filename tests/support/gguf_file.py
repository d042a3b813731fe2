"""A tiny model's folder written as a GGUF, the way llama.cpp's converter does it."""

import json
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}


def write(
    folder: str, path: Path, *, architecture: str = "", without: str = "", extra: Mapping[str, int] = {}
) -> Path:
    """Writes fp32 tensors and a byte-level tokenizer whose digits are single, as SmolLM2's.

    architecture: said in place of the model's own. without: a tensor that is left out. extra: tensors of ones that
    the model does not know, by name and length.
    """
    config = json.loads((Path(folder) / "config.json").read_text())
    kind = config["model_type"]
    writer = gguf.GGUFWriter(path, architecture or kind)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    write_tokenizer(writer, Path(folder))
    names = gguf.get_tensor_name_map(ARCHITECTURES[kind], config["num_hidden_layers"])
    for name, weight in load_file(Path(folder) / "model.safetensors").items():
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found != without:
            heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(
                name.split(".")[-2]
            )
            permuted = kind == "llama" and heads
            writer.add_tensor(found, interleaved(weight, config[heads]) if permuted else weight)
    for name, length in extra.items():
        writer.add_tensor(name, np.ones(length, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head in llama.cpp's order for rotary embeddings: pairs, not halves."""
    halves = weight.reshape(heads, 2, len(weight) // heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def write_tokenizer(writer: gguf.GGUFWriter, folder: Path) -> None:
    model = json.loads((folder / "tokenizer.json").read_text())
    words = sorted(model["model"]["vocab"], key=model["model"]["vocab"].__getitem__)
    special = {token["content"] for token in model["added_tokens"]}
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([control if word in special else normal for word in words])
    writer.add_token_merges([" ".join(merge) for merge in model["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())
