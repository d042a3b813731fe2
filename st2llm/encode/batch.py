"""Stacked samples as tensors (picking and moving their rows), and the interface of encoders, which read them."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from st2llm.devices import move
from st2llm.types import Sample


@runtime_checkable
class Batch(Protocol):
    """Stacked samples of any kind: rows can be picked and moved to a device."""

    def __len__(self) -> int: ...

    def take(self, rows: Sequence[int]) -> Any: ...

    def to(self, device: torch.device) -> Any: ...


TensorBatchT = TypeVar("TensorBatchT", bound="TensorBatch")


class TensorBatch:
    """Picks and moves rows of a dataclass whose fields, except `prompts`, are tensors with one row per sample."""

    prompts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self: TensorBatchT, rows: Sequence[int]) -> TensorBatchT:
        """The samples at these positions, in this order."""
        index = torch.as_tensor(list(rows), dtype=torch.int64)
        selected = {name: getattr(self, name)[index] for name in self.tensor_names()}
        return replace(self, prompts=tuple(self.prompts[i] for i in rows), **selected)  # type: ignore[type-var]

    def to(self: TensorBatchT, device: torch.device) -> TensorBatchT:
        moved = {name: move(getattr(self, name), device) for name in self.tensor_names()}
        return replace(self, **moved)  # type: ignore[type-var]

    def tensor_names(self) -> list[str]:
        """The names of the tensor fields."""
        return [f.name for f in fields(self) if f.name != "prompts"]  # type: ignore[arg-type]


def random_scales(count: int, dims: int, strength: float, generator: torch.Generator) -> Tensor:
    """One random factor about 1 for each sample, with `dims` dimensions for broadcasting."""
    return 1 + strength * (2 * torch.rand((count, *[1] * (dims - 1)), generator=generator) - 1)


def label_index(sample: Sample) -> int:
    """The class of a sample as an index into its options; -1 where none is asked for, or it is not known."""
    return -1 if sample.label is None else sample.side.options.index(sample.label)


class Encoder(nn.Module):
    """A module that maps a batch to embeddings: `forward(batch, condition=None)` returns `[batch, slot, d_st]`.

    slots: the number of embeddings of one sample. output_slots: those that heads read. condition: `[batch, d_st]`, is
    added to all embeddings (the noise level in diffusion pretraining).
    """

    slots: int
    output_slots: slice
