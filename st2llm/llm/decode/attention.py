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
        output = model.base_model(
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
    scores = _apply_softcap(query @ key.transpose(1, 2) * options.scaling, options.softcap)
    if mask is None:
        mask = torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device).tril()
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1, dtype=torch.float32)
    return weights.to(value.dtype) @ value


def _apply_softcap(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


class DecodePass:
    """A repeated pass that extends answers; the `draws` answers of a prompt share the prompt's keys and values.

    A query attends to three stretches of keys with one softmax: the prefix that all prompts begin with, the
    rest of its prompt, and its own answer so far. Scores and the answers' own keys and values are fp32: a
    product of three rows with fifty is two to three times faster in fp32 than in bf16, and more precise. Rows
    are ordered prompt by prompt. max_new_tokens: the most tokens of an answer. `begin` sets which rows get how
    many tokens in the next forward pass. `prompts` are emptied, so that their tensors are stored once.
    """

    def __init__(
        self, prefix: KeyValues | None, prompts: Sequence[KeyValues], *, draws: int, max_new_tokens: int
    ) -> None:
        self.prefix = prefix if prefix is not None and len(prefix) else None
        self.prefix_length = 0 if self.prefix is None else len(self.prefix)
        self.draws, self.max_new_tokens = draws, max_new_tokens
        self.device = prompts[0].key[0].device
        self.prompt_length = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        # Keys are stored transposed: a product of a few queries with them was up to six times faster.
        self.key: list[Tensor] = []
        self.value: list[Tensor] = []
        while prompts[0].key:
            self.key.append(
                _pad_right([prompt.key.pop(0) for prompt in prompts]).transpose(2, 3).contiguous()
            )
            self.value.append(_pad_right([prompt.value.pop(0) for prompt in prompts]))
        batch, kv, longest, d = self.value[0].shape
        self.max_prompt_length = longest
        own_dtype = torch.float32
        self.own_value = [
            value.new_zeros(batch, kv, draws, max_new_tokens, d, dtype=own_dtype) for value in self.value
        ]
        self.own_key = [
            key.new_zeros(batch, kv, draws, d, max_new_tokens, dtype=own_dtype) for key in self.key
        ]
        self.answer_length = torch.zeros(len(prompts) * draws, dtype=torch.long, device=self.device)

    def begin(self, rows: Sequence[int], counts: Sequence[int]) -> Int[Tensor, " token"]:
        """Prepares a pass in which each of these rows gets this many tokens; returns their positions in the text."""
        count = torch.tensor(list(counts), device=self.device)
        row = torch.tensor(list(rows), device=self.device)
        self._width = max(counts)
        offsets = torch.arange(self._width, device=self.device)
        is_token = offsets[None] < count[:, None]
        self._row_index = row.repeat_interleave(count)
        step = offsets.expand(len(rows), -1)[is_token]
        self._offset = self.answer_length[self._row_index] + step
        self._flat_index = self._row_index * self._width + step
        total = len(self.answer_length) * self._width
        self._is_dense = len(self._flat_index) == total and bool((self._flat_index.diff() == 1).all())
        self._token_at = torch.zeros(total, dtype=torch.long, device=self.device)
        self._token_at[self._flat_index] = torch.arange(len(self._flat_index), device=self.device)
        equal_lengths = self._is_dense and bool((self.answer_length == self.answer_length[0]).all())
        self._common_length = int(self.answer_length[0]) if equal_lengths else None
        self._length_before = self.answer_length
        self.answer_length = self.answer_length.index_add(0, row, count)
        self._max_length = int(self.answer_length.max())
        self._bias: dict[int | None, tuple[int, Tensor] | None] = {}
        return self.prefix_length + self.prompt_length[self._row_index // self.draws] + self._offset

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions
    ) -> Tensor:
        self._store(layer, key, value)
        q = self._group_queries(query.transpose(0, 1) * options.scaling, key.shape[0])
        scores = _apply_softcap(self._scores(layer, q), options.softcap)
        batch, kv, draws, group, width, _ = q.shape
        if (masked := self._attention_bias(options.window)) is not None:
            first, bias = masked
            scores.view(batch, kv, draws, group, width, -1)[..., first:].add_(bias)
        output = self._weighted_values(layer, scores.softmax(-1))
        output = output.view(batch, kv, draws, group, width, -1).permute(0, 2, 4, 1, 3, 5)
        output = output.reshape(batch * draws * width, kv * group, -1).to(value.dtype)
        return output if self._is_dense else output[self._flat_index]

    def _store(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Stores the keys and values of the new tokens; in one assignment where all answers have the same length."""
        key, value = key.to(self.own_key[layer].dtype), value.to(self.own_value[layer].dtype)
        if self._common_length is not None:
            batch, kv, draws, d, _ = self.own_key[layer].shape
            span = slice(self._common_length, self._common_length + self._width)
            shape = (kv, batch, draws, self._width, d)
            self.own_key[layer][..., span] = key.view(shape).permute(1, 0, 2, 4, 3)
            self.own_value[layer][..., span, :] = value.view(shape).transpose(0, 1)
            return
        prompt, draw = self._row_index // self.draws, self._row_index % self.draws
        self.own_key[layer][prompt, :, draw, :, self._offset] = key.transpose(0, 1)
        self.own_value[layer][prompt, :, draw, self._offset] = value.transpose(0, 1)

    def keep_prompts(self, prompts: Int[Tensor, " _"]) -> None:
        """Drops all prompts except these, with their rows."""
        for tensors in (self.key, self.value, self.own_key, self.own_value):
            tensors[:] = [tensor[prompts] for tensor in tensors]
        self.prompt_length = self.prompt_length[prompts]
        self.answer_length = self.answer_length.view(-1, self.draws)[prompts].flatten()

    def _group_queries(self, query: Tensor, kv: int) -> Float[Tensor, "batch kv draw group width d"]:
        """Queries by prompt, head and draw; a row without new tokens repeats the first token, and its result is
        discarded.
        """
        padded = query if self._is_dense else query[self._token_at]
        _, heads, d = padded.shape
        shaped = padded.view(-1, self.draws, self._width, kv, heads // kv, d)
        return shaped.permute(0, 3, 1, 4, 2, 5).contiguous()

    def _scores(self, layer: int, q: Tensor) -> Float[Tensor, "batch kv draw query seen"]:
        batch, kv, draws, group, width, d = q.shape
        rows = group * width
        prompt_end = self.prefix_length + self.max_prompt_length
        by_row = q.reshape(batch, kv, draws, rows, d)
        by_prompt = by_row.view(batch, kv, draws * rows, d)
        scores = q.new_empty(batch, kv, draws, rows, prompt_end + self._max_length, dtype=torch.float32)
        if self.prefix is not None:
            prefix_scores = by_prompt.transpose(0, 1).reshape(kv, -1, d) @ self.prefix.key[layer].transpose(
                1, 2
            )
            scores[..., : self.prefix_length] = prefix_scores.view(kv, batch, draws, rows, -1).transpose(0, 1)
        prompt_scores = by_prompt @ self.key[layer]
        scores[..., self.prefix_length : prompt_end] = prompt_scores.view(batch, kv, draws, rows, -1)
        scores[..., prompt_end:] = by_row.float() @ self.own_key[layer][..., : self._max_length]
        return scores

    def _weighted_values(self, layer: int, weights: Tensor) -> Float[Tensor, "batch kv draw query d"]:
        batch, kv, draws, rows, _ = weights.shape
        prompt_end, dtype = self.prefix_length + self.max_prompt_length, self.value[layer].dtype
        output = weights[..., prompt_end:] @ self.own_value[layer][..., : self._max_length, :]
        prompt_weights = (
            weights[..., self.prefix_length : prompt_end].to(dtype).reshape(batch, kv, draws * rows, -1)
        )
        output += (prompt_weights @ self.value[layer]).view(batch, kv, draws, rows, -1)
        if self.prefix is not None:
            prefix_weights = (
                weights[..., : self.prefix_length]
                .to(dtype)
                .transpose(0, 1)
                .reshape(kv, -1, self.prefix_length)
            )
            prefix_output = (prefix_weights @ self.prefix.value[layer]).view(kv, batch, draws, rows, -1)
            output += prefix_output.transpose(0, 1)
        return output

    def _attention_bias(
        self, window: int | None
    ) -> tuple[int, Float[Tensor, "batch 1 draw 1 width seen"]] | None:
        """The attention bias (0 for visible keys, -inf for hidden ones) from the first column in which it is not
        0, with that column's index. None where every query attends to all keys.
        """
        if window not in self._bias:
            prompt_index, own_index = (
                torch.arange(self.max_prompt_length, device=self.device),
                torch.arange(self._max_length, device=self.device),
            )
            length = self.prompt_length.view(-1, 1, 1, 1)
            query = self._length_before.view(-1, self.draws, 1, 1) + torch.arange(
                self._width, device=self.device
            ).view(1, 1, -1, 1)
            visible_parts = [
                torch.ones(*query.shape[:3], self.prefix_length, dtype=torch.bool, device=self.device),
                (prompt_index < length).expand(*query.shape[:3], -1),
                own_index <= query,
            ]
            if window is not None:
                query_position = self.prefix_length + length + query
                key_positions = (
                    torch.arange(self.prefix_length, device=self.device),
                    self.prefix_length + prompt_index,
                    self.prefix_length + length + own_index,
                )
                visible_parts = [
                    visible & (at > query_position - window)
                    for visible, at in zip(visible_parts, key_positions, strict=True)
                ]
            seen = torch.cat(visible_parts, dim=-1)
            partly_hidden = torch.nonzero(~seen.flatten(0, 2).all(dim=0))
            if len(partly_hidden):
                first = int(partly_hidden[0])
                bias = torch.zeros(seen.shape, device=self.device).masked_fill_(~seen, -torch.inf)
                self._bias[window] = first, bias[:, None, :, None, :, first:]
            else:
                self._bias[window] = None
        return self._bias[window]


def _pad_right(texts: Sequence[Tensor]) -> Float[Tensor, "batch kv_head token d"]:
    longest = max(text.shape[1] for text in texts)
    padded = texts[0].new_zeros(len(texts), texts[0].shape[0], longest, texts[0].shape[2])
    for row, text in zip(padded, texts, strict=True):
        row[:, : text.shape[1]] = text
    return padded
