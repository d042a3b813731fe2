"""A template variable that is computed on first access."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeVar, overload

T = TypeVar("T")


class LazySequence(Sequence[T]):
    """A sequence that is computed on first access, so that templates without it do not pay for it."""

    def __init__(self, find: Callable[[], tuple[T, ...]]) -> None:
        self._find = find

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...

    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self._found[index]

    @cached_property
    def _found(self) -> tuple[T, ...]:
        return self._find()
