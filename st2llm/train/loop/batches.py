"""Sources of training batches: samples in memory in a seeded order, or streamed rows."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch

from st2llm.encode.batch import Batch
from st2llm.encode.joined_batch import JoinedBatch
from st2llm.errors import DataError


@runtime_checkable
class BatchSource(Protocol):
    """Returns one batch after the other, the same sequence of batches in every run."""

    @property
    def batch(self) -> int:
        """Number of samples of a batch."""
        ...

    def next(self) -> Any: ...

    def skip(self) -> None:
        """Advances past a batch without building it."""
        ...


class ShuffledBatches:
    """Batches of samples in memory: epochs of seeded permutations; a batch may span two epochs, none is dropped."""

    def __init__(self, samples: Batch, batch: int, seed: int) -> None:
        self.samples, self.batch = samples, min(batch, len(samples))
        self._generator = torch.Generator().manual_seed(seed)
        self._queue: list[int] = []

    def next(self) -> Any:
        return self.samples.take(self._next_indices())

    def skip(self) -> None:
        self._next_indices()

    def _next_indices(self) -> list[int]:
        while len(self._queue) < self.batch:
            self._queue += torch.randperm(len(self.samples), generator=self._generator).tolist()
        picked, self._queue = self._queue[: self.batch], self._queue[self.batch :]
        return picked


class StreamedBatches:
    """Batches of streamed rows, epoch after epoch.

    rows: from the number of an epoch to its rows. read: from a row to an example, or None for a row that is left out;
    `left_out` counts these in the first epoch. make: from examples to a batch. Raises DataError where an epoch has no
    row that can be used.
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
        self._used = 0
        self._reading: Iterator[Any] = iter(())

    def next(self) -> Any:
        return self.make(self._next_examples())

    def skip(self) -> None:
        self._next_examples()

    def _next_examples(self) -> list[Any]:
        examples: list[Any] = []
        while len(examples) < self.batch:
            for row in self._reading:
                if (example := self.read(row)) is not None:
                    examples.append(example)
                    self._used += 1
                    if len(examples) == self.batch:
                        break
                elif self.epoch == 0:
                    self.left_out += 1
            else:
                if self.epoch >= 0 and self._used == 0:
                    raise DataError(
                        "No row of the training set can be used: all are longer than `max_length`, or there are none. "
                        "Raise `max_length`, or look at the set."
                    )
                self.epoch, self._used = self.epoch + 1, 0
                self._reading = self.rows(self.epoch)
        return examples


class JoinedBatches:
    """Batches of several data sets: an equal share of each, every one in a seeded order of its own."""

    def __init__(self, samples: JoinedBatch, batch: int, seed: int) -> None:
        share = max(1, batch // len(samples.parts))
        self.sources = {name: ShuffledBatches(part, share, seed) for name, part in samples.parts.items()}

    @property
    def batch(self) -> int:
        return sum(source.batch for source in self.sources.values())

    def next(self) -> JoinedBatch:
        return JoinedBatch({name: source.next() for name, source in self.sources.items()})

    def skip(self) -> None:
        for source in self.sources.values():
            source.skip()
