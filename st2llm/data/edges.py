"""Edges between places: from a matrix, from a list, or from distances on the great circle."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64

from st2llm.data import safe_open
from st2llm.data.card import Distance, GraphCard
from st2llm.errors import DataError, nearest
from st2llm.types import Edges, slug

EARTH_KM = 6371.0088


def build(
    card: GraphCard,
    files: dict[str, Path],
    names: tuple[str, ...],
    lonlat: Float64[np.ndarray, "node 2"] | None,
) -> tuple[Edges, list[str]]:
    """The edges a card asks for, and what was done, in words. names: places as the files call them, in order."""
    rule = card.edges
    if rule is None:
        return _as_edges([], [], []), []
    if rule.adjacency is not None:
        return _from_matrix(safe_open.csv(files[rule.adjacency], header=False), len(names), rule.adjacency)
    if rule.listed is not None:
        return _from_list(safe_open.csv(files[rule.listed]), names, rule.listed), []
    if lonlat is None or rule.distance is None:
        raise DataError(
            f"{card.name}: `edges: distance` needs the places' lon and lat. Give them under `nodes`."
        )
    edges = by_distance(lonlat, rule.distance)
    told = f"joined places by exp(-(km / {rule.distance.sigma_km:g})^2) >= {rule.distance.threshold:g}"
    return edges, [f"{told}: {len(edges.weight)} edges"]


def _as_edges(source: object, target: object, weight: object) -> Edges:
    return Edges(np.asarray(source, np.int64), np.asarray(target, np.int64), np.asarray(weight, np.float64))


def _from_matrix(table: pd.DataFrame, count: int, where: str) -> tuple[Edges, list[str]]:
    try:
        matrix = table.to_numpy(dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{where} should hold numbers alone, without a head: {error}.") from error
    if matrix.shape != (count, count) or not np.isfinite(matrix).all():
        raise DataError(
            f"{where} should be a full matrix of {count} x {count} weights, in the order of the values, but "
            f"it is {matrix.shape[0]} x {matrix.shape[1]}{'' if np.isfinite(matrix).all() else ' with gaps'}."
        )
    loops = int(np.count_nonzero(np.diag(matrix)))
    np.fill_diagonal(matrix, 0.0)
    source, target = np.nonzero(matrix)
    told = [f"left out {loops} edges from a place to itself"] if loops else []
    return _as_edges(source, target, matrix[source, target]), told


def _from_list(table: pd.DataFrame, names: tuple[str, ...], where: str) -> Edges:
    for column in ("source", "target"):
        if column not in table.columns:
            raise DataError(
                f"{where} should have columns source, target and perhaps weight; {column!r} is missing."
            )
    index = {slug(name): i for i, name in enumerate(names)}
    ends = []
    for column in ("source", "target"):
        ends.append([index.get(slug(str(name)), -1) for name in table[column]])
        if -1 in ends[-1]:
            row = ends[-1].index(-1)
            name = str(table[column].iloc[row])
            raise DataError(
                f"{where}: row {row + 1} has the unknown {column} {name!r}. {nearest(name, names)}"
            )
    weight = (
        pd.to_numeric(table["weight"], errors="coerce") if "weight" in table.columns else np.ones(len(table))
    )
    if not np.isfinite(weight).all():
        raise DataError(
            f"{where}: a weight in row {int(np.flatnonzero(~np.isfinite(weight))[0]) + 1} is no number."
        )
    return _as_edges(ends[0], ends[1], weight)


def by_distance(lonlat: Float64[np.ndarray, "node 2"], rule: Distance) -> Edges:
    """Edges by a Gaussian kernel on the great-circle distance, both ways, none from a place to itself."""
    lon, lat = np.deg2rad(lonlat).T
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for i in range(len(lonlat)):
        half = (
            np.sin((lat - lat[i]) / 2) ** 2 + np.cos(lat) * np.cos(lat[i]) * np.sin((lon - lon[i]) / 2) ** 2
        )
        km = 2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
        weight = np.exp(-((km / rule.sigma_km) ** 2))
        near = np.flatnonzero((weight >= rule.threshold) & (weight > 0) & (np.arange(len(lonlat)) != i))
        found.append((np.full(len(near), i), near, weight[near]))
    source, target, weights = (np.concatenate(part) for part in zip(*found, strict=True))
    return _as_edges(source, target, weights)
