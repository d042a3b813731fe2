"""The nodes of a graph or a grid as one list: their values, labels, positions and neighbours."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from st2llm.types import Grid, Layout, SensorGraph

Neighbours = tuple[tuple[tuple[int, float], ...], ...]


@dataclass(frozen=True, eq=False)
class NodeField:
    """The nodes of a graph or grid.

    values: a view of the container's values, with the cells of a grid row by row.
    alive: False where a place has no reading of a channel in the training part, as land has no sea temperature.
    neighbours: (node, weight) pairs of each node.
    """

    values: Float64[np.ndarray, "time node channel"]
    alive: Bool[np.ndarray, "node channel"]
    places: tuple[str, ...]
    labels: tuple[str, ...]
    neighbours: Neighbours
    lonlat: Float64[np.ndarray, "node 2"] | None = None
    xy: Float64[np.ndarray, "node 2"] | None = None
    layout: Layout | None = None


def node_field(data: SensorGraph | Grid, *, training_steps: int) -> NodeField:
    """The nodes of a container. Those of a grid run row by row; adjacent cells are neighbours of weight 1.

    training_steps: length of the training part, which decides which nodes are alive.
    """
    if isinstance(data, SensorGraph):
        neighbours = tuple(tuple(data.edges.of(i)) for i in range(len(data.places)))
        alive = np.isfinite(data.values[:training_steps]).any(axis=0)
        return NodeField(data.values, alive, data.places, data.labels, neighbours, data.lonlat, data.xy)
    steps, rows, cols, channels = data.values.shape
    values = data.values.reshape(steps, rows * cols, channels)
    alive = np.isfinite(values[:training_steps]).any(axis=0)
    layout = data.layout
    lonlat, xy = cell_centres(layout)
    return NodeField(
        values, alive, layout.ids, cell_labels(layout), _adjacent(layout, alive), lonlat, xy, layout
    )


def cell_centres(
    layout: Layout,
) -> tuple[Float64[np.ndarray, "node 2"] | None, Float64[np.ndarray, "node 2"] | None]:
    """The centre of each cell, row by row: degrees, and metres from the middle of the grid; the unused one is None."""
    lonlat = mesh(wrap_longitude(layout.cols), layout.rows) if layout.unit == "degrees" else None
    east, north = layout.cols - layout.cols.mean(), layout.rows - layout.rows.mean()
    return lonlat, mesh(east, north) if layout.unit == "metres" else None


def wrap_longitude(lon: Float64[np.ndarray, " col"]) -> Float64[np.ndarray, " col"]:
    """Degrees east above -180 and up to 180."""
    return np.asarray(180.0 - (180.0 - lon) % 360.0, dtype=np.float64)


def cell_labels(layout: Layout) -> tuple[str, ...]:
    """The label of each cell: '60.5°N 20°W' where the axes are in degrees, else 'row 3, column 5', counted from 0."""
    if layout.unit != "degrees":
        return tuple(f"row {i}, column {j}" for i in range(len(layout.rows)) for j in range(len(layout.cols)))
    north = [_degrees(at, "NS") for at in _rounded_labels(layout.rows)]
    east = [_degrees(at, "EW") for at in _rounded_labels(wrap_longitude(layout.cols))]
    return tuple(f"{row} {col}" for row in north for col in east)


def _degrees(text: str, directions: str) -> str:
    """'-20.5' becomes '20.5°S'; zero has no direction."""
    value = float(text)
    return f"{text.lstrip('-')}°{directions[value < 0] if value else ''}"


def _rounded_labels(at: Float64[np.ndarray, " cell"]) -> list[str]:
    """Coordinates as text, with the fewest decimals that keep the error within 0.02 and a twentieth of their step."""
    step = float(np.abs(np.diff(np.sort(at))).min()) if len(at) > 1 else 1.0
    tolerance = max(min(step / 20, 0.02), 1e-5)
    decimals = next((d for d in range(6) if np.abs(np.round(at, d) - at).max(initial=0) <= tolerance), 6)
    return [f"{value + 0.0:.{decimals}f}" for value in np.round(at, decimals)]


def mesh(
    east: Float64[np.ndarray, " col"], north: Float64[np.ndarray, " row"]
) -> Float64[np.ndarray, "node 2"]:
    """The coordinates of the cells of a grid, row by row."""
    cols, rows = np.meshgrid(east, north)
    return np.column_stack([cols.ravel(), rows.ravel()])


def _adjacent(layout: Layout, alive: Bool[np.ndarray, "node channel"]) -> Neighbours:
    """The cells before and after each cell in its column and row, without cells that are not alive.

    Where the columns span all longitudes, the last column is adjacent to the first.
    """
    rows, cols = len(layout.rows), len(layout.cols)
    wraps = layout.unit == "degrees" and cols > 2 and _full_circle(layout.cols)
    has_readings = [bool(cell.any()) for cell in alive]
    neighbours = []
    for node in range(rows * cols):
        row, col = divmod(node, cols)
        adjacent = [(row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)]
        if wraps:
            adjacent = [(i, j % cols) for i, j in adjacent]
        cells = [i * cols + j for i, j in adjacent if 0 <= i < rows and 0 <= j < cols]
        neighbours.append(tuple((cell, 1.0) for cell in cells if has_readings[cell]))
    return tuple(neighbours)


def _full_circle(lon: Float64[np.ndarray, " col"]) -> bool:
    step = np.abs(np.diff(lon))
    return bool(np.abs(step.sum() + step.mean() - 360.0) < 0.5 * step.mean())
