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
from st2llm.llm.decode.engine import ENGINE_VERSION, Engine
from st2llm.llm.decode.requests import DecodeRequest
from st2llm.llm.grammar import build_automaton
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
        files: model_files.ModelFiles,
        model: PreTrainedModel,
        *,
        depth_full: int,
        sha256: str,
        quant: str = "none",
    ) -> None:
        table: Tensor = model.get_input_embeddings().weight
        self.name = files.name
        self.revision = files.folder.name if files.folder.parent.name == "snapshots" else None
        self.pretrained = files.pretrained
        self.model = model
        self.tokenizer: FastTokenizer = read_tokenizer(files.folder)
        self.depth = len(decoder_layers(model))
        self.depth_full = depth_full
        self.dtype: torch.dtype = table.dtype
        self.device: torch.device = table.device
        self.quant = quant
        self.sha256 = sha256
        self.d_lm = int(table.shape[1])
        # A gemma multiplies its table's rows by this before its layers see them.
        embedding_scale = float(getattr(model.get_input_embeddings(), "scalar_embed_scale", 1.0))
        self.token_rms = embedding_scale * float(table.float().square().mean().sqrt())
        self._tokenizer_sha256 = model_files.tokenizer_sha256(files.folder)

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
        requests = [self._request(prompt) for prompt in prompts]
        draws = self.engine.generate(requests, decoding) if requests else []
        return [
            Answer(
                text=requests[i // decoding.draws].automaton.text(draw.tokens),
                tokens_in=len(requests[i // decoding.draws].prompt_ids),
                tokens_out=draw.tokens_spent,
                seconds=draw.seconds,
                logprob=draw.logprob,
                prompt_sha256=requests[i // decoding.draws].key,
                draw=i % decoding.draws,
                tokens_shared=draw.tokens_shared,
                finish=draw.finish,
            )
            for i, draw in enumerate(draws)
        ]

    def score(self, prompt: Prompt, candidates: Sequence[str]) -> Float64[np.ndarray, " candidate"]:
        """Log-probability in nats of each candidate as the prompt's continuation, over the whole vocabulary.

        The prompt is read once, and so is every beginning that candidates share; words are continued as they stand,
        so a candidate brings its own blank. Raises AlignmentError for a prompt with slots, ConfigError for no
        candidates, an empty one, or a text too long for the model's context.
        """
        _check_no_slots(prompt)
        candidate_ids = [self.tokenizer.encode(candidate) for candidate in candidates]
        return self.engine.candidate_logprobs(self.tokenizer.prompt_ids(prompt), candidate_ids)

    def log_likelihood(
        self, prompts: Sequence[Prompt], answers: Sequence[str] | None = None
    ) -> Float64[np.ndarray, " prompt"]:
        """Log-probability in nats of an answer to each prompt, among all answers that its grammar allows.

        answers: the prompts' own truths where not given. nan where the grammar does not allow the answer. Divided by
        -ln 2 and the number of values these are bits per value (LLMTime, Gruver et al. 2023, scores so up to the
        width of a bin). Raises as `complete` does.
        """
        requests = [self._request(prompt) for prompt in prompts]
        texts = [prompt.truth for prompt in prompts] if answers is None else list(answers)
        answer_ids = [self.tokenizer.encode(text) for text in texts]
        return np.array(self.engine.log_likelihood(requests, answer_ids), dtype=np.float64)

    @property
    def identity(self) -> str:
        """All that an answer depends on beside the question: weights, depth, arithmetic, tokenizer, engine."""
        arithmetic = f"{str(self.dtype).removeprefix('torch.')} {self.quant} {self.device.type}"
        return f"{self.sha256} depth {self.depth} {arithmetic} tokenizer {self._tokenizer_sha256} engine {ENGINE_VERSION}"

    @cached_property
    def engine(self) -> Engine:
        """The batched decoder over these weights; made at the first question."""
        return Engine(self.model, native_bf16=self.device.type != "cpu" or _cpu_has_bf16())

    def _request(self, prompt: Prompt) -> DecodeRequest:
        _check_no_slots(prompt)
        ids = tuple(self.tokenizer.prompt_ids(prompt))
        return DecodeRequest(ids, build_automaton(self.tokenizer, prompt.grammar), prompt.sha256)

    def fingerprint(self) -> str:
        """A hash over all weights: the same before and after whatever must not change them."""
        return fingerprint(self.model)


def require_local(model: Any) -> LanguageModel:
    """The model itself, where it is on this machine. Raises ConfigError for one behind an endpoint."""
    if not isinstance(model, LanguageModel):
        raise ConfigError(
            f"{model.name} answers from elsewhere, but the weights of a model are needed here. Take one on this "
            f"machine."
        )
    return model


def load(name: str, *, depth: int | None, dtype: str, quant: str, seed: int) -> LanguageModel:
    """Loads, quantises, cuts and freezes a model. seed: of the weights of `random:<id>`."""
    torch_dtype = choose_dtype(dtype, device := best_device())
    options = LoadOptions(torch_dtype, device, quantise.quantisation_config(quant, torch_dtype))
    files = model_files.resolve(name)
    _check_not_quantised(files.folder)
    model = (
        _load_pretrained(files.folder, options)
        if files.pretrained
        else _draw_random(files.folder, options, seed)
    )
    depth_full = len(decoder_layers(model))
    truncate_layers(model, depth_full if depth is None else depth)
    quantise.keep_in_training_mode(model)
    sha256 = files.sha256() if files.pretrained else fingerprint(model)
    model.eval().requires_grad_(False)
    return LanguageModel(files, model, depth_full=depth_full, sha256=sha256, quant=quant)


def _check_no_slots(prompt: Prompt) -> None:
    slots = [part.name for part in prompt.parts if isinstance(part, Slot)]
    if slots:
        raise AlignmentError(
            f"The prompt has a slot {slots[0]!r} for soft tokens, but complete() reads words alone. Use a "
            f"template without slots, or a soft predictor."
        )


def best_device() -> torch.device:
    """The accelerator torch finds (CUDA, MPS, XPU, ...), else the CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


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


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The list of layers of any decoder: the one ModuleList of the base model as long as the config says.

    Raises ConfigError for an architecture that keeps its layers otherwise.
    """
    config = model.config.get_text_config()
    candidates = [
        module
        for module in model.base_model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers
    ]
    if not candidates:
        raise ConfigError(
            f"{type(model).__name__} keeps its {config.num_hidden_layers} layers in no ModuleList, so its depth "
            f"cannot be read. Choose a llama, qwen, gemma, gpt2 or alike."
        )
    return candidates[0]


def truncate_layers(model: PreTrainedModel, depth: int) -> None:
    """Keeps the first `depth` layers and the final norm; config follows, with all that it lists layer by layer."""
    layers = decoder_layers(model)
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
class LoadOptions:
    """In which dtype, on which device and in which quantisation a model is loaded."""

    dtype: torch.dtype
    device: torch.device
    quantisation: BitsAndBytesConfig | None


def _load_pretrained(folder: Path, options: LoadOptions) -> PreTrainedModel:
    return _from_pretrained(
        AutoModelForCausalLM, folder, options, local_files_only=True, use_safetensors=True
    )


def _draw_random(folder: Path, options: LoadOptions, seed: int) -> PreTrainedModel:
    """The config's own initialisation, drawn in fp32 from `seed` without touching the global generator."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(options.dtype)
    if options.quantisation is None:
        return model.to(options.device)
    return _from_pretrained(type(model), None, options, config=model.config, state_dict=model.state_dict())


def _from_pretrained(
    model_class: Any, folder: Path | None, options: LoadOptions, **more: Any
) -> PreTrainedModel:
    """transformers' own loading, without its bar; what is quantised is on the device at once, the rest follows."""
    progress_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    device_map = None if options.quantisation is None else {"": options.device}
    try:
        model = model_class.from_pretrained(
            folder,
            dtype=options.dtype,
            quantization_config=options.quantisation,
            device_map=device_map,
            **more,
        )
    finally:
        if progress_bar:
            logging.enable_progress_bar()
    return model if options.quantisation else model.to(options.device)


def _check_not_quantised(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if (quantisation := config.get("quantization_config")) is not None:
        raise ConfigError(
            f"The weights in {folder} were saved quantised ({quantisation.get('quant_method', 'by an unnamed method')}). "
            f"Give the model as it was before, and quant='int8' or 'nf4'."
        )


def _cpu_has_bf16() -> bool:
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16"))
