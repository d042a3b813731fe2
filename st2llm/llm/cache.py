"""Keys and values of a batch whose rows have different lengths, with room for the answer set aside."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A layer's keys and values, grown in place: the library's own copies all of them at every token."""

    def __init__(self, keys: Tensor, values: Tensor, length: int) -> None:
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self.room = (keys, values)
        self.is_initialized = True
        self._show(length)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        start = self.keys.shape[-2]
        stop = start + key_states.shape[-2]
        for room, fresh in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, start:stop] = fresh
        self._show(stop)
        return self.keys, self.values

    def keep(self, rows: Tensor) -> None:
        """Drops all rows but these."""
        keys, values = self.room
        self.room = (keys[rows], values[rows])
        self._show(self.keys.shape[-2])

    def _show(self, length: int) -> None:
        self.keys, self.values = (room[:, :, :length] for room in self.room)


class RoomyCache(Cache):  # type: ignore[misc]
    """The prompts' keys and values, each row's last token at the same place, zeros before its first."""

    def __init__(self, batch: int, longest: int, room: int) -> None:
        super().__init__(layers=[])
        self.batch, self.longest, self.room = batch, longest, room

    def fill(self, rows: Sequence[int], lengths: Sequence[int], filled: Cache) -> None:
        """Takes over prompts that were read into `filled`, padded on the right."""
        for index, source in enumerate(filled.layers):
            if index == len(self.layers):
                self.layers.append(self._empty(source.keys, source.values))
            for target, fresh in zip(self.layers[index].room, (source.keys, source.values), strict=True):
                for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
                    target[row, :, self.longest - length : self.longest] = fresh[i, :, :length]

    def keep(self, rows: Tensor) -> None:
        for layer in self.layers:
            layer.keep(rows)

    def _empty(self, keys: Tensor, values: Tensor) -> RoomyLayer:
        shapes = [
            (self.batch, like.shape[1], self.longest + self.room, like.shape[3]) for like in (keys, values)
        ]
        made = [torch.zeros(shape, dtype=keys.dtype, device=keys.device) for shape in shapes]
        return RoomyLayer(made[0], made[1], self.longest)
