"""Edges between places: from a matrix (csv, npz, the pickle of DCRNN), a list, or great-circle distances."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from st2llm.data import safe_open
from st2llm.data.card import DistanceKernel, GraphCard, file_and_key
from st2llm.data.card.graph import EdgeColumns
from st2llm.data.read.readings import graph_table_format
from st2llm.data.read.whole_table import read_table
from st2llm.errors import DataError, nearest
from st2llm.types import Edges

EARTH_KM = 6371.0088


def build_edges(
    card: GraphCard,
    files: dict[str, Path],
    names: tuple[str, ...],
    lonlat: Float64[np.ndarray, "node 2"] | None,
) -> tuple[Edges, list[str]]:
    """The edges of a card, and what was done, in words. names: the places under the names of the files, in order."""
    rule = card.edges
    if rule is None:
        return _as_edges([], [], []), []
    if rule.adjacency is not None:
        name, key = file_and_key(rule.adjacency)
        return _from_matrix(_read_matrix(card, files[name], key, names), len(names), name)
    if rule.listed is not None:
        columns = rule.columns or EdgeColumns()
        weight = columns.weight or columns.distance or "weight"
        table = read_table(
            files[rule.listed], graph_table_format(card), is_number=lambda name: name == weight
        )
        return _from_list(table, names, rule.listed, columns)
    if lonlat is None or rule.distance is None:
        raise DataError(
            f"{card.name}: `edges: distance` needs lon and lat of the places. Give them under `nodes`."
        )
    edges = edges_by_distance(lonlat, rule.distance)
    step = f"connected places by exp(-(km / {rule.distance.sigma_km:g})^2) >= {rule.distance.threshold:g}"
    return edges, [f"{step}: {len(edges.weight)} edges"]


def _as_edges(source: object, target: object, weight: object) -> Edges:
    return Edges(np.asarray(source, np.int64), np.asarray(target, np.int64), np.asarray(weight, np.float64))


def _read_matrix(card: GraphCard, path: Path, key: str | None, names: tuple[str, ...]) -> np.ndarray:
    """The matrix of weights in a file, in the order of the places."""
    kind = path.suffix.lower()
    content = safe_open.numeric_pickle(path) if kind in (".pkl", ".pickle") else None
    if content is not None and not isinstance(content, np.ndarray):
        return _from_pickle(content, names, path.name)
    if card.layout == "long":
        raise DataError(
            f"{path.name} is a matrix without the ids of its rows, but the places of a long table have no order to "
            f"match them by. Give `edges: {{list: FILE}}` with the ids of each pair, or a pickle of DCRNN, which has "
            f"the ids."
        )
    if content is not None:
        return np.asarray(content)
    if kind in (".npz", ".npy"):
        return safe_open.array(path, key)
    table_format = replace(graph_table_format(card), header=False)
    return read_table(path, table_format, is_number=lambda name: True).to_numpy()


def _from_pickle(content: Any, names: tuple[str, ...], where: str) -> np.ndarray:
    """The matrix of the list that DCRNN pickles, in the order of `names`: [ids of the places, positions, matrix]."""
    if not isinstance(content, list | tuple) or len(content) != 3 or not isinstance(content[2], np.ndarray):
        raise DataError(
            f"{where} should hold [ids, positions, matrix] or a matrix, but it holds {type(content).__name__}."
        )
    ids = content[0].tolist() if isinstance(content[0], np.ndarray) else content[0]
    if not isinstance(ids, list | tuple):
        raise DataError(
            f"{where} should begin with the ids of the places, but it begins with {type(ids).__name__}."
        )
    position = {str(id): i for i, id in enumerate(ids)}
    if absent := [name for name in names if name not in position]:
        raise DataError(
            f"{where} has no place {absent[0]!r} ({len(absent)} missing). {nearest(absent[0], position)}"
        )
    order = [position[name] for name in names]
    if content[2].ndim != 2 or min(content[2].shape) <= max(order):
        raise DataError(f"{where} names {len(position)} places, but its matrix has shape {content[2].shape}.")
    return content[2][np.ix_(order, order)]


def _from_matrix(table: np.ndarray, count: int, where: str) -> tuple[Edges, list[str]]:
    try:
        matrix = np.array(table, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{where} should hold only numbers, without a header: {error}.") from error
    if matrix.shape != (count, count):
        shape = " x ".join(map(str, matrix.shape))
        raise DataError(
            f"{where} should be a full matrix of {count} x {count} weights, in the order of the values, but it is "
            f"{shape}."
        )
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise DataError(
            f"{where} should be a full matrix of finite weights, but row {row + 1} holds {matrix[row, column]} in "
            f"column {column + 1}. Write 0 where two places are not connected."
        )
    loops = int(np.count_nonzero(np.diag(matrix)))
    np.fill_diagonal(matrix, 0.0)
    source, target = np.nonzero(matrix)
    steps = [f"left out {loops} edges from a place to itself"] if loops else []
    return _as_edges(source, target, matrix[source, target]), steps


def _from_list(
    table: pd.DataFrame, names: tuple[str, ...], where: str, rule: EdgeColumns
) -> tuple[Edges, list[str]]:
    weight_column = rule.weight or rule.distance or ("weight" if "weight" in table.columns else None)
    for column in (rule.source, rule.target, weight_column):
        if column is not None and column not in table.columns:
            raise DataError(
                f"{where} should have columns {rule.source}, {rule.target} and optionally {weight_column or 'weight'}; "
                f"{column!r} is missing. {nearest(column, map(str, table.columns))}"
            )
    index = {name.strip(): i for i, name in enumerate(names)}
    ends = []
    for column in (rule.source, rule.target):
        ends.append([index.get((name or "").strip(), -1) for name in table[column]])
        if -1 in ends[-1]:
            row = ends[-1].index(-1)
            name = table[column].iloc[row] or ""
            raise DataError(
                f"{where}: row {row + 1} has the unknown {column} {name!r}. {nearest(name, names)}"
            )
    numbers = np.ones(len(table))
    if weight_column is not None:
        numbers = pd.to_numeric(table[weight_column], errors="coerce").to_numpy(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise DataError(
            f"{where}: column {weight_column!r} should hold a finite number for each edge, but row {row + 1} holds "
            f"{numbers[row]}. Correct it, or leave the edge out."
        )
    return _weight_edges(np.array(ends, dtype=np.int64), numbers, rule, where)


def _weight_edges(
    ends: Int64[np.ndarray, "2 edge"], numbers: Float64[np.ndarray, " edge"], rule: EdgeColumns, where: str
) -> tuple[Edges, list[str]]:
    steps: list[str] = []
    if rule.distance is not None:
        sigma = rule.sigma or float(numbers.std())
        if not sigma > 0:
            raise DataError(
                f"{where}: all distances are {numbers[0]:g}, so their standard deviation is 0. Give `sigma` in the "
                "card."
            )
        numbers = np.exp(-((numbers / sigma) ** 2))
        keep = (numbers >= rule.threshold) & (numbers > 0)
        steps = [
            f"connected places by exp(-(distance / {sigma:g})^2) >= {rule.threshold:g}: "
            f"{int(keep.sum())} of {len(keep)} rows"
        ]
        ends, numbers = ends[:, keep], numbers[keep]
    if not rule.both_ways:
        return _as_edges(ends[0], ends[1], numbers), steps
    # A pair that is listed in both directions gets one edge each way.
    pairs = np.concatenate([ends, ends[::-1]], axis=1)
    _, first = np.unique(pairs, axis=1, return_index=True)
    first = np.sort(first)
    both = np.concatenate([numbers, numbers])[first]
    return _as_edges(pairs[0, first], pairs[1, first], both), [*steps, "connected places both ways"]


def edges_by_distance(lonlat: Float64[np.ndarray, "node 2"], rule: DistanceKernel) -> Edges:
    """Edges by a Gaussian kernel on the great-circle distance, in both directions, without loops."""
    lon, lat = np.deg2rad(lonlat).T
    blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for i in range(len(lonlat)):
        half = (
            np.sin((lat - lat[i]) / 2) ** 2 + np.cos(lat) * np.cos(lat[i]) * np.sin((lon - lon[i]) / 2) ** 2
        )
        km = 2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
        weight = np.exp(-((km / rule.sigma_km) ** 2))
        near = np.flatnonzero((weight >= rule.threshold) & (weight > 0) & (np.arange(len(lonlat)) != i))
        blocks.append((np.full(len(near), i), near, weight[near]))
    source, target, weights = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return _as_edges(source, target, weights)
