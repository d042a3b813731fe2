"""Turns a GGUF into a folder that transformers loads fast: fp32 safetensors, tokenizer.json, config.json.

python -m st2llm.llm.convert model.gguf folder
"""

import json
import sys
from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

PRE_TOKENIZERS = {
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
}
"""Word splitters that transformers' GGUF reader drops, by `tokenizer.ggml.pre`.

Without SmolLM2's own, "\\n\\n1" becomes two newline tokens where training saw one.
"""


def convert(gguf: Path, folder: Path) -> None:
    """Writes the model, dequantised to fp32, and its tokenizer into an existing folder."""
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer.model_max_length = model.config.max_position_embeddings
    _forget_quantisation(model)
    model.save_pretrained(folder)
    _save_tokenizer(tokenizer, folder, _text(GGUFReader(gguf), "tokenizer.ggml.pre"))


def _forget_quantisation(model: PreTrainedModel) -> None:
    """`save_pretrained` refuses a model that remembers being quantised, though its weights are fp32 now."""
    model.hf_quantizer = None
    for owner, name in (
        (model, "is_quantized"),
        (model, "quantization_method"),
        (model.config, "quantization_config"),
    ):
        if name in vars(owner):
            delattr(owner, name)


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, splitter: str) -> None:
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    if splitter in PRE_TOKENIZERS:
        fast = Tokenizer.from_file(str(path))
        fast.pre_tokenizer = PRE_TOKENIZERS[splitter]
        fast.save(str(path))
    settings = folder / "tokenizer_config.json"
    kept = {k: v for k, v in json.loads(settings.read_text(encoding="utf-8")).items() if "local" not in k}
    settings.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _text(reader: GGUFReader, key: str) -> str:
    field = reader.get_field(key)
    return "" if field is None else bytes(field.parts[field.data[0]]).decode()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
