"""An index of training windows: exact nearest neighbours of z-normalized series, of the same place or any place."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from st2llm.data.windows.fitted_on import FittedOn, fitted_on_parts
from st2llm.errors import DataError
from st2llm.retrieve.window_shapes import Role, WindowShapes, channel_roles, distances, window_shapes
from st2llm.types import Provenance, Sample, TrainingWindows, check_training_windows

_CACHE_ENTRIES = 16_000_000


@dataclass(frozen=True)
class Match:
    """One neighbour. window: its index in `WindowIndex.values`. node: its node, None where all nodes are compared."""

    window: int
    node: int | None
    distance: float


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The result of a search, the nearest first. level, scale: of the query; levels, scales: of each match."""

    matches: list[Match]
    level: Float64[np.ndarray, " channel"]
    scale: Float64[np.ndarray, " channel"]
    levels: list[Float64[np.ndarray, " channel"]]
    scales: list[Float64[np.ndarray, " channel"]]


@runtime_checkable
class DistanceMeasure(Protocol):
    """A distance between a sample and the training windows that replaces the distance of shapes."""

    def apart(
        self, sample: Sample, node: int | None, windows: Int64[np.ndarray, " window"]
    ) -> Float64[np.ndarray, " window"]:
        """windows: positions in the train part. node: the target place, None for all places."""
        ...


