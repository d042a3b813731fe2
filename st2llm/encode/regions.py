"""Region patches for grids and graphs: nearby places share a region of limited size, and regions exchange
information.

Nothing depends on the number of places: weights trained on a grid run on a graph that they have not seen.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor, nn

from st2llm.data.positions import planar_positions
from st2llm.encode.layers.linear import Linear
from st2llm.errors import ConfigError
from st2llm.types import Edges, Sample

_HILBERT_BITS = 12
_HEADS = 4


@dataclass(frozen=True)
class RegionPartition:
    """The region of each place and its slot there: slots of a region are unique and below max_size."""

    region: Int64[np.ndarray, " node"]
    slot: Int64[np.ndarray, " node"]
    max_size: int

    @property
    def count(self) -> int:
        return int(self.region.max()) + 1


def partition_places(sample: Sample, edges: Edges, max_size: int) -> RegionPartition:
    """Regions of at most `max_size` places, the same for the same places.

    A raster is cut into square blocks. Places with positions are ordered along Hilbert's curve, others along
    the graph (reverse Cuthill-McKee), and the order is cut into runs.
    """
    layout, nodes = sample.side.layout, len(sample.place)
    if layout is not None and len(layout.rows) * len(layout.cols) == nodes:
        return _square_blocks(len(layout.rows), len(layout.cols), max_size)
    xy = planar_positions(sample)
    if xy is not None and np.isfinite(xy).all():
        order = np.argsort(_hilbert_distance(xy), kind="stable")
    else:
        ones = np.ones(len(edges.source), dtype=np.int8)
        graph = coo_array((ones, (edges.source, edges.target)), shape=(nodes, nodes)).tocsr()
        order = np.asarray(reverse_cuthill_mckee(graph + graph.T, symmetric_mode=True), dtype=np.int64)
    region, slot = np.empty(nodes, dtype=np.int64), np.empty(nodes, dtype=np.int64)
    rank = np.arange(nodes)
    region[order], slot[order] = rank // max_size, rank % max_size
    return RegionPartition(region, slot, max_size)


def _square_blocks(rows: int, cols: int, max_size: int) -> RegionPartition:
    side = max(1, int(np.sqrt(max_size)))
    row, col = np.divmod(np.arange(rows * cols), cols)
    region = (row // side) * -(-cols // side) + col // side
    return RegionPartition(
        region.astype(np.int64), (row % side * side + col % side).astype(np.int64), max_size
    )


def _hilbert_distance(xy: Float[np.ndarray, "node 2"]) -> Int64[np.ndarray, " node"]:
    """Distance of each point along Hilbert's curve over the bounding square (Hilbert 1891; the usual bit steps)."""
    low = xy.min(axis=0)
    scale = float((xy.max(axis=0) - low).max()) or 1.0
    x, y = np.minimum((xy - low) / scale * 2**_HILBERT_BITS, 2**_HILBERT_BITS - 1).astype(np.int64).T
    along = np.zeros(len(xy), dtype=np.int64)
    for bit in reversed(range(_HILBERT_BITS)):
        size = 1 << bit
        right, up = (x & size) > 0, (y & size) > 0
        along += size * size * ((3 * right) ^ up)
        flip = ~up & right
        x, y = np.where(flip, size - 1 - x, x), np.where(flip, size - 1 - y, y)
        x, y = np.where(~up, y, x) & (size - 1), np.where(~up, x, y) & (size - 1)
    return along


class RegionMixer(nn.Module):
    """Pools places into region tokens, mixes these by a transformer block, and returns them to each place."""

    region: Tensor
    place: Tensor
    size: Tensor

    def __init__(self, partition: RegionPartition | None, *, d_st: int, max_size: int) -> None:
        super().__init__()
        if partition is None or partition.max_size > max_size:
            raise ConfigError(
                f"encoder.graph: regions takes a partition of places into regions of at most {max_size}. Give "
                f"`partition_of(sample, edges, {max_size})`."
            )
        self.norm = nn.LayerNorm(d_st)
        self.slot = nn.Embedding(max_size, d_st)
        nn.init.normal_(self.slot.weight, std=0.02)
        self.enter = nn.Sequential(Linear(d_st, d_st), nn.GELU(), Linear(d_st, d_st))
        self.over = nn.TransformerEncoderLayer(
            d_st, _HEADS, 2 * d_st, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.ask, self.told = Linear(d_st, d_st), Linear(d_st, d_st, bias=False)
        self.leave = Linear(d_st, d_st)
        region = torch.from_numpy(partition.region)
        self.register_buffer("region", region, persistent=False)
        self.register_buffer("place", torch.from_numpy(partition.slot), persistent=False)
        self.register_buffer(
            "size", torch.bincount(region, minlength=partition.count).float(), persistent=False
        )

    def forward(self, z: Float[Tensor, "batch node d_st"]) -> Float[Tensor, "batch node d_st"]:
        inputs = self.norm(z) + self.slot(self.place)
        b, _, d = z.shape
        total = z.new_zeros(b, len(self.size), d).index_add(1, self.region, self.enter(inputs))
        regions = self.over(total / self.size[:, None])
        attended = nn.functional.gelu(self.ask(inputs) + self.told(regions)[:, self.region])
        output: Tensor = z + self.leave(attended)
        return output
