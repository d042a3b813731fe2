"""Tiny random language models of every family that st2llm claims, as folders that transformers saves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers.utils import logging

from support.tiny_llm import save_tokenizer, train_tokenizer

QKV = ("q_proj", "v_proj")
_WIDTH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256}
_LLAMA = _WIDTH | {"intermediate_size": 64, "num_key_value_heads": 2}
_HEADS = _LLAMA | {"head_dim": 8}
_WINDOW = _HEADS | {"sliding_window": 8}
_ALTERNATING = _WINDOW | {"layer_types": ["sliding_attention", "full_attention"]}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
_EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
_LATENT = {"num_key_value_heads": 4, "kv_lora_rank": 8, "q_lora_rank": 8, "first_k_dense_replace": 2}
_LATENT_HEADS = {"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
_GRANITE = {"logits_scaling": 6.0, "embedding_multiplier": 12.0, "attention_multiplier": 0.1}
_LONG = {"short_factor": [1.0] * 4, "long_factor": [3.0] * 4}


def rope(rope_type: str, **more: Any) -> dict[str, Any]:
    """Rotary embeddings of a type, made for texts of 32 tokens."""
    return {
        "rope_parameters": {
            "rope_type": rope_type,
            "rope_theta": 1e4,
            "original_max_position_embeddings": 32,
            **more,
        }
    }


LONGROPE = rope("longrope", **_LONG) | {"original_max_position_embeddings": 32}
DYNAMIC = rope("dynamic", factor=4.0) | {"max_position_embeddings": 32}


@dataclass(frozen=True)
class Family:
    """model_type: as in config.json. settings: of its config. targets: linear layers of its attention.

    packed: several texts are read in one pass; otherwise one at a time. soft: it takes soft tokens, and is trained on
    answers. packing: it is trained on several prompts in one row.
    """

    model_type: str
    settings: dict[str, Any]
    targets: tuple[str, ...] = QKV
    packed: bool = True
    soft: bool = True
    packing: bool = True

    def config(self, vocabulary: int) -> PreTrainedConfig:
        shared = {"vocab_size": vocabulary, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
        return AutoConfig.for_model(self.model_type, **shared, initializer_range=0.3, **self.settings)


_QUERY_KEY_VALUE = ("query_key_value",)
FAMILIES = {
    "llama": Family("llama", _LLAMA),
    "llama-3": Family(
        "llama", _LLAMA | rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
    ),
    "llama-linear": Family("llama", _LLAMA | rope("linear", factor=4.0)),
    "llama-dynamic": Family("llama", _LLAMA | DYNAMIC),
    "llama-yarn": Family("llama", _LLAMA | rope("yarn", factor=8.0)),
    "llama-4": Family(
        "llama4_text",
        _HEADS
        | {
            "intermediate_size_mlp": 64,
            "num_local_experts": 2,
            "attention_chunk_size": 16,
            "no_rope_layers": [1, 0],
        },
        packed=False,
        packing=False,
    ),
    "mistral": Family("mistral", _LLAMA | {"sliding_window": 8}),
    "ministral": Family("ministral", _WINDOW),
    "mixtral": Family("mixtral", _LLAMA | {"num_local_experts": 2}),
    "qwen-2": Family("qwen2", _LLAMA),
    "qwen-3": Family("qwen3", _HEADS),
    "qwen-3-moe": Family("qwen3_moe", _HEADS | _EXPERTS),
    "gemma": Family("gemma", _HEADS),
    "gemma-2": Family("gemma2", _ALTERNATING | {"query_pre_attn_scalar": 8}),
    "gemma-3": Family("gemma3_text", _ALTERNATING | {"query_pre_attn_scalar": 8}),
    "phi": Family("phi", _WIDTH | {"intermediate_size": 64}),
    "phi-3": Family("phi3", _LLAMA, ("qkv_proj",)),
    "phi-3-longrope": Family("phi3", _LLAMA | LONGROPE, ("qkv_proj",)),
    "phi-moe": Family("phimoe", _LLAMA | {"num_local_experts": 2}),
    "gpt-2": Family("gpt2", _GPT2, ("c_attn",)),
    "gpt-bigcode": Family("gpt_bigcode", _GPT2, ("c_attn",)),
    "gpt-neo": Family(
        "gpt_neo",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 256,
            "window_size": 8,
        },
        packed=False,
    ),
    "gpt-neox": Family("gpt_neox", _WIDTH | {"intermediate_size": 64}, _QUERY_KEY_VALUE),
    "gpt-j": Family("gptj", _GPT2 | {"rotary_dim": 8}, packed=False),
    "codegen": Family("codegen", _GPT2 | {"rotary_dim": 8}, ("qkv_proj",), packed=False),
    "gpt-oss": Family(
        "gpt_oss", _ALTERNATING | {"num_local_experts": 2, "num_experts_per_tok": 1}, packed=False
    ),
    "opt": Family("opt", _WIDTH | {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "bloom": Family(
        "bloom",
        {"hidden_size": 32, "n_layer": 2, "n_head": 4},
        _QUERY_KEY_VALUE,
        packed=False,
        packing=False,
    ),
    "mpt": Family(
        "mpt", {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 256}, ("Wqkv",), packed=False
    ),
    "falcon": Family("falcon", _WIDTH, _QUERY_KEY_VALUE, packed=False),
    "falcon-alibi": Family("falcon", _WIDTH | {"alibi": True}, _QUERY_KEY_VALUE, packed=False, soft=False),
    "olmo": Family("olmo", _LLAMA),
    "olmo-2": Family("olmo2", _LLAMA),
    "olmo-3": Family("olmo3", _ALTERNATING),
    "olmoe": Family("olmoe", _LLAMA | {"num_experts": 2, "num_experts_per_tok": 1}),
    "granite": Family("granite", _LLAMA | _GRANITE),
    "granite-moe": Family(
        "granitemoe", _LLAMA | _GRANITE | {"num_local_experts": 2, "num_experts_per_tok": 1}
    ),
    "cohere": Family("cohere", _LLAMA | {"logit_scale": 0.0625}),
    "cohere-2": Family("cohere2", _ALTERNATING | {"logit_scale": 0.25}),
    "smollm-3": Family("smollm3", _LLAMA),
    "stablelm": Family("stablelm", _LLAMA),
    "starcoder-2": Family("starcoder2", _LLAMA),
    "nemotron": Family("nemotron", _LLAMA),
    "glm-4": Family("glm4", _HEADS),
    "exaone-4": Family("exaone4", _ALTERNATING),
    "deepseek-3": Family("deepseek_v3", _LLAMA | _LATENT | _LATENT_HEADS, ("q_b_proj", "kv_b_proj")),
    "mamba": Family(
        "mamba",
        {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
        ("x_proj",),
        packed=False,
        packing=False,
    ),
    "rwkv": Family(
        "rwkv",
        {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 256},
        ("key",),
        packed=False,
        soft=False,
    ),
}
CORE = ("granite", "gpt-neox", "phi-3-longrope", "bloom")
"""The families whose tests always run; the others are slow."""
EVERY = [name if name in CORE else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a tiny model of a family: family(name)."""
    made: dict[str, str] = {}
    tokenizer = train_tokenizer("single")

    def make(name: str) -> str:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            logging.disable_progress_bar()
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = AutoModelForCausalLM.from_config(FAMILIES[name].config(tokenizer.get_vocab_size()))
            model.save_pretrained(folder)
            save_tokenizer(tokenizer, folder)
            made[name] = str(folder)
        return made[name]

    return make
