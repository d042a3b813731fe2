"""Prompts that a frozen language model has read, kept as keys and values."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformers import DynamicCache

from st2llm.align.splice import pad_left
from st2llm.llm.architecture.base_model import base_of
from st2llm.llm.local import LanguageModel


@dataclass(frozen=True)
class CachedPrompt:
    """Keys and values of a prompt at each layer, and the mean of its last states."""

    keys: Tensor
    values: Tensor
    mean: Tensor

    @property
    def bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes


KeptPrompts = tuple[DynamicCache, Int64[Tensor, " batch"], Float[Tensor, "batch d_lm"]]
"""A cache padded on the left, the token count of each prompt, and the prompts' mean states in fp32."""


class PromptCache:
    """Keys and values of prompts that a frozen model has read; above `limit` bytes the least recently used are
    dropped.

    entries: by the class of lengths that a prompt was read for (see `TextLengths`), and its text.
    """

    def __init__(self, llm: LanguageModel, *, limit: int = 512 * 2**20) -> None:
        self.llm, self.limit = llm, limit
        self.entries: OrderedDict[tuple[int, str], CachedPrompt] = OrderedDict()

    def lookup(self, prompts: Sequence[str], length_class: int = 1) -> KeptPrompts:
        """The keys and values of these prompts; those that are missing are read."""
        if any(kept.keys.device != self.llm.device for kept in self.entries.values()):
            self.entries.clear()  # the model was moved to another device
        keys_of_entries = [(length_class, text) for text in prompts]
        if missing := sorted(text for _, text in set(keys_of_entries) - set(self.entries)):
            self._read(missing, length_class)
        entries = [self.entries[key] for key in keys_of_entries]
        for key in keys_of_entries:
            self.entries.move_to_end(key)
        lengths = torch.tensor([kept.keys.shape[2] for kept in entries])
        longest = int(lengths.max())
        keys, values = (
            _pad_left([getattr(kept, name) for kept in entries], longest) for name in ("keys", "values")
        )
        past = DynamicCache()
        for layer in range(len(keys)):
            past.update(keys[layer], values[layer], layer)
        self._evict(keep=set(keys_of_entries))
        return past, lengths.to(keys.device), torch.stack([kept.mean for kept in entries])

    @torch.inference_mode(False)
    @torch.no_grad()
    def _read(self, texts: Sequence[str], length_class: int) -> None:
        rows = [self.llm.embed(text) for text in texts]
        batch = pad_left(rows, [torch.zeros(len(row), dtype=torch.bool, device=row.device) for row in rows])
        past = DynamicCache()
        states: Tensor = base_of(self.llm.model)(
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
            self.entries[length_class, text] = CachedPrompt(keys, values, means[i].clone())

    def _evict(self, *, keep: set[tuple[int, str]]) -> None:
        total = sum(kept.bytes for kept in self.entries.values())
        for key in list(self.entries):
            if total <= self.limit:
                return
            if key not in keep:
                total -= self.entries.pop(key).bytes


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
