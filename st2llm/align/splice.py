"""Splices soft tokens into token embeddings and pads prompts on the left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from st2llm.errors import AlignmentError
from st2llm.types import Slot


@dataclass(frozen=True)
class SplicedBatch:
    """Embedded prompts of a batch, padded on the left; `real` is False where padded."""

    embeddings: Float[Tensor, "batch seq d_lm"]
    real: Bool[Tensor, "batch seq"]
    is_soft: Bool[Tensor, "batch seq"]

    @property
    def position(self) -> Int64[Tensor, "batch seq"]:
        """Positions counted from each row's first real token."""
        return (self.real.long().cumsum(dim=1) - 1).clamp(min=0)

    @property
    def is_text(self) -> Bool[Tensor, "batch seq"]:
        return self.real & ~self.is_soft


def splice(
    parts: Sequence[Float[Tensor, "_ d_lm"] | Slot], soft: Mapping[str, Float[Tensor, "_ d_lm"]]
) -> tuple[Float[Tensor, "seq d_lm"], Bool[Tensor, " seq"]]:
    """One prompt's embeddings in order, [seq, d_lm], and which of them are soft tokens.

    Raises AlignmentError where a slot has no soft tokens or another number of them, or soft tokens have no
    slot.
    """
    embeddings, is_soft = [], []
    for part in parts:
        if not isinstance(part, Slot):
            embeddings.append(part)
            is_soft.append(torch.zeros(len(part), dtype=torch.bool, device=part.device))
            continue
        if part.name not in soft:
            raise AlignmentError(
                f"The prompt has a slot {part.name!r}, but soft tokens were given only for {sorted(soft)}. "
                f"Name the encoder's output after the slot."
            )
        tokens = soft[part.name]
        if len(tokens) != part.length:
            raise AlignmentError(
                f"Slot {part.name!r} holds {part.length} tokens, but the head made {len(tokens)}. "
                f"Set both from one number in the config."
            )
        embeddings.append(tokens)
        is_soft.append(torch.ones(len(tokens), dtype=torch.bool, device=tokens.device))
    unused = set(soft) - {part.name for part in parts if isinstance(part, Slot)}
    if unused:
        raise AlignmentError(
            f"The prompt has no slot for the soft tokens {sorted(unused)}. Add <soft name=...> to it."
        )
    return torch.cat(embeddings), torch.cat(is_soft)


def pad_left(
    embeddings: Sequence[Float[Tensor, "_ d_lm"]], soft: Sequence[Bool[Tensor, " _"]]
) -> SplicedBatch:
    """Prompts of different lengths as one batch, padded with zero rows on the left."""
    length = max(len(row) for row in embeddings)

    def padded(tensors: Sequence[Tensor]) -> Tensor:
        result = tensors[0].new_zeros((len(tensors), length, *tensors[0].shape[1:]))
        for i, tensor in enumerate(tensors):
            result[i, length - len(tensor) :] = tensor
        return result

    real = padded([torch.ones(len(row), dtype=torch.bool, device=row.device) for row in embeddings])
    return SplicedBatch(embeddings=padded(embeddings), real=real, is_soft=padded(soft))
