"""Graph attention in one dense matrix per window and head, for graphs that are small or have many edges."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv
from torch_geometric.utils import add_self_loops, remove_self_loops

_ENTRIES_PER_EDGE = 8
"""A matrix with more entries for each edge takes longer than torch-geometric's sums over edges."""


@dataclass(frozen=True)
class DenseGraph:
    """The edges of a graph, each node's own among them, and the place of each edge in a matrix of all pairs of nodes.

    weight: that of a node's own edge is the mean of its incoming ones. entry: target * nodes + source.
    """

    source: Int64[Tensor, " edge"]
    target: Int64[Tensor, " edge"]
    weight: Float[Tensor, "edge 1"]
    entry: Int64[Tensor, " edge"]


def dense_graph(
    edges: Int64[Tensor, "2 edge"], weight: Float[Tensor, " edge"], nodes: int
) -> DenseGraph | None:
    """The graph as GATv2Conv reads it; None where a dense matrix would be slow, or two edges join the same nodes."""
    index, attribute = remove_self_loops(edges, weight[:, None])
    index, attribute = add_self_loops(index, attribute, fill_value="mean", num_nodes=nodes)
    source, target = index
    entry = target * nodes + source
    if nodes**2 > _ENTRIES_PER_EDGE * len(entry) or len(entry.unique()) < len(entry):
        return None
    return DenseGraph(source, target, attribute, entry)


def attend_over_edges(
    layer: GATv2Conv, z: Float[Tensor, "batch node d"], graph: DenseGraph
) -> Float[Tensor, "batch node d_out"]:
    """What `layer` returns for each window of `z` (Brody et al. 2022), and its gradients, the same up to rounding.

    Scores are computed for edges, softmax and sums over neighbours in matrices whose other entries are 0.
    """
    b, n, _ = z.shape
    heads, width = layer.heads, layer.out_channels
    values = nn.functional.linear(z, layer.lin_l.weight, layer.lin_l.bias)
    queries = nn.functional.linear(z, layer.lin_r.weight, layer.lin_r.bias)
    pairs = values.index_select(1, graph.source) + queries.index_select(1, graph.target)
    pairs = nn.functional.leaky_relu(
        pairs + nn.functional.linear(graph.weight, layer.lin_edge.weight), layer.negative_slope
    )
    # One column for each head, 0 in the rows of the others.
    columns = torch.eye(heads, dtype=z.dtype, device=z.device)[:, None] * layer.att[0][..., None]
    scores = (pairs @ columns.reshape(heads * width, heads)).transpose(1, 2)
    matrix = scores.new_full((b, heads, n * n), -torch.inf).index_copy(2, graph.entry, scores)
    share = torch.softmax(matrix.reshape(b, heads, n, n), dim=-1)
    mixed = share @ values.reshape(b, n, heads, width).transpose(1, 2)
    attended: Tensor = mixed.transpose(1, 2).reshape(b, n, heads * width) + layer.bias
    return attended