@dataclass(frozen=True, eq=False)
class WindowIndex:
    """Training windows with their truth, searched by similarity to the visible part of a query. Made by `fit`.

    The shape of a window is each of its series (place and channel) as z-scores, over the entries that the query shows;
    positions of moving objects are relative to the last one, with one scale for east and north; codes of places and
    marks are compared for equality. The distance is the root mean square difference. Windows of unequal length are
    aligned at their ends.

    kept: positions in `train` of the stored windows. values: their values, with the truth, in single precision.
    spans: first and last second of each. places: 'same' takes windows of the target place, and others only where
    these are too few; 'any' ranks all places together. measure: a distance that replaces that of the shapes.
    """

    train: TrainingWindows
    kept: Int64[np.ndarray, " window"]
    values: Float32[np.ndarray, "window time node channel"]
    spans: Int64[np.ndarray, "window 2"]
    objects: tuple[str, ...]
    ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    places: Literal["same", "any"] = "same"
    measure: DistanceMeasure | None = None
    _cache: dict[tuple[int | None, bytes], WindowShapes] = field(default_factory=dict, repr=False)

    @classmethod
    def fit(
        cls,
        train: TrainingWindows,
        *,
        places: Literal["same", "any"] = "same",
        measure: DistanceMeasure | None = None,
        budget_mb: int = 512,
    ) -> "WindowIndex":
        """Builds an index over the windows of a train part; it can return no window of another part.

        budget_mb: memory for the windows; where they would take more, evenly spaced windows are kept.
        Raises DataError for a part without windows.
        """
        check_training_windows(train, "An index of windows")
        if not len(train):
            raise DataError("An index over train windows needs at least one of them, but the part is empty.")
        room = max(1, int(budget_mb * 2**20 // (4 * max(1, train[0].values.size))))
        kept = np.unique(np.linspace(0, len(train) - 1, min(room, len(train))).round().astype(np.int64))
        windows: list[np.ndarray] = []
        spans, objects, ids, labels = [], [], [], []
        for position in kept.tolist():
            sample = train[position]
            windows.append(with_truth(sample).astype(np.float32))
            spans.append((int(sample.time[0]), int(sample.time[-1])))
            objects.append(object_of(sample))
            ids.append(sample.id)
            labels.append(sample.label)
        length = max(len(values) for values in windows)
        stacked = np.full((len(windows), length, *windows[0].shape[1:]), np.nan, dtype=np.float32)
        for row, values in enumerate(windows):
            stacked[row, length - len(values) :] = values
        return cls(
            train,
            kept,
            stacked,
            np.array(spans, dtype=np.int64),
            tuple(objects),
            tuple(ids),
            tuple(labels),
            places,
            measure,
        )

    @property
    def fitted_on(self) -> FittedOn:
        """The windows that the index can return."""
        return fitted_on_parts({"train": (self.train[int(i)] for i in self.kept)}, Provenance())

    def similar(self, sample: Sample, k: int) -> list[Sample]:
        """The k training windows most similar to the visible part of `sample`, the nearest first, with their truth.

        Each is narrowed to one place where `sample` has one target place of several. Windows that overlap the target
        steps are left out, and so is the sample itself, so there may be fewer than k.
        """
        matches = self.matches(sample, self._node(sample), k)
        return [self._sample(match) for match in matches]

    def matches(self, sample: Sample, node: int | None, k: int) -> list[Match]:
        """The k nearest windows at one place of the sample (None: all its places), with their distances."""
        return self.search(sample, node, k).matches

    def search(self, sample: Sample, node: int | None, k: int) -> SearchResult:
        """The k nearest windows, with the levels and scales that normalize them."""
        if k < 1:
            raise DataError(f"At least one neighbour must be asked for, but k is {k}.")
        self._check_shape(sample)
        query, mask = self._query(sample, node)
        eligible = self._eligible(sample)
        matches = self._ranked(sample, query, mask, node, eligible, k)
        if node is not None and (self.places == "any" or len(matches) < k):
            others = [other for other in range(self.values.shape[2]) if other != node]
            more = [
                match for other in others for match in self._ranked(sample, query, mask, other, eligible, k)
            ]
            if self.places == "any":
                matches = sorted([*matches, *more], key=_by_distance)
            else:
                matches = [*matches, *sorted(more, key=_by_distance)]
        matches = matches[:k]
        shapes = [self._shapes(mask, match.node) for match in matches]
        rows = [(p.level[m.window], p.scale[m.window]) for p, m in zip(shapes, matches, strict=True)]
        return SearchResult(
            matches, query.level[0], query.scale[0], [row[0] for row in rows], [row[1] for row in rows]
        )

    def future(self, match: Match) -> Float64[np.ndarray, "time channel"]:
        """All values of a neighbour, with its truth."""
        return np.asarray(_node_series(self.values[match.window : match.window + 1], match.node)[0])

    @cached_property
    def lowest(self) -> Float64[np.ndarray, " channel"]:
        """The smallest value of each channel in train."""
        return np.asarray(np.fmin.reduce(self.values, axis=(0, 1, 2)), dtype=np.float64)

    @cached_property
    def means(self) -> Float64[np.ndarray, "node channel"]:
        """The mean of each channel of each place in train; NaN where there is no value."""
        known = np.isfinite(self.values)
        total = np.where(known, self.values, 0.0).sum(axis=(0, 1), dtype=np.float64)
        return np.asarray(total / np.where(known.any(axis=(0, 1)), known.sum(axis=(0, 1)), np.nan))

    def _node(self, sample: Sample) -> int | None:
        return sample.wanted_nodes[0] if len(sample.wanted_nodes) == 1 and len(sample.place) > 1 else None

    def _sample(self, match: Match) -> Sample:
        sample = self.train[int(self.kept[match.window])]
        return sample if match.node is None else sample.at(sample.place[match.node])

    def _query(
        self, sample: Sample, node: int | None
    ) -> tuple[WindowShapes, Bool[np.ndarray, "time channel"]]:
        query = np.full((1, *self.values.shape[1:]), np.nan)
        steps = min(self.values.shape[1], len(sample.values))
        query[0, self.values.shape[1] - steps :] = sample.values[len(sample.values) - steps :]
        rows = _node_series(query, node)
        mask = np.isfinite(rows[0])
        return window_shapes(rows, mask, self._roles(node)), mask

    def _ranked(
        self,
        sample: Sample,
        query: WindowShapes,
        mask: Bool[np.ndarray, "time channel"],
        node: int | None,
        eligible: Bool[np.ndarray, " window"],
        k: int,
    ) -> list[Match]:
        """The nearest k at one node; ties go to the later window, which is nearer in time to the query."""
        if self.measure is None:
            all_distances = distances(query, self._shapes(mask, node))
        else:
            all_distances = self.measure.apart(sample, node, self.kept)
        distance = np.where(eligible, all_distances, np.inf)
        order = np.lexsort((-np.arange(len(distance)), distance))[:k]
        return [Match(int(i), node, float(distance[i])) for i in order if np.isfinite(distance[i])]

    def _shapes(self, mask: Bool[np.ndarray, "time channel"], node: int | None) -> WindowShapes:
        """The shapes of all windows at one node under a mask; those of recent masks are cached."""
        key = (node, np.packbits(mask).tobytes())
        if key not in self._cache:
            shapes = window_shapes(_node_series(self.values, node), mask, self._roles(node))
            room = max(1, _CACHE_ENTRIES // max(1, shapes.shape.size))
            while len(self._cache) >= room:
                self._cache.pop(next(iter(self._cache)))
            self._cache[key] = shapes
        return self._cache[key]

    def _roles(self, node: int | None) -> tuple[Role, ...]:
        return self._one_place if node is not None else self._one_place * self.values.shape[2]

    @cached_property
    def _one_place(self) -> tuple[Role, ...]:
        first = self.train[int(self.kept[0])]
        return channel_roles(first.kind, first.side.channels, self.values.shape[3])

    def _eligible(self, sample: Sample) -> Bool[np.ndarray, " window"]:
        """Windows other than the sample that, within the same object, do not overlap its target steps."""
        wanted = sample.time[sample.wanted_steps]
        eligible = np.ones(len(self.kept), dtype=bool)
        if len(wanted):
            same_object = self._objects == self._codes.get(object_of(sample), -1)
            eligible = ~((self.spans[:, 1] >= wanted[0]) & (self.spans[:, 0] <= wanted[-1]) & same_object)
        eligible[self._rows.get(sample.id, [])] = False
        return eligible

    @cached_property
    def _rows(self) -> dict[str, list[int]]:
        """The indices of the windows of each id."""
        rows: dict[str, list[int]] = {}
        for i, name in enumerate(self.ids):
            rows.setdefault(name, []).append(i)
        return rows

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {name: code for code, name in enumerate(dict.fromkeys(self.objects))}

    @cached_property
    def _objects(self) -> Int64[np.ndarray, " window"]:
        return np.array([self._codes[name] for name in self.objects], dtype=np.int64)

    def _check_shape(self, sample: Sample) -> None:
        if sample.values.shape[1:] != self.values.shape[2:]:
            raise DataError(
                f"{sample.id} has {sample.values.shape[1]} places and {sample.values.shape[2]} channels, but the index "
                f"was fitted on windows with {self.values.shape[2]} and {self.values.shape[3]}. Fit it on the train "
                f"part of the same data."
            )


def with_truth(sample: Sample) -> Float64[np.ndarray, "time node channel"]:
    """The values of a training sample with the truth in place of the target entries."""
    if sample.truth is None:
        return sample.values
    return np.where(sample.wanted, sample.truth, sample.values)


def object_of(sample: Sample) -> str:
    """The object or clip of a sample (the data set, for events that are one sequence); '' for a field."""
    if sample.kind == "video":
        return "/".join(sample.id.split("/")[:-1])
    return sample.place[0] if sample.kind in ("trajectory", "event") else ""


def _node_series(values: np.ndarray, node: int | None) -> Float64[np.ndarray, "window time channel"]:
    if node is not None:
        return np.asarray(values[:, :, node], dtype=np.float64)
    return np.asarray(values.reshape(*values.shape[:2], -1), dtype=np.float64)


def _by_distance(match: Match) -> tuple[float, int]:
    return match.distance, -match.window
