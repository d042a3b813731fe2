"""The forward pass that extends answers token by token, with keys and values shared among the draws of a prompt."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from st2llm.llm.decode.attention import AttentionOptions, KeyValues, apply_softcap


class DecodePass:
    """A repeated pass that extends answers; the `draws` answers of a prompt share the prompt's keys and values.

    A query attends to three stretches of keys with one softmax: the prefix that all prompts begin with, the
    rest of its prompt, and its own answer so far. The first is read once for all rows, the second once for the draws
    of a prompt (Hydragen, Juravsky et al. 2024); one softmax over the joined scores is what merging by log-sum-exp
    computes, in fewer kernels. Rows are ordered prompt by prompt. max_new_tokens: the most tokens of an answer.
    `begin` sets which rows get how many tokens in the next forward pass. `prompts` are emptied, so that their tensors
    are stored once.
    """

    def __init__(
        self, prefix: KeyValues | None, prompts: Sequence[KeyValues], *, draws: int, max_new_tokens: int
    ) -> None:
        self.prefix = prefix if prefix is not None and len(prefix) else None
        self.prefix_length = 0 if self.prefix is None else len(self.prefix)
        self.draws, self.max_new_tokens = draws, max_new_tokens
        self.device = prompts[0].key[0].device
        self.prompt_length = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        self.key: list[Tensor] = []
        self.value: list[Tensor] = []
        while prompts[0].key:
            self.key.append(_pad_right([prompt.key.pop(0) for prompt in prompts]))
            self.value.append(_pad_right([prompt.value.pop(0) for prompt in prompts]))
        self.max_prompt_length = self.value[0].shape[2]
        self.own_key, self.own_value = (
            [
                tensor.new_zeros(*tensor.shape[:2], draws, max_new_tokens, tensor.shape[3])
                for tensor in tensors
            ]
            for tensors in (self.key, self.value)
        )
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
        batch, kv, draws, group, width, _ = q.shape
        scores = self._scores(layer, q.view(batch, kv, draws, group * width, -1))
        if options.softcap is not None:
            scores = apply_softcap(scores.float(), options.softcap)
        if (masked := self._attention_bias(options.window)) is not None:
            first, bias = masked
            scores.view(batch, kv, draws, group, width, -1)[..., first:].add_(bias)
        output = self._weighted_values(layer, scores.softmax(-1).to(value.dtype))
        output = output.view(batch, kv, draws, group, width, -1).permute(0, 2, 4, 1, 3, 5)
        output = output.reshape(batch * draws * width, kv * group, -1)
        return output if self._is_dense else output[self._flat_index]

    def _store(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Stores the keys and values of the new tokens; in one assignment where all answers have the same length."""
        prompt, draw = self._row_index // self.draws, self._row_index % self.draws
        for own, new in ((self.own_key[layer], key), (self.own_value[layer], value)):
            if self._common_length is None:
                own[prompt, :, draw, self._offset] = new.transpose(0, 1)
            else:
                span = slice(self._common_length, self._common_length + self._width)
                shape = (own.shape[1], own.shape[0], self.draws, self._width, -1)
                own[..., span, :] = new.reshape(shape).transpose(0, 1)

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

    def _scores(
        self, layer: int, q: Float[Tensor, "batch kv draw query d"]
    ) -> Float[Tensor, "batch kv draw query seen"]:
        """The products of queries and keys, in the dtype of the keys.

        Keys are the left factor: with few queries, a product is twice as fast as with keys on the right, whose layout
        would have to be changed in every step.
        """
        batch, kv, draws, rows, d = q.shape
        prompt_end = self.prefix_length + self.max_prompt_length
        by_prompt = q.view(batch, kv, draws * rows, d)
        scores = q.new_empty(batch, kv, draws * rows, prompt_end + self._max_length)
        if self.prefix is not None:
            prefix_scores = by_prompt.transpose(0, 1).reshape(kv, -1, d) @ self.prefix.key[layer].mT
            scores[..., : self.prefix_length] = prefix_scores.view(kv, batch, draws * rows, -1).transpose(
                0, 1
            )
        scores[..., self.prefix_length : prompt_end] = (self.key[layer] @ by_prompt.mT).mT
        scores = scores.view(batch, kv, draws, rows, -1)
        scores[..., prompt_end:] = (self.own_key[layer][..., : self._max_length, :] @ q.mT).mT
        return scores

    def _weighted_values(
        self, layer: int, weights: Float[Tensor, "batch kv draw query seen"]
    ) -> Float[Tensor, "batch kv draw query d"]:
        batch, kv, draws, rows, _ = weights.shape
        prompt_end = self.prefix_length + self.max_prompt_length
        by_prompt = weights.view(batch, kv, draws * rows, -1)
        output = by_prompt[..., self.prefix_length : prompt_end] @ self.value[layer]
        own_value = self.own_value[layer][..., : self._max_length, :].flatten(0, 2)
        output.view(batch * kv * draws, rows, -1).baddbmm_(weights[..., prompt_end:].flatten(0, 2), own_value)
        if self.prefix is not None:
            prefix_weights = by_prompt[..., : self.prefix_length].transpose(0, 1).flatten(1, 2)
            prefix_output = prefix_weights @ self.prefix.value[layer]
            output += prefix_output.view(kv, batch, draws * rows, -1).transpose(0, 1)
        return output.view(batch, kv, draws, rows, -1)

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
                bias = self.value[0].new_zeros(seen.shape).masked_fill_(~seen, -torch.inf)
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
