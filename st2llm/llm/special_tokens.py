"""The special tokens of a model folder, from every place where transformers looks for them; without torch."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")
FILES = ("tokenizer_config.json", "special_tokens_map.json", "config.json", "generation_config.json")
"""Files that can name special tokens, in order of precedence."""

_END_OF_TEXT = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
_LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_QWEN = dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>")
_GEMMA = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
_COHERE = {
    "bos_token": "<BOS_TOKEN>",
    "eos_token": "<|END_OF_TURN_TOKEN|>",
    "pad_token": "<PAD>",
    "unk_token": "<UNK>",
}
CLASS_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "BloomTokenizer": _LLAMA | {"pad_token": "<pad>"},
    "CodeGenTokenizer": _END_OF_TEXT,
    "CodeLlamaTokenizer": _LLAMA,
    "CohereTokenizer": _COHERE,
    "GPT2Tokenizer": _END_OF_TEXT,
    "GPTNeoXTokenizer": _END_OF_TEXT | {"pad_token": "<|padding|>"},
    "GemmaTokenizer": _GEMMA,
    "LlamaTokenizer": _LLAMA,
    "Qwen2Tokenizer": _QWEN,
    "XGLMTokenizer": _LLAMA | {"pad_token": "<pad>"},
}
"""The special tokens of transformers' tokenizer classes, which their files need not name."""


@dataclass(frozen=True)
class SpecialTokens:
    """texts: the text of each special token by name. ends: ids of the tokens that end an answer, eos first."""

    texts: Mapping[str, str]
    ends: tuple[int, ...]


def read_special_tokens(folder: Path, tokenizer: tokenizers.Tokenizer) -> SpecialTokens:
    """The special tokens of a model folder.

    Order of precedence: tokenizer_config.json, special_tokens_map.json, the defaults of the tokenizer's class, then the
    ids in config.json and generation_config.json. A token that the first of these sets to null does not exist, except
    the end of text, which the ids can still name. Tokens outside the vocabulary are ignored.
    """
    settings, special_map, config, generation = (_read(folder / name) for name in FILES)
    tables = [settings, special_map, _class_defaults(settings)]
    id_tables = [config, _mapping(config.get("text_config")), generation]
    texts: dict[str, str] = {}
    for name in NAMES:
        stated = [_token_text(table[name]) for table in tables if name in table]
        if stated and stated[0] is None and name != "eos_token":
            continue
        by_id = (tokenizer.id_to_token(i) for table in id_tables for i in _ids(table, f"{name}_id"))
        known = (text for text in (*stated, *by_id) if text and tokenizer.token_to_id(text) is not None)
        if (text := next(known, None)) is not None:
            texts[name] = text
    return SpecialTokens(texts, _end_ids(texts, id_tables, tokenizer))


def _end_ids(
    texts: Mapping[str, str], id_tables: Sequence[Mapping[str, Any]], tokenizer: tokenizers.Tokenizer
) -> tuple[int, ...]:
    first = tokenizer.token_to_id(texts["eos_token"]) if "eos_token" in texts else None
    listed = [i for table in id_tables for i in _ids(table, "eos_token_id") if tokenizer.id_to_token(i)]
    return tuple(dict.fromkeys(i for i in (first, *listed) if i is not None))


def _class_defaults(settings: Mapping[str, Any]) -> Mapping[str, str]:
    return CLASS_DEFAULTS.get(str(settings.get("tokenizer_class", "")).removesuffix("Fast"), {})


def _ids(table: Mapping[str, Any], key: str) -> Iterator[int]:
    value = table.get(key)
    yield from (i for i in (value if isinstance(value, list) else [value]) if isinstance(i, int) and i >= 0)


def _token_text(entry: object) -> str | None:
    if isinstance(entry, Mapping):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else None


def _mapping(entry: object) -> Mapping[str, Any]:
    return entry if isinstance(entry, Mapping) else {}


def _read(path: Path) -> Mapping[str, Any]:
    return _mapping(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
