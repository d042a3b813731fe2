"""A frozen language model on this machine: embedding, constrained generation and scoring."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from st2llm.devices import best_device, has_native_bf16
from st2llm.display import Displayed, Overview
from st2llm.errors import AlignmentError, ConfigError, DataError
from st2llm.llm import model_files
from st2llm.llm import quantise as quantise
from st2llm.llm.architecture.base_model import base_of
from st2llm.llm.architecture.text_lengths import TextLengths
from st2llm.llm.decode.engine import ENGINE_VERSION, Engine
from st2llm.llm.decode.requests import DecodeRequest, grammar_path
from st2llm.llm.decode.single_text import SingleTextEngine
from st2llm.llm.grammar import build_automaton
from st2llm.llm.grammar.vocabulary import vocabulary_of
from st2llm.llm.tokenizer import FastTokenizer, read_tokenizer
from st2llm.types import GREEDY, Answer, Decoding, Prompt, PromptLike, Slot, as_prompts

_log = logging.getLogger(__name__)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class LanguageModel(Displayed):
    """A causal language model in eval mode with all parameters frozen.

    revision: commit in the Hugging Face repository, None for models from elsewhere. source: what transformers'
    `from_pretrained` takes, see `ModelFiles`. depth: number of layers kept, of depth_full. sha256: hash of the
    weights on disk, or of the drawn weights where not pretrained. config_sha256: hash of the settings of
    its config that it computes with.
    d_lm: width of the embedding table. token_rms: root mean square of the table's entries as the first layer
    receives them.
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
        self.revision, self.source = files.revision, files.source
        self.pretrained = files.pretrained
        self.model = model
        self.tokenizer: FastTokenizer = read_tokenizer(files.folder)
        self.depth = len(decoder_layers(model))
        self.depth_full = depth_full
        self.dtype: torch.dtype = table.dtype
        self.quant = quant
        self.sha256 = sha256
        self.d_lm = int(table.shape[1])
        # Gemma multiplies embeddings by this before its first layer.
        embedding_scale = float(getattr(model.get_input_embeddings(), "scalar_embed_scale", 1.0))
        self.token_rms = embedding_scale * float(table.float().square().mean().sqrt())
        self.config_sha256 = model_files.config_sha256(files.folder)
        self._tokenizer_sha256 = model_files.tokenizer_sha256(files.folder)
        self._engine: Engine | SingleTextEngine | None = None
        self._engine_device = self.device

    @property
    def device(self) -> torch.device:
        """The device of the weights, also after they were moved."""
        table: Tensor = self.model.get_input_embeddings().weight
        return table.device

    def overview(self) -> Overview:
        """Name, depth, width, and how the weights are held."""
        held = [
            ("dtype", str(self.dtype).removeprefix("torch.")),
            ("device", str(self.device)),
            ("quant", self.quant),
        ]
        layers = f"{self.depth} of {self.depth_full}"
        rows = [("name", self.name), ("layers", layers), ("d_lm", str(self.d_lm)), *held]
        return Overview([*rows, ("pretrained", str(self.pretrained))])

    def embed(self, text: str) -> Float[Tensor, "token d_lm"]:
        """Rows of the embedding table for the text's tokens, [token, d_lm], in the model's dtype; no bos is added."""
        ids = torch.tensor(self.tokenizer.encode(text), dtype=torch.long, device=self.device)
        rows: Tensor = self.model.get_input_embeddings()(ids)
        return rows

    def complete(
        self, prompts: PromptLike | Sequence[PromptLike], decoding: Decoding = GREEDY
    ) -> list[Answer]:
        """Answers in the order of the prompts, `decoding.draws` for each; answers under a grammar can always be
        parsed.

        A prompt with messages goes through the chat template; any other, and a plain string, is continued as it
        is. Without a grammar the answer is one line of free text. Raises AlignmentError for a prompt with slots,
        ConfigError for one that is empty or too long for the model's context.
        """
        requests = [self._request(prompt) for prompt in as_prompts(prompts)]
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

    def score(self, prompt: PromptLike, candidates: Sequence[str]) -> Float64[np.ndarray, " candidate"]:
        """Log-probability in nats of each candidate as the continuation of the prompt, over the whole vocabulary.

        The prompt and every prefix that candidates share are read once. Candidates follow the prompt directly,
        so a candidate includes its own leading space. Raises AlignmentError for a prompt with slots,
        ConfigError for an empty list, an empty candidate, or a text too long for the model's context.
        """
        (prompt,) = as_prompts(prompt)
        _check_no_slots(prompt)
        candidate_ids = [self.tokenizer.encode_continuation(candidate) for candidate in candidates]
        return self.engine.candidate_logprobs(self.tokenizer.prompt_ids(prompt), candidate_ids)

    def log_likelihood(
        self, prompts: PromptLike | Sequence[PromptLike], answers: Sequence[str] | None = None
    ) -> Float64[np.ndarray, " prompt"]:
        """Log-probability in nats of an answer to each prompt, among all answers that its grammar allows.

        answers: the prompts' own truths by default, each in the tokens with which the tokenizer continues a text.
        Divided by -ln 2 and the number of values, these are bits per value (LLMTime, Gruver et al. 2023, reports this
        up to the bin width). Raises DataError for an answer that the grammar does not allow, such as a truth with a
        missing value, ConfigError for another number of answers than prompts, and as `complete` does.
        """
        prompts = as_prompts(prompts)
        requests = [self._request(prompt) for prompt in prompts]
        texts = [prompt.truth for prompt in prompts] if answers is None else list(answers)
        if len(texts) != len(prompts):
            raise ConfigError(
                f"log_likelihood got {len(texts)} answers to {len(prompts)} prompts. Give one answer for each prompt."
            )
        answer_ids = [self._answer_ids(text) for text in texts]
        for i, (request, ids) in enumerate(zip(requests, answer_ids, strict=True)):
            if grammar_path(request.automaton, ids) is None:
                raise DataError(
                    f"The answer {texts[i][:60]!r} to prompt {i} is not one that its grammar allows, so it has no "
                    f"likelihood. Leave out samples whose truth has a missing value (`x`), or give `answers`."
                )
        return np.array(self.engine.log_likelihood(requests, answer_ids), dtype=np.float64)

    @property
    def identity(self) -> str:
        """Everything that an answer depends on besides the prompt: weights, config, depth, arithmetic, tokenizer,
        engine version.
        """
        arithmetic = f"{str(self.dtype).removeprefix('torch.')} {self.quant} {self.device.type}"
        settings = f"config {self.config_sha256} tokenizer {self._tokenizer_sha256}"
        by_length = " by text length" if TextLengths(base_of(self.model)).matter else ""
        return f"{self.sha256} depth {self.depth} {arithmetic} {settings} engine {ENGINE_VERSION}{by_length}"

    @property
    def engine(self) -> Engine | SingleTextEngine:
        """The decoder over these weights, created at first use; batched where the architecture allows it.

        It holds weights in a layout of their device, so another one is created after they were moved. Raises
        ConfigError for an architecture that neither engine reads as transformers does.
        """
        if self._engine is None or self._engine_device != self.device:
            self._engine, self._engine_device = self._new_engine(), self.device
        return self._engine

    def _new_engine(self) -> Engine | SingleTextEngine:
        try:
            return Engine(self.model, native_bf16=has_native_bf16(self.device))
        except ConfigError as error:
            engine = SingleTextEngine(self.model)
            reason = str(error).partition(": ")[2].partition(". ")[0]
            _log.warning("%s reads one text at a time, not in batches, since %s.", self.name, reason)
            return engine

    def _answer_ids(self, text: str) -> list[int]:
        """The tokens that write exactly `text` after a prompt; the tokenizer's own where no tokens do."""
        vocabulary = vocabulary_of(self.tokenizer)
        if vocabulary.unwritable(text):
            return self.tokenizer.encode_continuation(text)
        return vocabulary.tokenize_inside(text)

    def _request(self, prompt: Prompt) -> DecodeRequest:
        _check_no_slots(prompt)
        ids = tuple(self.tokenizer.prompt_ids(prompt))
        return DecodeRequest(ids, build_automaton(self.tokenizer, prompt.grammar), prompt.sha256)

    def fingerprint(self) -> str:
        """A hash over all weights, to verify that training has not changed them."""
        return fingerprint(self.model)


