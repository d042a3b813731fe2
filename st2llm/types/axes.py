"""The identity of the places and channels of a field, by which what was fitted for each of them is matched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int64

from st2llm.errors import DataError
from st2llm.types.sample import Prediction, Sample
from st2llm.types.windows import TrainingWindows

FIELD_KINDS = ("graph", "grid", "video")
"""Kinds of data whose samples have the same places along the node axis."""


@dataclass(frozen=True)
class FieldAxes:
    """The ids of the places and channels that something was fitted for, in its own order.

    A cell of a grid is named by its coordinates where it has any, so that a map that runs from south to north is not
    taken for one from north to south.
    """

    places: tuple[str, ...]
    channels: tuple[str, ...]

    @classmethod
    def of(cls, sample: Sample) -> "FieldAxes":
        return cls(_place_ids(sample), sample.side.channels)

    @classmethod
    def of_training(cls, train: TrainingWindows) -> "FieldAxes | None":
        """The axes of training samples; None for sequences, and where there are no samples."""
        return cls.of(train[0]) if len(train) and train[0].kind in FIELD_KINDS else None

    def to_json(self) -> dict[str, list[str]]:
        return {"places": list(self.places), "channels": list(self.channels)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "FieldAxes | None":
        """None where the content names no places."""
        return cls(tuple(content["places"]), tuple(content["channels"])) if "places" in content else None

    def check(self, sample: Sample, fitted: str) -> None:
        """Raises DataError where the sample has other places or channels, or another order. fitted: what has these."""
        own = FieldAxes.of(sample)
        if own != self:
            raise self._mismatch(own, sample, fitted)

    def positions(self, sample: Sample, fitted: str) -> Int64[np.ndarray, " node"]:
        """Where each place of the sample stands here. Raises DataError where the sample has other places."""
        own = FieldAxes.of(sample)
        if set(own.places) != set(self.places):
            raise replace(self, channels=own.channels)._mismatch(own, sample, fitted)
        return self._order(own)

    def arrange(self, sample: Sample, fitted: str) -> Sample:
        """The sample with its places in this order. Raises DataError where it has other places or channels.

        The cells of a grid and the regions of a clip are not moved: a sample that has them in another order is refused.
        """
        own = FieldAxes.of(sample)
        if own == self:
            return sample
        if sample.kind != "graph" or own.channels != self.channels or set(own.places) != set(self.places):
            raise self._mismatch(own, sample, fitted)
        return with_nodes(sample, own._order(self))

    def restore(self, prediction: Prediction, sample: Sample) -> Prediction:
        """A prediction of the arranged sample, with its places in the order of `sample`."""
        own = FieldAxes.of(sample)
        if own == self or prediction.value is None:
            return prediction
        back = self._order(own)
        draws, quantiles = prediction.samples, prediction.quantiles
        return replace(
            prediction,
            value=prediction.value[:, back],
            samples=None if draws is None else draws[:, :, back],
            quantiles=None if quantiles is None else {level: q[:, back] for level, q in quantiles.items()},
        )

    def _order(self, other: "FieldAxes") -> Int64[np.ndarray, " node"]:
        """Where each place of the other axes stands in these."""
        position = {place: i for i, place in enumerate(self.places)}
        return np.array([position[place] for place in other.places], dtype=np.int64)

    def _mismatch(self, own: "FieldAxes", sample: Sample, fitted: str) -> DataError:
        what, mine, theirs = (
            ("channels", self.channels, own.channels)
            if own.channels != self.channels
            else ("places", self.places, own.places)
        )
        return DataError(
            f"{fitted} was fitted for the {what} {_listed(mine)}, but {sample.id} has {_difference(mine, theirs)}. "
            f"What it learned of one is not true of another: give data with these {what}, or fit it on this data."
        )


def with_nodes(sample: Sample, order: Int64[np.ndarray, " node"]) -> Sample:
    """A sample of a graph with its places in another order, or with some of them. order: their positions."""
    side, position = sample.side, {int(node): i for i, node in enumerate(order)}

    def taken(row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(row[node] for node in position)

    near = (((position[o], w) for o, w in near if o in position) for near in taken(side.neighbours))
    neighbours = tuple(tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0]))) for pairs in near)
    return replace(
        sample,
        values=sample.values[:, order],
        visible=sample.visible[:, order],
        wanted=sample.wanted[:, order],
        truth=None if sample.truth is None else sample.truth[:, order],
        place=taken(sample.place),
        side=replace(
            side,
            labels=taken(side.labels),
            neighbours=neighbours,
            lonlat=None if side.lonlat is None else side.lonlat[order],
            xy=None if side.xy is None else side.xy[order],
            place_texts=taken(side.place_texts) if side.place_texts else (),
            layout=None,
        ),
    )


def _place_ids(sample: Sample) -> tuple[str, ...]:
    layout = sample.side.layout
    if layout is None or layout.unit == "cells":
        return sample.place
    if layout.unit == "degrees":
        return sample.side.labels
    return tuple(f"{north:.6g} {east:.6g}" for north in layout.rows for east in layout.cols)


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])}{f', ... ({len(names)} in all)' if len(names) > 3 else ''}"


def _difference(expected: Sequence[str], received: Sequence[str]) -> str:
    """How the names of a sample differ from the expected ones."""
    missing, more = sorted(set(expected) - set(received)), sorted(set(received) - set(expected))
    if not missing and not more:
        return f"them in another order ({_listed(received)})"
    parts = [f"{_listed(more)} instead" if more else "", f"no {_listed(missing)}" if missing else ""]
    return " and ".join(part for part in parts if part)
