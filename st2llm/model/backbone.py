"""Backbones, the only part in which the trained arms of a comparison differ."""

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformers import DynamicCache

from st2llm.align.adapters import adapt
from st2llm.align.splice import pad_left, splice
from st2llm.config.model import FROZEN, Adaptation
from st2llm.errors import ConfigError
from st2llm.llm.local import LanguageModel, decoder_layers
from st2llm.model.attention import attention_for_training
from st2llm.types import Slot

_SLOT = "soft"


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
        self.enter = nn.Linear(d_lm, width)
        block = nn.TransformerEncoderLayer(
            width, 4, feedforward, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.leave = nn.Linear(width, d_lm)

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

    Raises ConfigError for a neighbour_mask with a model that has sliding-window layers.
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
        self.base = llm.model.base_model
        self.prompt_cache = PromptCache(llm) if adaptation.frozen else None
        if neighbour_mask is not None and sliding_window_of(llm) is not None:
            raise ConfigError(
                f"Some layers of {llm.name} attend to the last {sliding_window_of(llm)} tokens only, so places cannot "
                f"attend to their neighbours there. Take attention_mask: causal, or a model without such layers."
            )
        adapt(self.base, adaptation)
        if adaptation.gradient_checkpointing:
            _enable_checkpointing(llm)
        self.prompt = (
            nn.Parameter(llm.token_rms * torch.randn(virtual_tokens, llm.d_lm)) if virtual_tokens else None
        )
        self.neighbour_mask: Bool[Tensor, "slot slot"] | None
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
        if self.prompt_cache is None or not any(prompts):  # a batch of empty prompts cannot be cached
            return self._forward_uncached(tokens, prompts)
        return self._forward_cached(self.prompt_cache, tokens, prompts)

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
        with self._attention(b, batch.embeddings.shape[1], batch.embeddings.shape[1]):
            states: Tensor = self.base(
                inputs_embeds=batch.embeddings,
                attention_mask=self._attention_mask(batch.real[:, :-slots], slots),
                position_ids=batch.position,
                use_cache=False,
            ).last_hidden_state.float()
        return states[batch.is_soft].reshape(b, slots, d), mean_state(states, batch.is_text)

    def _forward_cached(
        self, cache: "PromptCache", soft: Float[Tensor, "batch slot d_lm"], prompts: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        slots = soft.shape[1]
        past, lengths, mean = cache.lookup(prompts)
        longest = int(lengths.max())
        real = torch.arange(longest, device=soft.device) >= longest - lengths[:, None]
        mask = self._attention_mask(real, slots)
        with self._attention(len(soft), slots, longest + slots):
            states: Tensor = self.base(
                inputs_embeds=soft.to(self.llm.dtype),
                attention_mask=mask if mask.ndim == 2 else mask[:, :, longest:],
                position_ids=lengths[:, None] + torch.arange(slots, device=soft.device),
                past_key_values=past,
                use_cache=True,
            ).last_hidden_state.float()
        return states, mean

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


def sliding_window_of(llm: LanguageModel) -> int | None:
    """The window of layers with sliding-window attention; None where all layers attend to everything."""
    config = llm.model.config.get_text_config()
    sliding = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    return int(config.sliding_window) if sliding else None


def _enable_checkpointing(llm: LanguageModel) -> None:
    """Recomputes layers in the backward pass (activation checkpointing, Chen et al. 2016)."""
    llm.model.activation_checkpointing_enable({"use_reentrant": False})


@dataclass(frozen=True)
class CachedPrompt:
    """Keys and values of a prompt at each layer, and the mean of its last states."""

    keys: Tensor
    values: Tensor
    mean: Tensor

    @property
    def bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes


class PromptCache:
    """Keys and values of prompts that a frozen model has read; above `limit` bytes the least recently used are
    dropped.
    """

    def __init__(self, llm: LanguageModel, *, limit: int = 512 * 2**20) -> None:
        self.llm, self.limit = llm, limit
        self.entries: OrderedDict[str, CachedPrompt] = OrderedDict()

    def lookup(
        self, prompts: Sequence[str]
    ) -> tuple[DynamicCache, Int64[Tensor, " batch"], Float[Tensor, "batch d_lm"]]:
        """A cache padded on the left, the token count of each prompt, and the prompts' mean states in fp32."""
        missing = sorted(set(prompts) - set(self.entries))
        if missing:
            self._read(missing)
        entries = [self.entries[text] for text in prompts]
        for text in prompts:
            self.entries.move_to_end(text)
        lengths = torch.tensor([kept.keys.shape[2] for kept in entries])
        longest = int(lengths.max())
        keys, values = (
            _pad_left([getattr(kept, name) for kept in entries], longest) for name in ("keys", "values")
        )
        past = DynamicCache()
        for layer in range(len(keys)):
            past.update(keys[layer], values[layer], layer)
        self._evict(keep=set(prompts))
        return past, lengths.to(keys.device), torch.stack([kept.mean for kept in entries])

    @torch.inference_mode(False)
    @torch.no_grad()
    def _read(self, texts: Sequence[str]) -> None:
        rows = [self.llm.embed(text) for text in texts]
        batch = pad_left(rows, [torch.zeros(len(row), dtype=torch.bool, device=row.device) for row in rows])
        past = DynamicCache()
        states: Tensor = self.llm.model.base_model(
            inputs_embeds=batch.embeddings,
            attention_mask=batch.real.long(),
            position_ids=batch.position,
            past_key_values=past,
            use_cache=True,
        ).last_hidden_state.float()
        means = mean_state(states, batch.is_text)
        for i, text in enumerate(texts):
            cut = batch.embeddings.shape[1] - len(rows[i])
            keys, values = (
                torch.stack([getattr(layer, name)[i, :, cut:] for layer in past.layers])
                for name in ("keys", "values")
            )
            self.entries[text] = CachedPrompt(keys, values, means[i].clone())

    def _evict(self, *, keep: set[str]) -> None:
        total = sum(kept.bytes for kept in self.entries.values())
        for text in list(self.entries):
            if total <= self.limit:
                return
            if text not in keep:
                total -= self.entries.pop(text).bytes


def mean_state(
    states: Float[Tensor, "batch seq d_lm"], mask: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch d_lm"]:
    """The mean of the marked states of each row, [batch, d_lm]; zeros where none is marked."""
    mask = mask[..., None].to(states.dtype)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def _pad_left(tensors: Sequence[Tensor], longest: int) -> Tensor:
    """Tensors [layer, head, token, width] as one [layer, batch, head, token, width], padded with zeros on the
    left.
    """
    if all(tensor is tensors[0] for tensor in tensors):  # the same prompt for all rows: no copy is needed
        return tensors[0][:, None].expand(-1, len(tensors), -1, -1, -1)
    return torch.stack(
        [nn.functional.pad(tensor, (0, 0, longest - tensor.shape[2], 0)) for tensor in tensors], dim=1
    )


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