def require_local(model: Any) -> LanguageModel:
    """Returns a model whose weights are on this machine. Raises ConfigError for a model behind an endpoint."""
    if not isinstance(model, LanguageModel):
        raise ConfigError(
            f"{model.name} is behind an endpoint, but the weights of a model are needed here. Choose a model on this "
            f"machine."
        )
    return model


def load(name: str, *, depth: int | None, dtype: str, quant: str, seed: int) -> LanguageModel:
    """Loads, quantises, truncates and freezes a model. seed: seed of the weights of `random:<id>`."""
    torch_dtype = choose_dtype(dtype, device := best_device())
    options = LoadOptions(torch_dtype, device, quantise.quantisation_config(quant, torch_dtype))
    files = model_files.resolve(name)
    _check_config(files.folder)
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
            f"The prompt has a slot {slots[0]!r} for soft tokens, but complete() reads text only. Use a "
            f"template without slots, or a soft predictor."
        )


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The torch dtype for 'fp32' or 'bf16'; 'auto' means bf16 where the hardware multiplies it natively, else
    fp32.

    Raises ConfigError for any other value.
    """
    if dtype == "auto":
        return torch.bfloat16 if has_native_bf16(device) else torch.float32
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of auto, {', '.join(DTYPES)}, but it is {dtype!r}.")
    return DTYPES[dtype]


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers of any architecture: the ModuleList of the base model whose length is
    config.num_hidden_layers.

    Raises ConfigError for an architecture that keeps its layers otherwise.
    """
    config = model.config.get_text_config()
    candidates = [
        module
        for module in base_of(model).modules()
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers
    ]
    if not candidates:
        raise ConfigError(
            f"{type(model).__name__} keeps its {config.num_hidden_layers} layers in no ModuleList, so its depth "
            f"cannot be read. Choose a llama, qwen, gemma, gpt2 or alike."
        )
    return candidates[0]


