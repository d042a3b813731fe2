"""Attention over many packed texts at once; keys and values of a shared prefix are stored and read once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from st2llm.llm.architecture.base_model import base_of

ATTENTION_NAME = "st2llm_packed"


@dataclass(frozen=True)
class AttentionOptions:
    """Attention settings of a layer. window: number of tokens that a token attends to, itself included; None for
    all.
    """

    scaling: float
    softcap: float | None
    window: int | None


@runtime_checkable
class ForwardPass(Protocol):
    """One forward pass over packed tokens: stores keys and values and determines the attention mask."""

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "head token d"],
        key: Float[Tensor, "kv_head token d"],
        value: Float[Tensor, "kv_head token d"],
        options: AttentionOptions,
    ) -> Float[Tensor, "token head d"]: ...


_CURRENT_PASS: ContextVar[ForwardPass] = ContextVar("st2llm_pass")


def _attention_function(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """The attention function registered with transformers; it delegates to the current forward pass."""
    scaling = settings.get("scaling")
    options = AttentionOptions(
        scaling=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        softcap=settings.get("softcap"),
        window=settings.get("sliding_window"),
    )
    return attend(module.layer_idx, query[0], key[0], value[0], options)[None], None


def attend(
    layer: int,
    query: Float[Tensor, "head token d"],
    key: Float[Tensor, "kv_head token d"],
    value: Float[Tensor, "kv_head token d"],
    options: AttentionOptions,
) -> Float[Tensor, "token head d"]:
    """Attention of the current forward pass. Only inside `forward_packed`."""
    return _CURRENT_PASS.get().attend(layer, query, key, value, options)


AttentionInterface.register(ATTENTION_NAME, _attention_function)


@contextmanager
def packed_attention(model: PreTrainedModel) -> Iterator[None]:
    """A context in which the model's layers attend through the pass given to `forward_packed`."""
    config = model.config.get_text_config()
    previous = config._attn_implementation
    config._attn_implementation = ATTENTION_NAME
    try:
        yield
    finally:
        config._attn_implementation = previous


def forward_packed(
    model: PreTrainedModel, ids: Sequence[int], positions: Int[Tensor, " token"], forward_pass: ForwardPass
) -> Float[Tensor, "token d_lm"]:
    """Hidden states after the final norm of packed tokens, [token, d_lm]. Only inside `packed_attention`."""
    token = _CURRENT_PASS.set(forward_pass)
    try:
        output = base_of(model)(
            input_ids=torch.tensor([list(ids)], device=positions.device),
            position_ids=positions[None],
            use_cache=False,
        )
    finally:
        _CURRENT_PASS.reset(token)
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


class KeyValues:
    """The keys and values of one text at every layer, [kv_head, token, d] each."""

    def __init__(self) -> None:
        self.key: list[Tensor] = []
        self.value: list[Tensor] = []

    def __len__(self) -> int:
        return int(self.key[0].shape[1]) if self.key else 0

    @property
    def bytes_per_token(self) -> int:
        """Bytes of the keys and values of one token over all layers."""
        return sum(tensor.nbytes for tensor in (*self.key, *self.value)) // len(self)

    def append(self, key: Tensor, value: Tensor) -> None:
        """Appends the next layer's tensors; copies them, so that the packed tensor they are views of can be freed."""
        self.key.append(key.clone())
        self.value.append(value.clone())


class PrefillPass:
    """A pass over whole packed texts: each token attends to `prefix`, to earlier tokens of its text, and to
    itself.

    prefix: keys and values that all texts begin with. visibility: masks for texts that are not plain sequences
    (a tree's node attends to its ancestors and itself). key_values: filled with the keys and values of each
    text.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        prefix: KeyValues | None = None,
        visibility: Sequence[Bool[Tensor, "_ _"]] | None = None,
        keep: bool = False,
    ) -> None:
        ends = torch.tensor(list(lengths)).cumsum(0).tolist()
        self.spans = list(zip([0, *ends[:-1]], ends, strict=True))
        self.prefix = prefix if prefix is not None and len(prefix) else None
        self.visibility = visibility
        self.key_values = [KeyValues() for _ in lengths] if keep else []
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def positions(self, device: torch.device) -> Int[Tensor, " token"]:
        prefix_length = 0 if self.prefix is None else len(self.prefix)
        if self.visibility is not None:
            return torch.cat([seen.sum(1) - 1 + prefix_length for seen in self.visibility]).to(device)
        return torch.cat([torch.arange(stop - start) + prefix_length for start, stop in self.spans]).to(
            device
        )

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions
    ) -> Tensor:
        outputs = []
        for i, (start, stop) in enumerate(self.spans):
            k, v = key[:, start:stop], value[:, start:stop]
            if self.key_values:
                self.key_values[i].append(k, v)
            if self.prefix is not None:
                k = torch.cat([self.prefix.key[layer], k], dim=1)
                v = torch.cat([self.prefix.value[layer], v], dim=1)
            outputs.append(
                _scaled_attention(
                    query[:, start:stop], k, v, self._mask(i, options.window, query.device), options
                )
            )
        return torch.cat(outputs, dim=1).transpose(0, 1)

    def _mask(self, i: int, window: int | None, device: torch.device) -> Tensor | None:
        """The attention mask of text i, prefix first; None for plain causal attention."""
        start, stop = self.spans[i]
        length, prefix_length = stop - start, 0 if self.prefix is None else len(self.prefix)
        if window is not None and window >= prefix_length + length:
            window = None
        if self.visibility is None and not prefix_length and window is None:
            return None
        if (i, window) not in self._masks:
            own_mask = (
                torch.ones(length, length).tril().bool()
                if self.visibility is None
                else self.visibility[i].cpu()
            )
            mask = torch.cat([torch.ones(length, prefix_length).bool(), own_mask], dim=1)
            if window is not None:
                depth = own_mask.sum(1) - 1 + prefix_length
                key_depth = torch.cat([torch.arange(prefix_length), own_mask.sum(1) - 1 + prefix_length])
                mask &= key_depth[None] > depth[:, None] - window
            self._masks[i, window] = mask.to(device)
        return self._masks[i, window]


def _scaled_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: AttentionOptions
) -> Tensor:
    groups = query.shape[0] // key.shape[0]
    key, value = key.repeat_interleave(groups, 0), value.repeat_interleave(groups, 0)
    if options.softcap is None:
        causal = mask is None and query.shape[1] > 1
        output = F.scaled_dot_product_attention(
            query[None], key[None], value[None], mask, is_causal=causal, scale=options.scaling
        )
        return output[0]
    scores = apply_softcap(query @ key.transpose(1, 2) * options.scaling, options.softcap)
    if mask is None:
        mask = torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device).tril()
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1, dtype=torch.float32)
    return weights.to(value.dtype) @ value


def apply_softcap(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap
