"""The fixes of all objects as columns, sorted by object and time; harmonisation works on them."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int8, Int32, Int64

from st2llm.data.read.columns import Categories
from st2llm.errors import DataError


@dataclass(frozen=True)
class Fixes:
    """Fixes, a row each.

    owner: the object of each row, as an index into `objects`. time: in units of unit_s seconds. part: 0 train,
    1 validation, 2 test for each row. attributes: NaN where missing. labels: one for each object. own_origins: whether
    x and y count from the first fix of each object, so that those of different objects cannot be compared. cut_from:
    the whole object that each object is a part of; empty where all are whole.
    """

    objects: tuple[str, ...]
    owner: Int32[np.ndarray, " row"]
    time: Int64[np.ndarray, " row"]
    unit_s: float = 1.0
    lonlat: Float64[np.ndarray, "row 2"] | None = None
    xy: Float64[np.ndarray, "row 2"] | None = None
    place: Categories | None = None
    part: Int8[np.ndarray, " row"] | None = None
    labels: tuple[str | None, ...] = ()
    attributes: dict[str, Float64[np.ndarray, " row"]] = field(default_factory=dict)
    own_origins: bool = False
    cut_from: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.time)

    def at(self, rows: Any) -> "Fixes":
        """The rows of a mask, a slice or indices, in that order. Objects stay, even those that lose all rows."""
        cut = {
            f.name: value[rows]
            for f in fields(self)
            if f.name in _ROWS and (value := getattr(self, f.name)) is not None
        }
        place = self.place.at(rows) if self.place is not None else None
        return replace(self, **cut, place=place, attributes={k: v[rows] for k, v in self.attributes.items()})

    def dropping(self, bad: np.ndarray) -> "Fixes":
        return self.at(~bad) if bad.any() else self

    def sorted(self) -> "Fixes":
        """Rows by object, then time; rows of one object and time keep their order."""
        in_order = (np.diff(self.owner) > 0) | ((np.diff(self.owner) == 0) & (np.diff(self.time) >= 0))
        return self if in_order.all() else self.at(np.lexsort((self.time, self.owner)))

    def offsets(self) -> Int64[np.ndarray, " edge"]:
        """The first row of each object, and the number of rows."""
        return np.searchsorted(self.owner, np.arange(len(self.objects) + 1)).astype(np.int64)

    def same_object(self) -> np.ndarray:
        """For each row but the first: whether it is of the same object as the row before."""
        return np.asarray(self.owner[1:] == self.owner[:-1])

    def step_seconds(self) -> Float64[np.ndarray, " step"]:
        """Seconds from each row to the next."""
        return np.diff(self.time) * self.unit_s

    def without_empty(self) -> "Fixes":
        """The fixes without objects that have no rows. Raises DataError where there is no row at all."""
        if not len(self):
            raise DataError(
                "No fix is left after harmonisation. Relax the steps under `harmonise`, or correct the units."
            )
        has_rows = np.bincount(self.owner, minlength=len(self.objects)) > 0
        if has_rows.all():
            return self
        code = (np.cumsum(has_rows) - 1).astype(np.int32)
        kept = np.flatnonzero(has_rows).tolist()
        return replace(
            self,
            objects=tuple(self.objects[i] for i in kept),
            labels=tuple(self.labels[i] for i in kept) if self.labels else (),
            cut_from=tuple(self.cut_from[i] for i in kept) if self.cut_from else (),
            owner=code[self.owner],
        )


_ROWS = ("owner", "time", "lonlat", "xy", "part")


def resolve_duplicates(fixes: Fixes, rule: str) -> tuple[Fixes, tuple[str, ...]]:
    """Rows with distinct times for each object. rule: `error`, keep the `first`, or `spread` rows a second apart.

    Raises DataError that names a repeated time, or times that cannot be spread.
    """
    repeated = np.flatnonzero(fixes.same_object() & (np.diff(fixes.time) == 0)) + 1
    if not repeated.size:
        return fixes, ()
    if rule == "error":
        row = int(repeated[0])
        raise DataError(
            f"Object {fixes.objects[fixes.owner[row]]!r} has two rows at time {fixes.time[row]} ({repeated.size} "
            "repeats). Drop one of them, or set `duplicates: first` or `spread` in the card."
        )
    if rule == "first":
        bad = np.zeros(len(fixes), dtype=bool)
        bad[repeated] = True
        return fixes.dropping(bad), (f"dropped {repeated.size} rows that repeat a time of their object",)
    time = fixes.time.copy()
    unit = round(1 / fixes.unit_s)
    for row in repeated.tolist():
        time[row] = time[row - 1] + unit
    spread = replace(fixes, time=time)
    late = np.flatnonzero(spread.same_object() & (np.diff(time) <= 0))
    if late.size:
        raise DataError(
            f"Object {fixes.objects[fixes.owner[late[0]]]!r} has so many rows at one time that spreading them by a "
            "second each overlaps the next time. Set `duplicates: first` in the card."
        )
    return spread, (
        f"{repeated.size} rows that repeat a time of their object were moved to a second after the row before",
    )
