"""The samples of each part of a split, as types of their own: code that fits accepts training windows alone."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, Protocol, TypeVar, cast, overload, runtime_checkable

import numpy as np
from jaxtyping import Int64

from st2llm.display import Displayed, Overview
from st2llm.errors import DataError
from st2llm.types.sample import Sample


@runtime_checkable
class SampleSequence(Protocol):
    """The samples of one part of a split, oldest first; each is built on access."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "SampleSequence": ...

    def indices(self) -> Int64[np.ndarray, " window"]:
        """Where each sample starts: steps of a graph or grid, rows of trajectories or events, frames of clips."""
        ...

    def select(self, positions: Iterable[int]) -> "SampleSequence":
        """The samples at these positions, in this order. Raises IndexError for a position out of range."""
        ...

    @property
    def sha256(self) -> str:
        """A hash of the data, the task and every start."""
        ...


class _Part(Displayed):
    """The samples of one part of a split. The data that they are cut from cannot be reached through it.

    Raises DataError where the samples are those of another part.
    """

    part: ClassVar[str]

    def __init__(self, samples: Sequence[Sample] | SampleSequence) -> None:
        if isinstance(samples, _Part):
            if samples.part != self.part:
                raise DataError(
                    f"{type(self).__name__} holds the {self.part} part of a split, but these are {len(samples)} "
                    f"windows of its {samples.part} part. Take `.{self.part}` of the split."
                )
            samples = samples._samples
        self._samples: Sequence[Sample] | SampleSequence = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def overview(self) -> Overview:
        """The number of samples."""
        return Overview([("samples", f"{len(self):,}")])

    def indices(self) -> Int64[np.ndarray, " window"]:
        """See `SampleSequence`; positions where no split made the samples."""
        if isinstance(self._samples, SampleSequence):
            return self._samples.indices()
        return np.arange(len(self), dtype=np.int64)

    @property
    def sha256(self) -> str:
        """See `SampleSequence`; a hash of the ids where no split made the samples."""
        if isinstance(self._samples, SampleSequence):
            return self._samples.sha256
        return hashlib.sha256("\n".join(sample.id for sample in self).encode()).hexdigest()


OnePart = TypeVar("OnePart", bound=_Part)
View = TypeVar("View", bound="SampleView")


class _Windows(_Part, Sequence[Sample]):
    """Windows of one part; what is made of them is of the same part."""

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self: OnePart, index: slice) -> OnePart: ...

    def __getitem__(self: OnePart, index: int | slice) -> Sample | OnePart:
        if isinstance(index, slice):
            return type(self)(self._samples[index])
        return self._samples[index]

    def select(self: OnePart, positions: Iterable[int]) -> OnePart:
        """The samples at these positions, in this order. Raises IndexError for a position out of range."""
        if isinstance(self._samples, SampleSequence):
            return type(self)(self._samples.select(positions))
        return type(self)([self._samples[position] for position in positions])

    def cached(self: OnePart) -> OnePart:
        """The same windows, each made on first access and then kept."""
        return type(self)(_CachedSamples(cast(SampleSequence, self)))

    def map(self: OnePart, change: Callable[[SampleSequence], SampleSequence]) -> OnePart:
        """Windows of the same part whose samples are changed."""
        return type(self)(change(cast(SampleSequence, self)))


class ValidationWindows(_Windows):
    """Windows that choose checkpoints, learning rates and arms."""

    part = "validation"


class HeldOutWindows(_Windows):
    """Windows of the test part, which predictors are scored on and nothing is fitted or chosen on."""

    part = "test"


class TrainingWindows(_Windows):
    """Windows that models, rules, scalers and indexes are fitted on, and that few-shot examples are taken from."""

    part = "train"

    def with_validation(self, validation: ValidationWindows) -> "TrainingWindows":
        """These windows followed by those of validation, for training again after everything has been chosen."""
        return TrainingWindows([*self, *validation])


def check_training_windows(train: object, fitted: str) -> None:
    """Raises DataError where `train` is of another type, such as the test part. fitted: what is to be fitted."""
    if isinstance(train, TrainingWindows):
        return
    part = f"the {train.part} part" if isinstance(train, _Part) else f"a {type(train).__name__}"
    raise DataError(
        f"{fitted} is fitted on TrainingWindows, so that no test window can be reached, but it was given {part}. Take "
        f"`.train` of the split; a list of your own training samples becomes st2llm.types.TrainingWindows(samples)."
    )


def check_validation_windows(validation: object, chosen: str) -> None:
    """Raises DataError where `validation` is of another type, such as the test part. chosen: what they choose."""
    if isinstance(validation, ValidationWindows):
        return
    part = (
        f"the {validation.part} part" if isinstance(validation, _Part) else f"a {type(validation).__name__}"
    )
    raise DataError(
        f"{chosen} is chosen on ValidationWindows, so that no test window can be reached, but it was given {part}. "
        f"Take `.validation` of the split; a list of your own becomes st2llm.types.ValidationWindows(samples)."
    )


class SampleView(ABC, Sequence[Sample]):
    """Samples that are made of those of `source`, one by one on access."""

    source: SampleSequence

    @abstractmethod
    def sample(self, position: int) -> Sample:
        """The sample at a position from 0."""

    @abstractmethod
    def select(self: View, positions: Iterable[int]) -> View:
        """The samples at these positions, in this order. Raises IndexError for a position out of range."""

    def __len__(self) -> int:
        return len(self.source)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self: View, index: slice) -> View: ...

    # `self` of type View would be checked by reading an item, which calls this method again, without end.
    def __getitem__(self, index: int | slice) -> "Sample | SampleView":
        at = range(len(self))[index]
        return self.sample(at) if isinstance(at, int) else self.select(at)

    def indices(self) -> Int64[np.ndarray, " window"]:
        """Where each sample starts, as in the source."""
        return self.source.indices()


class _CachedSamples(SampleView):
    """Samples that are made on first access and then kept."""

    def __init__(self, samples: SampleSequence) -> None:
        self.source = samples
        self._made: dict[int, Sample] = {}

    def sample(self, position: int) -> Sample:
        if position not in self._made:
            self._made[position] = self.source[position]
        return self._made[position]

    def select(self, positions: Iterable[int]) -> "_CachedSamples":
        chosen = list(positions)
        selected = _CachedSamples(self.source.select(chosen))
        kept = (self._made.get(range(len(self))[position]) for position in chosen)
        selected._made = {new: sample for new, sample in enumerate(kept) if sample is not None}
        return selected

    @property
    def sha256(self) -> str:
        return self.source.sha256
