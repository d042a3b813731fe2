"""Tiny language models with small real tokenizers, saved as folders the way transformers saves them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM as Auto
from transformers import Gemma3TextConfig, GPT2Config, LlamaConfig, PreTrainedConfig, Qwen2Config

TEMPLATE = (
    "{% for message in messages %}\n    {% if message['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "{{ '<s>' + message['role'] + '\n' + message['content'] + eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)
CORPUS = [f"{i},{(i * 7) % 1000}, {i % 97} people walked by at {i % 24}:00.\n" for i in range(3000)]


def train_tokenizer(digits: str) -> Tokenizer:
    """'single': a token a digit, as SmolLM2. 'merged': tokens such as '12', '12,' and ', 3' as well.

    'sentencepiece': as llama 2, with a space in front of every text. 'unigram': as t5, likewise.
    """
    if digits in ("sentencepiece", "unigram"):
        return _sentencepiece(unigram=digits == "unigram")
    tokenizer = Tokenizer(models.BPE())
    if digits == "single":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def _sentencepiece(*, unigram: bool) -> Tokenizer:
    specials = ["<unk>", "<s>", "</s>"]
    if unigram:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        trainer = trainers.UnigramTrainer(
            vocab_size=400, special_tokens=specials, unk_token="<unk>", show_progress=False
        )
        tokenizer.train_from_iterator(CORPUS, trainer)
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        trainer = trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=[*specials, *(f"<0x{byte:02X}>" for byte in range(256))],
            show_progress=False,
        )
        tokenizer.train_from_iterator(CORPUS, trainer)
        steps = [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
        tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def config_of(architecture: str, vocabulary: int, width: int = 32) -> PreTrainedConfig:
    """Four layers. gemma alternates between layers that see the last 8 tokens and layers that see all."""
    shared = {"vocab_size": vocabulary, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3}
    llama = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
    }
    if architecture == "llama":
        return LlamaConfig(**shared, **llama)
    if architecture == "qwen2":
        return Qwen2Config(**shared, **llama)
    if architecture == "gemma":
        head = width // 4
        local = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2}
        return Gemma3TextConfig(
            **shared, **llama, **local, head_dim=head, query_pre_attn_scalar=head, pad_token_id=2
        )
    return GPT2Config(**shared, n_embd=width, n_layer=4, n_head=4, n_positions=256)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """The folder of a tiny model: tiny(architecture, digits, width)."""
    made: dict[tuple[str, str, int], str] = {}

    def make(architecture: str = "llama", digits: str = "single", width: int = 32) -> str:
        key = (architecture, digits, width)
        if key not in made:
            folder = tmp_path_factory.mktemp(f"{architecture}-{digits}-{width}")
            made[key] = str(folder)
            tokenizer = train_tokenizer(digits)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = Auto.from_config(config_of(architecture, tokenizer.get_vocab_size(), width))
            model.save_pretrained(folder)
            save_tokenizer(tokenizer, folder)
        return made[key]

    return make


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    end = {"__type": "AddedToken", "content": "</s>", "special": True}
    settings = {"bos_token": "<s>", "eos_token": end, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