def truncate_layers(model: PreTrainedModel, depth: int) -> None:
    """Keeps the first `depth` layers and the final norm, in place; lists in the config with one entry per layer
    are cut too.
    """
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
    """A hash over names, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict(keep_vars=False).items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class LoadOptions:
    """The dtype, device and quantisation with which a model is loaded."""

    dtype: torch.dtype
    device: torch.device
    quantisation: BitsAndBytesConfig | None


def _load_pretrained(folder: Path, options: LoadOptions) -> PreTrainedModel:
    try:
        return _from_pretrained(
            AutoModelForCausalLM, folder, options, local_files_only=True, use_safetensors=True
        )
    except ValueError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"{folder} cannot be loaded as a causal language model: {reason}") from error


def _draw_random(folder: Path, options: LoadOptions, seed: int) -> PreTrainedModel:
    """Initialises a model from its config, drawn in fp32 from `seed` without touching the global generator."""
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
    """Calls `from_pretrained` without its progress bar; a quantised model is placed on the device while it loads."""
    progress_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
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
            transformers_logging.enable_progress_bar()
    return model if options.quantisation else model.to(options.device)


def _check_config(folder: Path) -> None:
    """Raises ConfigError for a model that needs code of its own or is saved quantised, and for a damaged config."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(
            f"{folder / 'config.json'} is not the config of a model that the installed transformers knows: {reason} "
            f"Code in the folder of a model is not run. Choose a model whose architecture transformers has."
        ) from error
    if (quantisation := config.get("quantization_config")) is not None:
        raise ConfigError(
            f"The weights in {folder} were saved quantised ("
            f"{quantisation.get('quant_method', 'by an unnamed method')}). Give the unquantised model and "
            f"quant='int8' or 'nf4'."
        )
