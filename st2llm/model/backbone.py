"""Backbones, the only part in which the trained arms of a comparison differ."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from st2llm.align.adapters import adapt
from st2llm.align.splice import pad_left, splice
from st2llm.config.model import FROZEN, Adaptation
from st2llm.encode.layers.linear import Linear
from st2llm.encode.layers.transformer import Transformer
from st2llm.errors import ConfigError
from st2llm.llm.architecture.base_model import base_of, check_context
from st2llm.llm.architecture.frozen_llama import FrozenLlama
from st2llm.llm.architecture.text_lengths import TextLengths
from st2llm.llm.architecture.windows import sliding_window_of
from st2llm.llm.local import LanguageModel, decoder_layers
from st2llm.model.attention import attention_for_training, keeps_scores
from st2llm.model.prompt_cache import KeptPrompts, PromptCache, mean_state
from st2llm.types import Slot

_SLOT = "soft"
_CHECK_PROMPTS = ("12, 34, 56 at 7:00", "8")
_keeps_prompts: WeakKeyDictionary[LanguageModel, bool] = WeakKeyDictionary()
"""Checked models, and whether prompts that they have read can be kept."""


@runtime_checkable
class Backbone(Protocol):
    """Maps soft tokens to states of the same width; also returns the mean state of the prompt it read (or zeros)."""

    def forward(
        self, soft: Float[Tensor, "batch slot d_lm"], prompts: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]: ...


class NoBackbone(nn.Module):
    """The identity: the ablation 'without the LLM' of Tan et al. 2024."""

    def forward(
        self, soft: Float[Tensor, "batch slot d_lm"], prompts: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        return soft, torch.zeros_like(soft[:, 0])


class AttentionBackbone(nn.Module):
    """One block of self-attention over the slots: the ablation 'LLM to attention' of Tan et al. 2024."""

    def __init__(self, d_lm: int, *, heads: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(d_lm)
        self.attention = nn.MultiheadAttention(d_lm, heads, batch_first=True)

    def forward(
        self, soft: Float[Tensor, "batch slot d_lm"], prompts: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        z = self.norm(soft)
        mixed, _ = self.attention(z, z, z, need_weights=False)
        return soft + mixed, torch.zeros_like(soft[:, 0])


class BlockBackbone(nn.Module):
    """One transformer block over the slots: attention, then a feed-forward layer, dense or a mixture of experts."""

    def __init__(self, d_lm: int, *, heads: int, feed: nn.Module) -> None:
        super().__init__()
        self.attention = AttentionBackbone(d_lm, heads=heads)
        self.norm, self.feed = nn.RMSNorm(d_lm), feed

    def forward(
        self, soft: Float[Tensor, "batch slot d_lm"], prompts: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        z, nothing = self.attention(soft, prompts)
        return z + self.feed(self.norm(z)), nothing


class MatchedBackbone(nn.Module):
    """A transformer trained from scratch with as many parameters as the adapters of the LoRA arm.

    d_lm -> width -> transformer layers -> d_lm; `matched_size` determines width and feed-forward size.
    """

    def __init__(self, d_lm: int, *, width: int, feedforward: int, layers: int) -> None:
        super().__init__()
        self.enter = Linear(d_lm, width)
        self.blocks = Transformer(width, heads=4, feedforward=feedforward, layers=layers)
        self.leave = Linear(width, d_lm)

    def forward(
        self, soft: Float[Tensor, "batch slot d_lm"], prompts: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        return soft + self.leave(self.blocks(self.enter(soft))), torch.zeros_like(soft[:, 0])


class LLMBackbone(nn.Module):
    """A language model that reads a prompt and the soft tokens after it; returns the states at the soft tokens.

    adaptation: which weights are trained. Soft tokens are cast to the model's dtype and states are returned in
    fp32. The keys and values of a frozen model's prompts do not change, so they are computed once per text and
    cached (`PromptCache`); a trained model reads its prompts at every step. prompt: number of learned vectors
    before the soft tokens (prompt tuning, Lester et al. 2021). neighbour_mask: [slot, slot], which soft tokens
    attend to each other, instead of causal attention (ST-LLM+, Liu et al. 2025).

    Texts that the model reads with other rotary frequencies are not in one pass (see `TextLengths`). Raises ConfigError
    for a neighbour_mask with a model that has sliding-window layers, and for a model whose states at soft tokens depend
    on the other rows of a batch.
    """

    def __init__(
        self,
        llm: LanguageModel,
        adaptation: Adaptation = FROZEN,
        *,
        virtual_tokens: int = 0,
        neighbour_mask: Bool[Tensor, "slot slot"] | None = None,
    ) -> None:
        super().__init__()
        self.llm, self.adaptation = llm, adaptation
        self.base = base_of(llm.model)
        self.lengths = TextLengths(self.base)
        self.prompt_cache: PromptCache | None = None
        self.neighbour_mask: Bool[Tensor, "slot slot"] | None = None
        plain = adaptation.frozen and FrozenLlama.can_read(self.base)
        self.frozen_llama = FrozenLlama(self.base) if plain else None
        if llm not in _keeps_prompts:
            _keeps_prompts[llm] = self._check_reading()
        if adaptation.frozen and _keeps_prompts[llm]:
            self.prompt_cache = PromptCache(llm)
        window = neighbour_mask is not None and sliding_window_of(llm.model.config.get_text_config())
        if window:
            raise ConfigError(
                f"Some layers of {llm.name} attend to the last {window} tokens only, so places cannot "
                f"attend to their neighbours there. Take attention_mask: causal, or a model without such layers."
            )
        adapt(self.base, adaptation)
        if adaptation.gradient_checkpointing:
            _enable_checkpointing(llm)
        self.prompt = (
            nn.Parameter(llm.token_rms * torch.randn(virtual_tokens, llm.d_lm)) if virtual_tokens else None
        )
        del self.neighbour_mask
        self.register_buffer("neighbour_mask", neighbour_mask, persistent=False)

    def train(self, mode: bool = True) -> "LLMBackbone":
        """Keeps the language model in eval mode, since its dropout (gpt2 has some) would invalidate the prompt
        cache.
        """
        super().train(mode)
        self.base.eval()
        # Only the layer's own flag is checked for checkpointing; its submodules stay in eval mode.
        if self.adaptation.gradient_checkpointing:
            for layer in decoder_layers(self.llm.model):
                layer.training = mode
        return self

    def forward(
        self, soft: Float[Tensor, "batch slot d_lm"], prompts: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        tokens = self.with_virtual_tokens(soft)
        states, mean = self.read(tokens, prompts)
        return states[:, tokens.shape[1] - soft.shape[1] :], mean

    def with_virtual_tokens(
        self, soft: Float[Tensor, "batch slot d_lm"]
    ) -> Float[Tensor, "batch virtual_and_slot d_lm"]:
        """The learned vectors of this backbone (prompt tuning) before the soft tokens."""
        if self.prompt is None:
            return soft
        return torch.cat([self.prompt.expand(len(soft), -1, -1), soft], dim=1)

    def read(
        self, tokens: Float[Tensor, "batch slot d_lm"], prompts: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        """The states of tokens that follow these prompts, and the prompts' mean states."""
        if not self.lengths.matter:
            return self._read_class(tokens, prompts, 1)
        counts = [len(self.llm.tokenizer.encode(text)) + tokens.shape[1] for text in prompts]
        groups = list(self.lengths.groups(counts))
        parts = []
        for length_class, rows in groups:
            with self.lengths.reading(length_class):
                parts.append(self._read_class(tokens[rows], [prompts[i] for i in rows], length_class))
        order = torch.tensor([i for _, rows in groups for i in rows], device=tokens.device).argsort()
        return torch.cat([states for states, _ in parts])[order], torch.cat([mean for _, mean in parts])[
            order
        ]

    def _read_class(
        self, tokens: Float[Tensor, "batch slot d_lm"], prompts: Sequence[str], length_class: int
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        if self.prompt_cache is None or not any(prompts):  # a batch of empty prompts cannot be cached
            return self._forward_uncached(tokens, prompts)
        return self._forward_cached(self.prompt_cache.lookup(prompts, length_class), tokens)

    @torch.no_grad()
    def _check_reading(self) -> bool:
        """Whether prompts can be kept: a batch of unequal prompts is compared with each row alone.

        Raises ConfigError where the states of a row depend on the batch.
        """
        table = self.llm.model.get_input_embeddings()
        ids = torch.arange(8, device=self.llm.device).reshape(2, 4) % table.weight.shape[0]
        soft = table(ids).float()
        try:
            alone = [self._forward_alone(soft[i], text) for i, text in enumerate(_CHECK_PROMPTS)]
            self._check_states(torch.stack(alone), self.read(soft, _CHECK_PROMPTS)[0])
        except (LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"{type(self.llm.model).__name__} cannot take soft tokens or be trained on answers: "
                f"{type(error).__name__}: {error}. Choose a llama, qwen, gemma, gpt2 or alike."
            ) from error
        try:
            self.prompt_cache = PromptCache(self.llm)
            self._check_states(torch.stack(alone), self.read(soft, _CHECK_PROMPTS)[0])
        except (LookupError, AttributeError, TypeError, ValueError, RuntimeError):
            return False
        finally:
            self.prompt_cache = None
        return True

    def _forward_alone(self, soft: Float[Tensor, "slot d_lm"], text: str) -> Float[Tensor, "slot d_lm"]:
        rows = torch.cat([self.llm.embed(text), soft.to(self.llm.dtype)])[None]
        states: Tensor = self.base(inputs_embeds=rows, use_cache=False).last_hidden_state.float()
        return states[0, -len(soft) :]

    def _check_states(self, expected: Tensor, actual: Tensor) -> None:
        off, scale = float((expected - actual).abs().max()), float(expected.abs().max())
        if not off <= (1e-3 if self.llm.dtype == torch.float32 and self.llm.quant == "none" else 0.1) * scale:
            raise ValueError(f"in a batch its states are off by {off:.3g} of {scale:.3g}")

    def _forward_uncached(
        self, soft: Float[Tensor, "batch slot d_lm"], prompts: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        b, slots, d = soft.shape
        cast = soft.to(self.llm.dtype)
        embedded = {text: self.llm.embed(text).to(soft.device) for text in set(prompts)}
        pieces = [
            splice([embedded[text], Slot(_SLOT, slots)], {_SLOT: cast[i]}) for i, text in enumerate(prompts)
        ]
        batch = pad_left([rows for rows, _ in pieces], [marks for _, marks in pieces])
        check_context(self.llm.model, batch.embeddings.shape[1])
        with self._attention(b, batch.embeddings.shape[1], batch.embeddings.shape[1]):
            states: Tensor = self.base(
                inputs_embeds=batch.embeddings,
                attention_mask=self._attention_mask(batch.real[:, :-slots], slots),
                position_ids=batch.position,
                use_cache=False,
            ).last_hidden_state.float()
        return states[batch.is_soft].reshape(b, slots, d), mean_state(states, batch.is_text)

    def _forward_cached(
        self, kept: KeptPrompts, soft: Float[Tensor, "batch slot d_lm"]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        slots, (past, lengths, mean) = soft.shape[1], kept
        longest = int(lengths.max())
        check_context(self.llm.model, longest + slots)
        real = torch.arange(longest, device=soft.device) >= longest - lengths[:, None]
        position = lengths[:, None] + torch.arange(slots, device=soft.device)
        tokens = soft.to(self.llm.dtype)
        if self.frozen_llama is not None and keeps_scores(self.llm, len(soft) * slots * (longest + slots)):
            keys_values = [(layer.keys, layer.values) for layer in past.layers]
            frozen_states = self.frozen_llama(tokens, keys_values, position, self._visible(real, slots))
            return frozen_states.float(), mean
        mask = self._attention_mask(real, slots)
        with self._attention(len(soft), slots, longest + slots):
            states: Tensor = self.base(
                inputs_embeds=tokens,
                attention_mask=mask if mask.ndim == 2 else mask[:, :, longest:],
                position_ids=position,
                past_key_values=past,
                use_cache=True,
            ).last_hidden_state.float()
        return states, mean

    def _visible(
        self, real: Bool[Tensor, "batch word"], slots: int
    ) -> Bool[Tensor, "batch slot word_and_slot"]:
        """Which tokens of the prompt, and which other soft tokens, a soft token attends to."""
        own = torch.ones(slots, slots, dtype=torch.bool, device=real.device).tril()
        if self.neighbour_mask is not None:
            first = slots - len(self.neighbour_mask)
            own[first:, first:] = self.neighbour_mask
        return torch.cat([real[:, None].expand(-1, slots, -1), own.expand(len(real), -1, -1)], dim=2)

    def _attention(self, batch: int, queries: int, keys: int) -> AbstractContextManager[None]:
        """The attention kernel of a pass. Checkpointed layers are computed again outside it, so they keep theirs."""
        if self.adaptation.gradient_checkpointing:
            return nullcontext()
        return attention_for_training(self.llm, batch * queries * keys)

    def _attention_mask(self, real: Bool[Tensor, "batch word"], slots: int) -> Tensor:
        """1 where not padding, [batch, token]; with a neighbour_mask, an additive mask [batch, 1, token, token]."""
        b, prompt_length = real.shape
        real_tokens = torch.cat([real, real.new_ones(b, slots)], dim=1)
        if self.neighbour_mask is None:
            return real_tokens.long()
        size = prompt_length + slots
        visible = torch.ones(size, size, dtype=torch.bool, device=real.device).tril()
        slot_count = len(self.neighbour_mask)
        visible[size - slot_count :, size - slot_count :] = self.neighbour_mask
        visible = visible & real_tokens[:, None] | torch.eye(size, dtype=torch.bool, device=real.device)
        mask = torch.zeros(visible.shape, dtype=self.llm.dtype, device=real.device)
        return mask.masked_fill(~visible, torch.finfo(self.llm.dtype).min)[:, None]


def _enable_checkpointing(llm: LanguageModel) -> None:
    """Recomputes layers in the backward pass (activation checkpointing, Chen et al. 2016)."""
    llm.model.activation_checkpointing_enable({"use_reentrant": False})


def matched_size(d_lm: int, parameter_count: int) -> tuple[int, int, int]:
    """Width, feed-forward size and number of layers of a MatchedBackbone with about `parameter_count` parameters.

    One layer; the widest width (a multiple of 8) that leaves a feed-forward of at least `width`. Raises
    ConfigError where none fits.
    """
    for width in range(d_lm // 8 * 8, 7, -8):
        fixed = 2 * d_lm * width + d_lm + width + 4 * width * width + 4 * width + 5 * width
        feedforward = (parameter_count - fixed) // (2 * width + 1)
        if feedforward >= width:
            return width, int(feedforward), 1
    raise ConfigError(
        f"No transformer of width 8 or more has only {parameter_count} parameters. Raise adapt.rank."
    )


def trained_parameter_count(module: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
