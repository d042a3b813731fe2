"""Attention over many texts at once, packed side by side: what they share is kept once and read once."""

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

NAME = "st2llm_packed"


@dataclass(frozen=True)
class Rule:
    """What a layer asks of its attention. window: tokens that a token sees, itself included; None for all."""

    scaling: float
    softcap: float | None
    window: int | None


@runtime_checkable
class Pass(Protocol):
    """One forward pass over packed tokens: it keeps keys and values, and says who sees what."""

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "head token d"],
        key: Float[Tensor, "kv_head token d"],
        value: Float[Tensor, "kv_head token d"],
        rule: Rule,
    ) -> Float[Tensor, "token head d"]: ...


_PASS: ContextVar[Pass] = ContextVar("st2llm_pass")


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """The function that transformers' layers call; the pass of the moment does the work."""
    scaling = settings.get("scaling")
    rule = Rule(
        scaling=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        softcap=settings.get("softcap"),
        window=settings.get("sliding_window"),
    )
    return attend(module.layer_idx, query[0], key[0], value[0], rule)[None], None


def attend(
    layer: int,
    query: Float[Tensor, "head token d"],
    key: Float[Tensor, "kv_head token d"],
    value: Float[Tensor, "kv_head token d"],
    rule: Rule,
) -> Float[Tensor, "token head d"]:
    """The attention of the pass of the moment. Inside `forward` only."""
    return _PASS.get().attend(layer, query, key, value, rule)


AttentionInterface.register(NAME, _attend)


@contextmanager
def packed(model: PreTrainedModel) -> Iterator[None]:
    """Within it the model's layers attend through `forward`'s pass; afterwards as before."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def forward(
    model: PreTrainedModel, ids: Sequence[int], positions: Int[Tensor, " token"], through: Pass
) -> Float[Tensor, "token d_lm"]:
    """Hidden states after the last norm of packed tokens. Inside `packed` only."""
    token = _PASS.set(through)
    try:
        out = model.base_model(
            input_ids=torch.tensor([list(ids)], device=positions.device),
            position_ids=positions[None],
            use_cache=False,
        )
    finally:
        _PASS.reset(token)
    hidden: Tensor = out.last_hidden_state[0]
    return hidden


class Keys:
    """The keys and values of one text at every layer, `kv_head token d` each."""

    def __init__(self) -> None:
        self.key: list[Tensor] = []
        self.value: list[Tensor] = []

    def __len__(self) -> int:
        return int(self.key[0].shape[1]) if self.key else 0

    def put(self, key: Tensor, value: Tensor) -> None:
        """Takes the next layer's; copies, so that the packed row they come from can go."""
        self.key.append(key.clone())
        self.value.append(value.clone())


