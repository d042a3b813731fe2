"""Windows of several fields side by side: different places, the same steps, one value a place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from st2llm.encode.field_batch import FieldBatch


@dataclass(frozen=True)
class JoinedBatch:
    """Windows of several data sets by name, whose places differ; rows are counted through all of them, in order."""

    parts: Mapping[str, FieldBatch]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts.values())

    def take(self, rows: Sequence[int]) -> "JoinedBatch":
        """The windows at these positions, in the order of data sets."""
        taken, start = {}, 0
        for name, part in self.parts.items():
            end = start + len(part)
            taken[name] = part.take([row - start for row in rows if start <= row < end])
            start = end
        return JoinedBatch(taken)

    def to(self, device: torch.device) -> "JoinedBatch":
        return JoinedBatch({name: part.to(device) for name, part in self.parts.items()})


def split_channels(batch: FieldBatch) -> FieldBatch:
    """Each channel of each window as a row of its own, the channels of a window one after the other."""
    channels = batch.values.shape[3]
    fields = {name: getattr(batch, name) for name in batch.tensor_names()}
    with_channels = ("values", "visible", "base", "target", "valid")
    rows = {
        name: tensor.movedim(3, 1).flatten(0, 1).unsqueeze(3)
        if name in with_channels
        else tensor.repeat_interleave(channels, dim=0)
        for name, tensor in fields.items()
    }
    return replace(batch, prompts=("",) * (len(batch) * channels), **rows)


def join_channels(rows: torch.Tensor, channels: int) -> torch.Tensor:
    """The values of windows `[batch, time, node, channel]` from those of their channels `[row, time, node, 1]`."""
    return rows.reshape(-1, channels, *rows.shape[1:3]).movedim(1, 3)
