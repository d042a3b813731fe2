"""Texts about a grid: a coarse table of one step, its largest cells, and regions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.errors import DataError
from st2llm.serialize.text.formatting import format_value, short_decimals_for
from st2llm.serialize.text.once import once_per_object
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.text.series import Line
from st2llm.serialize.text.told import Entries, ValueText
from st2llm.types import Layout, Sample

LAND = "--"
"""How a cell without a value is written in a table."""
_ROWS = ("north", "middle", "south")
_COLS = ("west", "middle", "east")


@dataclass(frozen=True)
class Region:
    """A block of cells. nodes: those that are ever visible or wanted."""

    name: str
    nodes: Int64[np.ndarray, " cell"]


@dataclass(frozen=True)
class CoarseTable:
    """One step as a coarse table, north on top.

    columns: labels. rows: one line each. each: what a number stands for.
    """

    columns: tuple[str, ...]
    rows: tuple[Line, ...]
    each: str


def layout_of(sample: Sample) -> Layout:
    """The layout of the cells of a sample. Raises DataError where it is missing."""
    layout = sample.side.layout
    if layout is None or len(layout.rows) * len(layout.cols) != len(sample.place):
        raise DataError(f"{sample.id} does not say how its {len(sample.place)} cells lie. Give Side.layout.")
    return layout


def coarse_table(
    sample: Sample, values: Float64[np.ndarray, " node"], cells: int, *, told: Sequence[int] = ()
) -> CoarseTable:
    """The values of one step, averaged to at most `cells` rows and columns; LAND where there are none.

    told: the entries of these values in the sample. A table of means tells none of them.
    """
    layout = layout_of(sample)
    bands = _coarse_bands(cells, layout)
    means = np.array([[_finite_mean(values[block]) for block in line] for line in bands.blocks])
    places = short_decimals_for(means)
    single = len(bands.rows[0]) == len(bands.cols[0]) == 1
    rows_told = _nodes_of(sample, told) // len(layout.cols) if single else np.zeros(0, dtype=np.int64)
    lines = tuple(
        Line(
            label,
            " ".join([_cell_text(value, places) for value in line]),
            told=_entries_at(told, rows_told, int(row[0])) if single else (),
        )
        for label, row, line in zip(bands.row_labels, bands.rows, means.tolist(), strict=True)
    )
    each = (
        "the value of a cell" if single else f"the mean of {len(bands.rows[0])} x {len(bands.cols[0])} cells"
    )
    return CoarseTable(bands.column_labels, lines, each)


def top_cells(
    sample: Sample, values: Float64[np.ndarray, " node"], count: int, *, told: Sequence[int] = ()
) -> tuple[str, ...]:
    """The cells of the largest values: `60.5°N 20.0°W: 21.3`. told: the entries of the values in the sample."""
    finite = np.flatnonzero(np.isfinite(values))
    best = finite[np.argsort(-values[finite], kind="stable")][:count]
    places, nodes = short_decimals_for(values), _nodes_of(sample, told)
    return tuple(
        ValueText(
            f"{plain_text(sample.side.labels[i])}: {format_value(float(values[i]), places)}",
            _entries_at(told, nodes, i),
        )
        for i in best.tolist()
    )


def _nodes_of(sample: Sample, told: Sequence[int]) -> Int64[np.ndarray, " entry"]:
    """The cell of each entry."""
    _, nodes, channels = sample.values.shape
    at: Int64[np.ndarray, " entry"] = np.array(told, dtype=np.int64) // channels % nodes
    return at


def _entries_at(told: Sequence[int], at: Int64[np.ndarray, " entry"], index: int) -> Entries:
    """The entries whose cell, or row, is this one."""
    return tuple(told[i] for i in np.flatnonzero(at == index).tolist())


def compass_regions(sample: Sample, across: int) -> tuple[Region, ...]:
    """The grid divided into `across` x `across` regions, named by direction; regions without values are left out."""
    sea = np.asarray((sample.visible | sample.wanted).any(axis=(0, 2)))
    regions = (
        replace(region, nodes=region.nodes[sea[region.nodes]])
        for region in _whole_regions(across, layout_of(sample))
    )
    return tuple(region for region in regions if len(region.nodes))


def region_means(
    sample: Sample,
    region: Region,
    channel: int,
    values: Float64[np.ndarray, "time node channel"] | None = None,
) -> Float64[np.ndarray, " time"]:
    """The mean of a region at each step over visible values (or finite `values`); NaN where there are none."""
    if values is None:
        visible = sample.visible[:, region.nodes, channel]
        block = np.where(visible, sample.values[:, region.nodes, channel], np.nan)
    else:
        block = values[:, region.nodes, channel]
    finite = np.isfinite(block)
    count = finite.sum(axis=1)
    return np.where(count > 0, np.where(finite, block, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def latest_reading(
    sample: Sample, channel: int, before: int | None = None
) -> tuple[int, Float64[np.ndarray, " node"]]:
    """The last step with a visible value, and its values; -1 and NaN where there is none."""
    steps = np.flatnonzero(sample.visible[:before, :, channel].any(axis=1))
    if not len(steps):
        return -1, np.full(len(sample.place), np.nan)
    step = int(steps[-1])
    return step, np.where(sample.visible[step, :, channel], sample.values[step, :, channel], np.nan)


def cell_direction(sample: Sample, node: int, other: int) -> str:
    """The direction of another cell: north, south-east; for plain cells above, below, left, right."""
    layout = layout_of(sample)
    (r, c), (i, j) = divmod(node, len(layout.cols)), divmod(other, len(layout.cols))
    north = float(layout.rows[i] - layout.rows[r]) if i != r else 0.0
    east = float(layout.cols[j] - layout.cols[c]) if j != c else 0.0
    if layout.unit == "cells":
        directions = (
            "below" if north > 0 else "above" if north else "",
            "right" if east > 0 else "left" if east else "",
        )
        return " ".join(direction for direction in directions if direction)
    if layout.unit == "degrees":
        east = (east + 180) % 360 - 180
    directions = (
        "north" if north > 0 else "south" if north else "",
        "east" if east > 0 else "west" if east else "",
    )
    return "-".join(direction for direction in directions if direction)


def _cell_text(value: float, places: int) -> str:
    return LAND if math.isnan(value) else format_value(value, places)


def _bands(axis: Float64[np.ndarray, " row"], count: int, turned: bool) -> list[np.ndarray]:
    """The indices of an axis in `count` even bands, at most one per index; from high to low coordinates if turned."""
    order = (
        np.argsort(-axis if turned else axis, kind="stable")
        if turned or axis[0] > axis[-1]
        else np.arange(len(axis))
    )
    return [np.sort(band) for band in np.array_split(order, max(1, min(count or len(axis), len(axis))))]


def _is_north_up(layout: Layout) -> bool:
    """Whether rows are shown from high to low coordinates: north on top, except for plain cells."""
    return layout.unit != "cells"


@dataclass(frozen=True)
class _Bands:
    """The bands of a layout: the indices of the rows and columns in each, their labels, and the cells of each block."""

    rows: list[np.ndarray]
    cols: list[np.ndarray]
    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]
    blocks: list[list[np.ndarray]]


@once_per_object
def _coarse_bands(count: int, layout: Layout) -> _Bands:
    rows, cols = _bands(layout.rows, count, _is_north_up(layout)), _bands(layout.cols, count, False)
    return _Bands(
        rows,
        cols,
        tuple(_band_label(layout, row, layout.rows, "row") for row in rows),
        tuple(_band_label(layout, col, layout.cols, "column") for col in cols),
        [[(row[:, None] * len(layout.cols) + col[None, :]).ravel() for col in cols] for row in rows],
    )


@once_per_object
def _whole_regions(across: int, layout: Layout) -> tuple[Region, ...]:
    """The regions of a layout with all their cells."""
    bands = _coarse_bands(across, layout)
    ends = len(bands.rows), len(bands.cols)
    return tuple(
        Region(
            _region_name(layout, row, col, (i, ends[0]), (j, ends[1])),
            bands.blocks[i][j],
        )
        for i, row in enumerate(bands.rows)
        for j, col in enumerate(bands.cols)
    )


def _finite_mean(values: Float64[np.ndarray, " cell"]) -> float:
    """The mean of the finite values; NaN where there is none."""
    finite = values[np.isfinite(values)]
    return float(np.add.reduce(finite) / finite.size) if finite.size else float("nan")


def _band_label(layout: Layout, band: np.ndarray, axis: np.ndarray, name: str) -> str:
    """`40°N`, `row 3`, `rows 1-4`, `1200 m`."""
    if layout.unit == "cells":
        first, last = float(axis[band[0]]), float(axis[band[-1]])
        return f"{name} {first:g}" if len(band) == 1 else f"{name}s {first:g}-{last:g}"
    middle = float(axis[band].mean())
    if layout.unit != "degrees":
        return f"{middle:g} m"
    middle = middle - 360 if name == "column" and middle > 180 else middle
    sign = ("N" if middle >= 0 else "S") if name == "row" else ("E" if middle >= 0 else "W")
    return f"{round(abs(middle), 1):g}°{sign}"


def _region_name(
    layout: Layout, row: np.ndarray, col: np.ndarray, at_row: tuple[int, int], at_col: tuple[int, int]
) -> str:
    if layout.unit == "cells":
        return f"{_band_label(layout, row, layout.rows, 'row')}, {_band_label(layout, col, layout.cols, 'column')}"
    if max(at_row[1], at_col[1]) > len(_ROWS):
        row_label = _band_label(layout, row, layout.rows, "row")
        return f"around {row_label} {_band_label(layout, col, layout.cols, 'column')}"
    directions = [_band_direction(_ROWS, at_row), _band_direction(_COLS, at_col)]
    named = [direction for direction in directions if direction not in ("", "middle")]
    return "-".join(named) or "middle"


def _band_direction(names: Sequence[str], at: tuple[int, int]) -> str:
    index, count = at
    if count == 1:
        return ""
    return names[index] if count == len(names) else (names[0], names[-1])[index]
