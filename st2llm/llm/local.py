"""A frozen language model on this machine: its embedding table, its layers, its words."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from st2llm.errors import AlignmentError, ConfigError
from st2llm.llm import decode, grammar, source
from st2llm.llm.tokenizer import FastTokenizer, read_tokenizer
from st2llm.types import Answer, Numbers, Prompt, Slot

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FREE_TOKENS = 64
"""The longest answer of a prompt without a grammar."""


class LanguageModel:
    """A causal language model in eval mode whose every parameter is frozen.

    depth: layers kept, of depth_full. sha256: of the weights on disk, or as drawn where not pretrained.
    d_lm: width of the embedding table. token_rms: root mean square of that table's entries.
    """

    def __init__(self, found: source.Source, model: PreTrainedModel, *, depth_full: int, sha256: str) -> None:
        table: Tensor = model.get_input_embeddings().weight
        self.name = found.name
        self.pretrained = found.pretrained
        self.model = model
        self.tokenizer: FastTokenizer = read_tokenizer(found.folder)
        self.depth = len(layers_of(model))
        self.depth_full = depth_full
        self.dtype: torch.dtype = table.dtype
        self.device: torch.device = table.device
        self.quant = "none"
        self.sha256 = sha256
        self.d_lm = int(table.shape[1])
        self.token_rms = float(table.float().square().mean().sqrt())

    def embed(self, text: str) -> Float[Tensor, "token d_lm"]:
        """Rows of the embedding table for the words as they stand, in the model's dtype; no bos is added."""
        ids = torch.tensor(self.tokenizer.encode(text), dtype=torch.long, device=self.device)
        rows: Tensor = self.model.get_input_embeddings()(ids)
        return rows

    def complete(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Greedy answers in the order of the prompts, those with a grammar always readable in it.

        A prompt with messages goes through the chat template, another is continued as it stands. Without a grammar
        the answer is one line of free text, at most FREE_TOKENS long. Raises AlignmentError for a prompt with slots,
        ConfigError for one that is empty or too long for the model's context.
        """
        for prompt in prompts:
            _refuse_slots(prompt)
        kinds: dict[Numbers | None, list[int]] = {}
        for i, prompt in enumerate(prompts):
            kinds.setdefault(prompt.grammar, []).append(i)
        found: dict[int, Answer] = {}
        for kind, rows in kinds.items():
            ids = [self.tokenizer.prompt_ids(prompts[i]) for i in rows]
            answers = decode.answer(self.model, self.tokenizer, ids, _automaton(self.tokenizer, kind))
            found.update(zip(rows, answers, strict=True))
        return [found[i] for i in range(len(prompts))]

    def fingerprint(self) -> str:
        """A hash over all weights: the same before and after whatever must not change them."""
        return fingerprint(self.model)


def load(name: str, *, depth: int | None, dtype: str, quant: str, seed: int) -> LanguageModel:
    """Loads, cuts and freezes a model. seed: of the weights of `random:<id>`."""
    if quant != "none":
        raise ConfigError(f"quant must be 'none', but it is {quant!r}. int8 and nf4 are not supported yet.")
    found = source.resolve(name)
    kind = choose_dtype(dtype, device := best_device())
    model = _pretrained(found.folder, kind) if found.pretrained else _random(found.folder, kind, seed)
    depth_full = len(layers_of(model))
    cut(model, depth_full if depth is None else depth)
    sha256 = found.sha256() if found.pretrained else fingerprint(model)
    model.to(device).eval().requires_grad_(False)
    return LanguageModel(found, model, depth_full=depth_full, sha256=sha256)


def _automaton(tokenizer: FastTokenizer, kind: Numbers | None) -> grammar.Grammar:
    return grammar.line(tokenizer, FREE_TOKENS) if kind is None else grammar.numbers(tokenizer, kind)


def _refuse_slots(prompt: Prompt) -> None:
    slots = [part.name for part in prompt.parts if isinstance(part, Slot)]
    if slots:
        raise AlignmentError(
            f"The prompt has a slot {slots[0]!r} for soft tokens, but complete() reads words alone. Use a "
            f"template without slots, or a soft predictor."
        )


def best_device() -> torch.device:
    """The accelerator torch finds (CUDA, MPS, XPU, ...), else the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """'fp32', 'bf16', or with 'auto' bf16 where the hardware multiplies it natively, else fp32.

    Raises ConfigError for any other word.
    """
    if dtype == "auto":
        native = device.type != "cpu" or _cpu_has_bf16()
        return torch.bfloat16 if native else torch.float32
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of auto, {', '.join(DTYPES)}, but it is {dtype!r}.")
    return DTYPES[dtype]


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The list of layers of any decoder: the one ModuleList of the base model as long as the config says.

    Raises ConfigError for an architecture that keeps its layers otherwise.
    """
    config = model.config.get_text_config()
    found = [
        module
        for module in model.base_model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers
    ]
    if not found:
        raise ConfigError(
            f"{type(model).__name__} keeps its {config.num_hidden_layers} layers in no ModuleList, so its depth "
            f"cannot be read. Choose a llama, qwen, gemma, gpt2 or alike."
        )
    return found[0]


def cut(model: PreTrainedModel, depth: int) -> None:
    """Keeps the first `depth` layers and the final norm; config follows."""
    layers = layers_of(model)
    if not 1 <= depth <= len(layers):
        raise ConfigError(f"depth must be 1 to {len(layers)} for this model, but it is {depth}.")
    config = model.config.get_text_config()
    del layers[depth:]
    config.num_hidden_layers = depth
    if getattr(config, "layer_types", None):
        config.layer_types = list(config.layer_types)[:depth]


def fingerprint(model: nn.Module) -> str:
    """A hash over the names, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict(keep_vars=False).items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _pretrained(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True
        )
    finally:
        if bars:
            logging.enable_progress_bar()


def _random(folder: Path, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    """The config's own initialisation, drawn in fp32 from `seed` without touching the global generator."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(dtype)


def _cpu_has_bf16() -> bool:
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16"))
