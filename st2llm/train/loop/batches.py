"""Where a run's batches come from: samples in memory, in a seeded order, or rows that are streamed."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch

from st2llm.encode.batch import Batch
from st2llm.errors import DataError


@runtime_checkable
class BatchSource(Protocol):
    """Gives one batch after the other, the same ones whenever it begins anew."""

    @property
    def batch(self) -> int:
        """How many samples a batch has."""
        ...

    def next(self) -> Any: ...

    def skip(self) -> None:
        """Goes past a batch without making it."""
        ...


class ShuffledBatches:
    """Batches of samples in memory: epochs of seeded permutations, wrapping around so that none is left out."""

    def __init__(self, samples: Batch, batch: int, seed: int) -> None:
        self.samples, self.batch = samples, min(batch, len(samples))
        self._generator = torch.Generator().manual_seed(seed)
        self._queue: list[int] = []

    def next(self) -> Any:
        return self.samples.take(self._picked())

    def skip(self) -> None:
        self._picked()

    def _picked(self) -> list[int]:
        while len(self._queue) < self.batch:
            self._queue += torch.randperm(len(self.samples), generator=self._generator).tolist()
        picked, self._queue = self._queue[: self.batch], self._queue[self.batch :]
        return picked


class StreamedBatches:
    """Batches of rows that are read as they are needed, epoch after epoch, each in an order of its own.

    rows: the rows of an epoch, by its number. read: what a row becomes; None for one that is left out, which `left_out`
    counts in the first epoch. make: a batch of what was read. Raises DataError where an epoch has
    not one row that can be used.
    """

    def __init__(
        self,
        rows: Callable[[int], Iterator[Any]],
        *,
        read: Callable[[Any], Any],
        make: Callable[[list[Any]], Any],
        batch: int,
    ) -> None:
        self.rows, self.read, self.make, self.batch = rows, read, make, batch
        self.left_out = 0
        self.epoch = -1
        self._since = 0
        self._reading: Iterator[Any] = iter(())

    def next(self) -> Any:
        return self.make(self._picked())

    def skip(self) -> None:
        self._picked()

    def _picked(self) -> list[Any]:
        found: list[Any] = []
        while len(found) < self.batch:
            for row in self._reading:
                if (item := self.read(row)) is not None:
                    found.append(item)
                    self._since += 1
                    if len(found) == self.batch:
                        break
                elif self.epoch == 0:
                    self.left_out += 1
            else:
                if self.epoch >= 0 and self._since == 0:
                    raise DataError(
                        "No row of the training set can be used: all are longer than `max_length`, or there are none. "
                        "Raise `max_length`, or look at the set."
                    )
                self.epoch, self._since = self.epoch + 1, 0
                self._reading = self.rows(self.epoch)
        return found
