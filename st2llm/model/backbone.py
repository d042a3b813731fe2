"""The one part in which transferred and primitive arms differ."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.align.lora import add_lora
from st2llm.align.splice import pad_left, splice
from st2llm.errors import ConfigError
from st2llm.llm.local import LanguageModel
from st2llm.types import Slot

BACKBONES = ("none", "attention", "matched", "llm-random", "llm-frozen", "llm-lora")
LLM_BACKBONES = ("llm-random", "llm-frozen", "llm-lora")
_SLOT = "soft"


@runtime_checkable
class Backbone(Protocol):
    """Maps soft tokens to states of the same width, and says the mean state of the words it read (or zeros)."""

    def forward(
        self, soft: Float[Tensor, "batch slot d_lm"], words: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]: ...


class NoBackbone(nn.Module):
    """Nothing at all: the ablation 'without the LLM' of Tan et al. 2024."""

    def forward(
        self, soft: Float[Tensor, "batch slot d_lm"], words: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        return soft, torch.zeros_like(soft[:, 0])


class AttentionBackbone(nn.Module):
    """One block of self-attention over the slots: the ablation 'LLM to attention' of Tan et al. 2024."""

    def __init__(self, d_lm: int, *, heads: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(d_lm)
        self.attention = nn.MultiheadAttention(d_lm, heads, batch_first=True)

    def forward(
        self, soft: Float[Tensor, "batch slot d_lm"], words: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        z = self.norm(soft)
        mixed, _ = self.attention(z, z, z, need_weights=False)
        return soft + mixed, torch.zeros_like(soft[:, 0])


class MatchedBackbone(nn.Module):
    """A transformer from scratch with as many trained parameters as the LoRA arm has in its adapters.

    d_lm -> width -> transformer layers -> d_lm; width and feed-forward are found by `matched_size`.
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
        self, soft: Float[Tensor, "batch slot d_lm"], words: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        return soft + self.leave(self.blocks(self.enter(soft))), torch.zeros_like(soft[:, 0])


class LLMBackbone(nn.Module):
    """A language model that reads words, then the soft tokens; the states at the soft tokens come out.

    Its own weights are frozen; with `rank` LoRA adapters beside `targets` are trained. Soft tokens enter in the
    model's dtype and states leave in fp32. Words are embedded by the model's own table.
    """

    def __init__(self, llm: LanguageModel, *, rank: int = 0, targets: Sequence[str] = ()) -> None:
        super().__init__()
        self.llm = llm
        self.base = llm.model.base_model
        if rank:
            add_lora(self.base, rank=rank, targets=targets)

    def forward(
        self, soft: Float[Tensor, "batch slot d_lm"], words: Sequence[str]
    ) -> tuple[Float[Tensor, "batch slot d_lm"], Float[Tensor, "batch d_lm"]]:
        b, slots, d = soft.shape
        cast = soft.to(self.llm.dtype)
        known = {text: self.llm.embed(text).to(soft.device) for text in set(words)}
        pieces = [splice([known[text], Slot(_SLOT, slots)], {_SLOT: cast[i]}) for i, text in enumerate(words)]
        batch = pad_left([rows for rows, _ in pieces], [marks for _, marks in pieces])
        position = (batch.real.long().cumsum(dim=1) - 1).clamp(min=0)
        states: Tensor = self.base(
            inputs_embeds=batch.rows, attention_mask=batch.real.long(), position_ids=position, use_cache=False
        ).last_hidden_state.float()
        mask = batch.words[..., None].to(states.dtype)
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return states[batch.soft].reshape(b, slots, d), mean


def matched_size(d_lm: int, wanted: int) -> tuple[int, int, int]:
    """Width, feed-forward and layers of a MatchedBackbone with about `wanted` trained parameters.

    One layer; the widest width (a multiple of 8) that leaves a feed-forward of at least `width` wins.
    Raises ConfigError where none fits.
    """
    for width in range(d_lm // 8 * 8, 7, -8):
        fixed = 2 * d_lm * width + d_lm + width + 4 * width * width + 4 * width + 5 * width
        feedforward = (wanted - fixed) // (2 * width + 1)
        if feedforward >= width:
            return width, int(feedforward), 1
    raise ConfigError(f"No transformer of width 8 or more has only {wanted} parameters. Raise lora.rank.")


def trained(module: nn.Module) -> int:
    """How many parameters training changes."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
