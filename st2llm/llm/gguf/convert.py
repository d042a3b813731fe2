"""Converts a GGUF file to a folder that transformers loads fast: fp32 safetensors, tokenizer.json, config.json.

python -m st2llm.llm.gguf.convert model.gguf folder
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from gguf import GGUFReader
from tokenizers import Tokenizer, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from st2llm.errors import ArtefactError
from st2llm.llm.gguf.read_once import read_once
from st2llm.llm.model_files import REFUSED_EXIT_CODE, STAGE

PRE_TOKENIZERS = {
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
}
r"""Pre-tokenizers that transformers' GGUF reader drops, by `tokenizer.ggml.pre`.

Without SmolLM2's own, "\\n\\n1" becomes two newline tokens where training saw one.
"""


def convert(gguf: Path, folder: Path) -> None:
    """Writes the model, dequantised to fp32, and its tokenizer to an existing folder.

    Raises ArtefactError for a truncated file, an architecture that transformers does not read from GGUF, and a
    file whose tensors do not match those of the model one to one.
    """
    with read_once() as reader_of:
        reader = _open_gguf(gguf, reader_of)
        _check_architecture(gguf, _read_string(reader, "general.architecture"))
        _tell("tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        _tell("weights")
        model, loaded = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, output_loading_info=True
        )
    _check_tensors(gguf, reader, model, sorted(loaded["missing_keys"]))
    tokenizer.model_max_length = model.config.max_position_embeddings
    _clear_quantisation(model)
    _tell("files")
    model.save_pretrained(folder)
    _save_tokenizer(tokenizer, folder, _read_string(reader, "tokenizer.ggml.pre"))


def _tell(stage: str) -> None:
    """Prints a line for the process that waits: what is written next."""
    print(f"{STAGE}{stage}", flush=True)


def _open_gguf(gguf: Path, reader_of: Callable[[Path], GGUFReader]) -> GGUFReader:
    try:
        return reader_of(gguf)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise ArtefactError(
            f"{gguf} is a damaged GGUF, or was cut short at {gguf.stat().st_size} bytes "
            f"({type(error).__name__}: {error}). Download it again."
        ) from error


def _check_architecture(gguf: Path, architecture: str) -> None:
    try:
        AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise ArtefactError(
            f"{gguf} holds a model of the architecture {architecture!r}, which transformers {transformers.__version__} "
            f"does not read from a GGUF. Give the same model as a Hugging Face id, or as a folder of safetensors."
        ) from error


def _check_tensors(gguf: Path, reader: GGUFReader, model: PreTrainedModel, missing: list[str]) -> None:
    """Checks that file and model hold the same tensors: transformers initialises missing ones at random and drops
    unknown ones (such as a Llama 3.1's rope_freqs).
    """
    if missing:
        raise ArtefactError(
            f"{gguf} lacks {len(missing)} of the model's tensors, such as {missing[0]}. Download it again."
        )
    count_in_file = sum(int(tensor.n_elements) for tensor in reader.tensors)
    count_in_model = sum(weight.numel() for weight in model.parameters())
    if count_in_file != count_in_model:
        outside = [tensor.name for tensor in reader.tensors if not tensor.name.startswith("blk.")]
        raise ArtefactError(
            f"{gguf} holds {count_in_file} numbers, but transformers {transformers.__version__} loads "
            f"{count_in_model}: it does not know all of its tensors, so the model would differ (outside the layers: "
            f"{', '.join(sorted(outside))}). Give it as a Hugging Face id, or as a folder of safetensors."
        )


def _clear_quantisation(model: PreTrainedModel) -> None:
    """Removes the quantisation attributes, because `save_pretrained` refuses a model that has them, though its
    weights are fp32 now.
    """
    model.hf_quantizer = None
    for owner, name in (
        (model, "is_quantized"),
        (model, "quantization_method"),
        (model.config, "quantization_config"),
    ):
        if name in vars(owner):
            delattr(owner, name)


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, pre_tokenizer: str) -> None:
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    if pre_tokenizer in PRE_TOKENIZERS:
        tokenizer_file = Tokenizer.from_file(str(path))
        tokenizer_file.pre_tokenizer = PRE_TOKENIZERS[pre_tokenizer]
        tokenizer_file.save(str(path))
    settings = folder / "tokenizer_config.json"
    kept = {k: v for k, v in json.loads(settings.read_text(encoding="utf-8")).items() if "local" not in k}
    settings.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _read_string(reader: GGUFReader, key: str) -> str:
    field = reader.get_field(key)
    return "" if field is None else bytes(field.parts[field.data[0]]).decode()


if __name__ == "__main__":
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except ArtefactError as refusal:
        print(" ".join(str(refusal).split()), file=sys.stderr)
        sys.exit(REFUSED_EXIT_CODE)