class Reading:
    """A pass over whole texts, packed: each token sees `trunk`, the earlier tokens of its own text, and itself.

    trunk: what all of them begin with, already read. seen: for texts that are no plain sequences, who sees whom
    among their tokens (a tree's node sees its ancestors and itself). kept: filled with each text's keys and values.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        trunk: Keys | None = None,
        seen: Sequence[Bool[Tensor, "_ _"]] | None = None,
        keep: bool = False,
    ) -> None:
        ends = torch.tensor(list(lengths)).cumsum(0).tolist()
        self.spans = list(zip([0, *ends[:-1]], ends, strict=True))
        self.trunk = trunk if trunk is not None and len(trunk) else None
        self.seen = seen
        self.kept = [Keys() for _ in lengths] if keep else []
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def positions(self, device: torch.device) -> Int[Tensor, " token"]:
        before = 0 if self.trunk is None else len(self.trunk)
        if self.seen is not None:
            return torch.cat([seen.sum(1) - 1 + before for seen in self.seen]).to(device)
        return torch.cat([torch.arange(stop - start) + before for start, stop in self.spans]).to(device)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rule: Rule) -> Tensor:
        out = []
        for i, (start, stop) in enumerate(self.spans):
            k, v = key[:, start:stop], value[:, start:stop]
            if self.kept:
                self.kept[i].put(k, v)
            if self.trunk is not None:
                k = torch.cat([self.trunk.key[layer], k], dim=1)
                v = torch.cat([self.trunk.value[layer], v], dim=1)
            out.append(_attention(query[:, start:stop], k, v, self._mask(i, rule.window, query.device), rule))
        return torch.cat(out, dim=1).transpose(0, 1)

    def _mask(self, i: int, window: int | None, device: torch.device) -> Tensor | None:
        """Who sees whom in text i, the trunk first; None for a plain causal text."""
        start, stop = self.spans[i]
        length, before = stop - start, 0 if self.trunk is None else len(self.trunk)
        if window is not None and window >= before + length:
            window = None
        if self.seen is None and not before and window is None:
            return None
        if (i, window) not in self._masks:
            own = torch.ones(length, length).tril().bool() if self.seen is None else self.seen[i].cpu()
            mask = torch.cat([torch.ones(length, before).bool(), own], dim=1)
            if window is not None:
                depth = own.sum(1) - 1 + before
                key_depth = torch.cat([torch.arange(before), own.sum(1) - 1 + before])
                mask &= key_depth[None] > depth[:, None] - window
            self._masks[i, window] = mask.to(device)
        return self._masks[i, window]


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rule: Rule) -> Tensor:
    groups = query.shape[0] // key.shape[0]
    key, value = key.repeat_interleave(groups, 0), value.repeat_interleave(groups, 0)
    if rule.softcap is None:
        causal = mask is None and query.shape[1] > 1
        done = F.scaled_dot_product_attention(
            query[None], key[None], value[None], mask, is_causal=causal, scale=rule.scaling
        )
        return done[0]
    scores = _capped(query @ key.transpose(1, 2) * rule.scaling, rule.softcap)
    if mask is None:
        mask = torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device).tril()
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1, dtype=torch.float32)
    return weights.to(value.dtype) @ value


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


class Growing:
    """A pass, again and again, that lengthens answers: `draws` to each prompt share the prompt's keys and values.

    A query meets three stretches of keys: the trunk that all prompts begin with, the rest of its prompt, and its
    own answer so far; one softmax runs over all three. Scores and answers' own keys and values are kept in fp32: a
    product of three rows with fifty is two to three times faster so than in bf16, and closer to the truth. Rows
    are counted prompt by prompt. room: the most tokens of an answer. `begin` says which rows get how many tokens
    in the coming forward pass. `prompts` are left empty, so that what they held is held once.
    """

    def __init__(self, trunk: Keys | None, prompts: Sequence[Keys], *, draws: int, room: int) -> None:
        self.trunk = trunk if trunk is not None and len(trunk) else None
        self.before = 0 if self.trunk is None else len(self.trunk)
        self.draws, self.room = draws, room
        self.device = prompts[0].key[0].device
        self.length = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        # Keys lie column by column: a product of a few queries with them was up to six times faster so.
        self.key: list[Tensor] = []
        self.value: list[Tensor] = []
        while prompts[0].key:
            self.key.append(_padded([prompt.key.pop(0) for prompt in prompts]).transpose(2, 3).contiguous())
            self.value.append(_padded([prompt.value.pop(0) for prompt in prompts]))
        batch, kv, longest, d = self.value[0].shape
        self.longest = longest
        own = torch.float32
        self.own_value = [value.new_zeros(batch, kv, draws, room, d, dtype=own) for value in self.value]
        self.own_key = [key.new_zeros(batch, kv, draws, d, room, dtype=own) for key in self.key]
        self.used = torch.zeros(len(prompts) * draws, dtype=torch.long, device=self.device)

    def begin(self, rows: Sequence[int], counts: Sequence[int]) -> Int[Tensor, " token"]:
        """Prepares a pass in which each of these rows gets so many tokens; their positions in the text."""
        count = torch.tensor(list(counts), device=self.device)
        row = torch.tensor(list(rows), device=self.device)
        self._width = max(counts)
        within = torch.arange(self._width, device=self.device)
        taken = within[None] < count[:, None]
        self._row = row.repeat_interleave(count)
        step = within.expand(len(rows), -1)[taken]
        self._offset = self.used[self._row] + step
        self._flat = self._row * self._width + step
        total = len(self.used) * self._width
        self._dense = len(self._flat) == total and bool((self._flat.diff() == 1).all())
        self._slot = torch.zeros(total, dtype=torch.long, device=self.device)
        self._slot[self._flat] = torch.arange(len(self._flat), device=self.device)
        even = self._dense and bool((self.used == self.used[0]).all())
        self._even = int(self.used[0]) if even else None
        self._start = self.used
        self.used = self.used.index_add(0, row, count)
        self._stop = int(self.used.max())
        self._bias: dict[int | None, tuple[int, Tensor] | None] = {}
        return self.before + self.length[self._row // self.draws] + self._offset

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rule: Rule) -> Tensor:
        self._write(layer, key, value)
        q = self._grouped(query.transpose(0, 1) * rule.scaling, key.shape[0])
        scores = _capped(self._scores(layer, q), rule.softcap)
        batch, kv, draws, group, width, _ = q.shape
        if (hidden := self._hidden(rule.window)) is not None:
            first, bias = hidden
            scores.view(batch, kv, draws, group, width, -1)[..., first:].add_(bias)
        out = self._weighed(layer, scores.softmax(-1))
        out = out.view(batch, kv, draws, group, width, -1).permute(0, 2, 4, 1, 3, 5)
        out = out.reshape(batch * draws * width, kv * group, -1).to(value.dtype)
        return out if self._dense else out[self._flat]

    def _write(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keeps the new tokens' keys and values; in one stroke where all answers are equally long."""
        key, value = key.to(self.own_key[layer].dtype), value.to(self.own_value[layer].dtype)
        if self._even is not None:
            batch, kv, draws, d, _ = self.own_key[layer].shape
            span = slice(self._even, self._even + self._width)
            shape = (kv, batch, draws, self._width, d)
            self.own_key[layer][..., span] = key.view(shape).permute(1, 0, 2, 4, 3)
            self.own_value[layer][..., span, :] = value.view(shape).transpose(0, 1)
            return
        prompt, draw = self._row // self.draws, self._row % self.draws
        self.own_key[layer][prompt, :, draw, :, self._offset] = key.transpose(0, 1)
        self.own_value[layer][prompt, :, draw, self._offset] = value.transpose(0, 1)

    def keep(self, prompts: Int[Tensor, " _"]) -> None:
        """Drops all prompts but these, and their rows."""
        for held in (self.key, self.value, self.own_key, self.own_value):
            held[:] = [tensor[prompts] for tensor in held]
        self.length = self.length[prompts]
        self.used = self.used.view(-1, self.draws)[prompts].flatten()

    def _grouped(self, query: Tensor, kv: int) -> Float[Tensor, "batch kv draw group width d"]:
        """Queries by prompt, head and draw; a row that takes no part repeats the first token, and is dropped."""
        spread = query if self._dense else query[self._slot]
        _, heads, d = spread.shape
        shaped = spread.view(-1, self.draws, self._width, kv, heads // kv, d)
        return shaped.permute(0, 3, 1, 4, 2, 5).contiguous()

    def _scores(self, layer: int, q: Tensor) -> Float[Tensor, "batch kv draw query seen"]:
        batch, kv, draws, group, width, d = q.shape
        rows = group * width
        told_until = self.before + self.longest
        by_row = q.reshape(batch, kv, draws, rows, d)
        by_prompt = by_row.view(batch, kv, draws * rows, d)
        scores = q.new_empty(batch, kv, draws, rows, told_until + self._stop, dtype=torch.float32)
        if self.trunk is not None:
            shared = by_prompt.transpose(0, 1).reshape(kv, -1, d) @ self.trunk.key[layer].transpose(1, 2)
            scores[..., : self.before] = shared.view(kv, batch, draws, rows, -1).transpose(0, 1)
        told = by_prompt @ self.key[layer]
        scores[..., self.before : told_until] = told.view(batch, kv, draws, rows, -1)
        scores[..., told_until:] = by_row.float() @ self.own_key[layer][..., : self._stop]
        return scores

    def _weighed(self, layer: int, weights: Tensor) -> Float[Tensor, "batch kv draw query d"]:
        batch, kv, draws, rows, _ = weights.shape
        told_until, dtype = self.before + self.longest, self.value[layer].dtype
        out = weights[..., told_until:] @ self.own_value[layer][..., : self._stop, :]
        told = weights[..., self.before : told_until].to(dtype).reshape(batch, kv, draws * rows, -1)
        out += (told @ self.value[layer]).view(batch, kv, draws, rows, -1)
        if self.trunk is not None:
            shared = weights[..., : self.before].to(dtype).transpose(0, 1).reshape(kv, -1, self.before)
            seen = (shared @ self.trunk.value[layer]).view(kv, batch, draws, rows, -1)
            out += seen.transpose(0, 1)
        return out

    def _hidden(self, window: int | None) -> tuple[int, Float[Tensor, "batch 1 draw 1 width seen"]] | None:
        """Zero for the keys that a query sees, -inf for the others: the first column of those where it differs at all,
        and the columns from there on. None where every query sees all."""
        if window not in self._bias:
            told, own = (
                torch.arange(self.longest, device=self.device),
                torch.arange(self._stop, device=self.device),
            )
            length = self.length.view(-1, 1, 1, 1)
            query = self._start.view(-1, self.draws, 1, 1) + torch.arange(
                self._width, device=self.device
            ).view(1, 1, -1, 1)
            parts = [
                torch.ones(*query.shape[:3], self.before, dtype=torch.bool, device=self.device),
                (told < length).expand(*query.shape[:3], -1),
                own <= query,
            ]
            if window is not None:
                here = self.before + length + query
                where = (
                    torch.arange(self.before, device=self.device),
                    self.before + told,
                    self.before + length + own,
                )
                parts = [seen & (at > here - window) for seen, at in zip(parts, where, strict=True)]
            seen = torch.cat(parts, dim=-1)
            partly = torch.nonzero(~seen.flatten(0, 2).all(dim=0))
            if len(partly):
                first = int(partly[0])
                bias = torch.zeros(seen.shape, device=self.device).masked_fill_(~seen, -torch.inf)
                self._bias[window] = first, bias[:, None, :, None, :, first:]
            else:
                self._bias[window] = None
        return self._bias[window]


def _padded(texts: Sequence[Tensor]) -> Float[Tensor, "batch kv_head token d"]:
    longest = max(text.shape[1] for text in texts)
    made = texts[0].new_zeros(len(texts), texts[0].shape[0], longest, texts[0].shape[2])
    for row, text in zip(made, texts, strict=True):
        row[:, : text.shape[1]] = text
    return made
