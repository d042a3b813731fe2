"""Positions of values: edges between nodes, the layout of a grid, and ids of places."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.types.checked import checked


def slug(name: str) -> str:
    """The id of a place: its name in lower case, joined by hyphens (`30 Queen Street` -> `30-queen-street`).

    Letters and digits of all scripts are kept (`東京` -> `東京`).
    """
    return re.sub(r"[\W_]+", "-", name.lower()).strip("-")


def place_ids(names: Sequence[str]) -> tuple[str, ...]:
    """A unique id for each name: its slug, or the name as written where the slug is empty or several names share it.

    Names that are equal apart from outer blanks get equal ids.
    """
    slugs = [slug(name) for name in names]
    count = Counter(slugs)
    return tuple(
        short if short and count[short] == 1 else name.strip()
        for name, short in zip(names, slugs, strict=True)
    )


@checked
@dataclass(frozen=True)
class Edges:
    """Directed weighted edges between nodes, by index."""

    source: Int64[np.ndarray, " edge"]
    target: Int64[np.ndarray, " edge"]
    weight: Float64[np.ndarray, " edge"]

    def of(self, node: int) -> list[tuple[int, float]]:
        """The (node, weight) pairs of edges into `node`, heaviest first, without self-loops."""
        rows = np.flatnonzero((self.target == node) & (self.source != node))
        pairs = [(int(self.source[i]), float(self.weight[i])) for i in rows]
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


NO_EDGES = Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float64))


@checked
@dataclass(frozen=True)
class Layout:
    """The positions of a grid's nodes, which are numbered row by row: node = row * len(cols) + col.

    rows, cols: the coordinate of each row and column in `unit`: 'degrees' (north, east), 'metres' or 'cells'. Rows may
    run from south to north or from north to south.
    """

    rows: Float64[np.ndarray, " row"]
    cols: Float64[np.ndarray, " col"]
    unit: str = "cells"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the cells in the order of the nodes: r0c0, r0c1, ..."""
        return tuple(f"r{i}c{j}" for i in range(len(self.rows)) for j in range(len(self.cols)))
