"""Keeps what was computed of the latest object, so that one prompt does not compute it again for each of its parts."""

import weakref
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def once_per_object(compute: Callable[P, T]) -> Callable[P, T]:
    """A function that keeps its results for the latest object that it was called with, its last argument.

    The object is known by its identity and may be unhashable, such as a Sample; the arguments before it must be
    hashable. A call with named arguments is computed anew. The results of an object are dropped with it, or with the
    next call for another one. For functions of frozen objects, whose results nobody changes.
    """
    latest: tuple[Callable[[], object], dict[tuple[object, ...], T]] = (lambda: None, {})

    @wraps(compute)
    def kept(*arguments: P.args, **named: P.kwargs) -> T:
        nonlocal latest
        if named or not arguments:
            return compute(*arguments, **named)
        at, of = arguments[:-1], arguments[-1]
        refer, results = latest
        if refer() is not of:
            latest = (weakref.ref(of), results := {})
        if at not in results:
            results[at] = compute(*arguments, **named)
        return results[at]

    return kept
