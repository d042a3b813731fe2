"""Which visible values of a sample the variables of a prompt state, one by one."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from st2llm.serialize.text.sequence import ItemList
from st2llm.types import Sample, ToldValues

Entries = tuple[int, ...]
"""Positions in the flattened values of a sample."""


_NO_PARTS = (str, int, float)


class ValueText(str):
    """Text that states values."""

    __slots__ = ("told",)
    told: Entries

    def __new__(cls, text: str, told: Entries) -> "ValueText":
        value = super().__new__(cls, text)
        value.told = told
        return value


def series_entries(sample: Sample, node: int, channel: int, steps: slice) -> Entries:
    """The entries of the known visible values of a series at these steps."""
    known = sample.visible[steps, node, channel] & np.isfinite(sample.values[steps, node, channel])
    at = np.arange(len(sample.time))[steps][known]
    return tuple(np.ravel_multi_index((at, node, channel), sample.values.shape).tolist())


def step_entries(sample: Sample, step: int, channel: int) -> Entries:
    """The entries of the known visible values of all nodes at one step."""
    nodes = np.flatnonzero(sample.visible[step, :, channel] & np.isfinite(sample.values[step, :, channel]))
    return tuple(np.ravel_multi_index((step, nodes, channel), sample.values.shape).tolist())


def known_values(sample: Sample) -> Bool[np.ndarray, "time node channel"]:
    """Where a value is visible and not missing."""
    known: Bool[np.ndarray, "time node channel"] = sample.visible & np.isfinite(sample.values)
    return known


def count_told(sample: Sample, variables: Mapping[str, Any], attributes: Collection[str] = ()) -> ToldValues:
    """How many of the sample's known visible values these variables state; each counts once (see `told_entries`)."""
    return ToldValues(int(told_entries(sample, variables, attributes).sum()), int(known_values(sample).sum()))


def told_entries(
    sample: Sample, variables: Mapping[str, Any], attributes: Collection[str] = ()
) -> Bool[np.ndarray, "time node channel"]:
    """The known visible values that these variables state.

    attributes: those of the variables' parts that the template shows.
    A step of a path or of events is told with all its values. Means and other statistics of several values tell none.
    """
    known = known_values(sample)
    told = np.zeros(known.size, dtype=bool)
    steps = np.zeros(len(known), dtype=bool)
    entries: list[int] = []
    for part in _parts(list(variables.values()), attributes):
        if isinstance(part, ItemList):
            steps[[item.step for item in part]] = True
        else:
            entries += part
    told[entries] = True
    stated: Bool[np.ndarray, "time node channel"] = known & (told.reshape(known.shape) | steps[:, None, None])
    return stated


def _parts(values: Sequence[Any], attributes: Collection[str]) -> Iterator[ItemList | Entries]:
    """The lists of steps that state values, and the entries of other parts, in lists and blocks of lines as well."""
    for value in values:
        if isinstance(value, ItemList):
            yield value
        elif (told := getattr(value, "told", None)) is not None:
            yield told
        elif isinstance(value, _NO_PARTS):
            continue
        elif isinstance(value, Sequence):
            yield from _parts(value, attributes)
        elif isinstance(lines := getattr(value, "lines", None), tuple):
            yield from _parts(lines, attributes)
        else:
            shown = (getattr(value, name, None) for name in attributes)
            yield from (text.told for text in shown if isinstance(text, ValueText))
