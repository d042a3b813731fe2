"""A frozen language model on this machine: its embedding table, its layers, its words."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.utils import logging

from st2llm.errors import AlignmentError, ConfigError
from st2llm.llm import model_files
from st2llm.llm import quantise as quantise
from st2llm.llm.decode.engine import VERSION, Engine
from st2llm.llm.decode.requests import Question
from st2llm.llm.grammar import automaton
from st2llm.llm.tokenizer import FastTokenizer, read_tokenizer
from st2llm.types import GREEDY, Answer, Decoding, Prompt, Slot

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class LanguageModel:
    """A causal language model in eval mode whose every parameter is frozen.

    revision: of the hub's repository, None where it is not from there. depth: layers kept, of depth_full. sha256: of
    the weights on disk, or as drawn where not pretrained. d_lm: width of the embedding table. token_rms: root mean
    square of that table's entries, as the first layer sees them.
    """

    def __init__(
        self,
        found: model_files.Source,
        model: PreTrainedModel,
        *,
        depth_full: int,
        sha256: str,
        quant: str = "none",
    ) -> None:
        table: Tensor = model.get_input_embeddings().weight
        self.name = found.name
        self.revision = found.folder.name if found.folder.parent.name == "snapshots" else None
        self.pretrained = found.pretrained
        self.model = model
        self.tokenizer: FastTokenizer = read_tokenizer(found.folder)
        self.depth = len(layers_of(model))
        self.depth_full = depth_full
        self.dtype: torch.dtype = table.dtype
        self.device: torch.device = table.device
        self.quant = quant
        self.sha256 = sha256
        self.d_lm = int(table.shape[1])
        # A gemma multiplies its table's rows by this before its layers see them.
        volume = float(getattr(model.get_input_embeddings(), "scalar_embed_scale", 1.0))
        self.token_rms = volume * float(table.float().square().mean().sqrt())
        self._tokenizer_sha256 = model_files.tokenizer_sha256(found.folder)

    def embed(self, text: str) -> Float[Tensor, "token d_lm"]:
        """Rows of the embedding table for the words as they stand, in the model's dtype; no bos is added."""
        ids = torch.tensor(self.tokenizer.encode(text), dtype=torch.long, device=self.device)
        rows: Tensor = self.model.get_input_embeddings()(ids)
        return rows

    def complete(self, prompts: Sequence[Prompt], decoding: Decoding = GREEDY) -> list[Answer]:
        """Answers in the order of the prompts, `decoding.draws` to each, those with a grammar always readable in it.

        A prompt with messages goes through the chat template, another is continued as it stands. Without a grammar
        the answer is one line of free text. Raises AlignmentError for a prompt with slots, ConfigError for one that
        is empty or too long for the model's context.
        """
        questions = [self._question(prompt) for prompt in prompts]
        drawn = self.engine.answer(questions, decoding) if questions else []
        return [
            Answer(
                text=questions[i // decoding.draws].automaton.text(draw.tokens),
                tokens_in=len(questions[i // decoding.draws].ids),
                tokens_out=draw.spent,
                seconds=draw.seconds,
                logprob=draw.logprob,
                prompt_sha256=questions[i // decoding.draws].key,
                draw=i % decoding.draws,
                tokens_shared=draw.shared,
                finish=draw.finish,
            )
            for i, draw in enumerate(drawn)
        ]

    def score(self, prompt: Prompt, candidates: Sequence[str]) -> Float64[np.ndarray, " candidate"]:
        """Log-probability in nats of each candidate as the prompt's continuation, over the whole vocabulary.

        The prompt is read once, and so is every beginning that candidates share; words are continued as they stand,
        so a candidate brings its own blank. Raises AlignmentError for a prompt with slots, ConfigError for no
        candidates, an empty one, or a text too long for the model's context.
        """
        _refuse_slots(prompt)
        words = [self.tokenizer.encode(candidate) for candidate in candidates]
        return self.engine.likelihoods(self.tokenizer.prompt_ids(prompt), words)

    def log_likelihood(
        self, prompts: Sequence[Prompt], answers: Sequence[str] | None = None
    ) -> Float64[np.ndarray, " prompt"]:
        """Log-probability in nats of an answer to each prompt, among all answers that its grammar allows.

        answers: the prompts' own truths where not given. nan where the grammar does not allow the answer. Divided by
        -ln 2 and the number of values these are bits per value (LLMTime, Gruver et al. 2023, scores so up to the
        width of a bin). Raises as `complete` does.
        """
        questions = [self._question(prompt) for prompt in prompts]
        said = [prompt.truth for prompt in prompts] if answers is None else list(answers)
        words = [self.tokenizer.encode(text) for text in said]
        return np.array(self.engine.log_likelihood(questions, words), dtype=np.float64)

    @property
    def identity(self) -> str:
        """All that an answer depends on beside the question: weights, depth, arithmetic, tokenizer, engine."""
        arithmetic = f"{str(self.dtype).removeprefix('torch.')} {self.quant} {self.device.type}"
        return f"{self.sha256} depth {self.depth} {arithmetic} tokenizer {self._tokenizer_sha256} engine {VERSION}"

    @cached_property
    def engine(self) -> Engine:
        """The batched decoder over these weights; made at the first question."""
        return Engine(self.model, native_bf16=self.device.type != "cpu" or _cpu_has_bf16())

    def _question(self, prompt: Prompt) -> Question:
        _refuse_slots(prompt)
        ids = tuple(self.tokenizer.prompt_ids(prompt))
        return Question(ids, automaton(self.tokenizer, prompt.grammar), prompt.sha256)

    def fingerprint(self) -> str:
        """A hash over all weights: the same before and after whatever must not change them."""
        return fingerprint(self.model)


def with_weights(model: Any) -> LanguageModel:
    """The model itself, where it is on this machine. Raises ConfigError for one behind an endpoint."""
    if not isinstance(model, LanguageModel):
        raise ConfigError(
            f"{model.name} answers from elsewhere, but the weights of a model are needed here. Take one on this "
            f"machine."
        )
    return model


def load(name: str, *, depth: int | None, dtype: str, quant: str, seed: int) -> LanguageModel:
    """Loads, quantises, cuts and freezes a model. seed: of the weights of `random:<id>`."""
    kind = choose_dtype(dtype, device := best_device())
    wanted = How(kind, device, quantise.settings(quant, kind))
    found = model_files.resolve(name)
    _refuse_quantised(found.folder)
    model = _pretrained(found.folder, wanted) if found.pretrained else _random(found.folder, wanted, seed)
    depth_full = len(layers_of(model))
    cut(model, depth_full if depth is None else depth)
    quantise.guard(model)
    sha256 = found.sha256() if found.pretrained else fingerprint(model)
    model.eval().requires_grad_(False)
    return LanguageModel(found, model, depth_full=depth_full, sha256=sha256, quant=quant)


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
    """Keeps the first `depth` layers and the final norm; config follows, with all that it lists layer by layer."""
    layers = layers_of(model)
    full = len(layers)
    if not 1 <= depth <= full:
        raise ConfigError(f"depth must be 1 to {full} for this model, but it is {depth}.")
    config = model.config.get_text_config()
    del layers[depth:]
    config.num_hidden_layers = depth
    for name, value in list(vars(config).items()):
        if "layer" in name and isinstance(value, list | tuple) and len(value) == full:
            setattr(config, name, value[:depth])
    if shared := getattr(config, "num_kv_shared_layers", None):  # counted from the end
        config.num_kv_shared_layers = max(0, depth - (full - shared))


def fingerprint(model: nn.Module) -> str:
    """A hash over the names, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict(keep_vars=False).items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class How:
    """In which dtype, on which device and in which quantisation a model is loaded."""

    dtype: torch.dtype
    device: torch.device
    packing: BitsAndBytesConfig | None


def _pretrained(folder: Path, how: How) -> PreTrainedModel:
    return _loaded(AutoModelForCausalLM, folder, how, local_files_only=True, use_safetensors=True)


def _random(folder: Path, how: How, seed: int) -> PreTrainedModel:
    """The config's own initialisation, drawn in fp32 from `seed` without touching the global generator."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        drawn = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(how.dtype)
    if how.packing is None:
        return drawn.to(how.device)
    return _loaded(type(drawn), None, how, config=drawn.config, state_dict=drawn.state_dict())


def _loaded(kind: Any, folder: Path | None, how: How, **more: Any) -> PreTrainedModel:
    """transformers' own loading, without its bar; what is quantised is on the device at once, the rest follows."""
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    place = None if how.packing is None else {"": how.device}
    try:
        model = kind.from_pretrained(
            folder, dtype=how.dtype, quantization_config=how.packing, device_map=place, **more
        )
    finally:
        if bars:
            logging.enable_progress_bar()
    return model if how.packing else model.to(how.device)


def _refuse_quantised(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if (packing := config.get("quantization_config")) is not None:
        raise ConfigError(
            f"The weights in {folder} were saved quantised ({packing.get('quant_method', 'by an unnamed method')}). "
            f"Give the model as it was before, and quant='int8' or 'nf4'."
        )


def _cpu_has_bf16() -> bool:
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16"))
