"""Graph layers over the places of each sample, with the weights of torch-geometric's layers."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv, GCNConv, TAGConv

from st2llm.encode.layers.graph_attention import DenseGraph, attend_over_edges, dense_graph


class DiffusionConvolution(nn.Module):
    """Random walks of up to two steps along the edges and against them (DCRNN, Li et al. 2018)."""

    def __init__(self, d_st: int) -> None:
        super().__init__()
        self.along = TAGConv(d_st, d_st, K=2, normalize=False)
        self.against = TAGConv(d_st, d_st, K=2, normalize=False, bias=False)

    def forward(
        self,
        z: Float[Tensor, "batch node d_st"],
        edges: Int64[Tensor, "2 edge"],
        weight: Float[Tensor, " edge"],
    ) -> Float[Tensor, "batch node d_st"]:
        reversed_edges = edges.flip(0)
        transition = [
            weight / _weight_per_node(weight, ends[0], z.shape[1])[ends[0]]
            for ends in (edges, reversed_edges)
        ]
        mixed: Tensor = self.along(z, edges, transition[0]) + self.against(z, reversed_edges, transition[1])
        return mixed


def _weight_per_node(
    weight: Float[Tensor, " edge"], node: Int64[Tensor, " edge"], nodes: int
) -> Float[Tensor, " node"]:
    """The total weight of the edges of each node, at least 1e-12."""
    return (
        torch.zeros(nodes, dtype=weight.dtype, device=weight.device)
        .index_add(0, node, weight)
        .clamp(min=1e-12)
    )


class GraphLayer(nn.Module):
    """One torch-geometric layer over the places of each sample, with a residual connection.

    Attention among few places is computed without torch-geometric's sums over edges: see `graph_attention`.
    """

    def __init__(self, kind: str, *, d_st: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_st)
        self.weighted = kind != "gat"
        self.layer: nn.Module
        if kind == "gat":
            self.layer = GATv2Conv(d_st, d_st // 4, heads=4, edge_dim=1)
        else:
            self.layer = GCNConv(d_st, d_st) if kind == "gcn" else DiffusionConvolution(d_st)
        self._dense: tuple[Tensor, Tensor, DenseGraph | None] | None = None

    def forward(
        self,
        z: Float[Tensor, "batch node d_st"],
        edges: Int64[Tensor, "2 edge"],
        weight: Float[Tensor, " edge"],
    ) -> Float[Tensor, "batch node d_st"]:
        b, n, d = z.shape
        if self.weighted:  # all windows on one graph at once
            mixed: Tensor = self.layer(self.norm(z), edges, weight)
            return z + torch.nn.functional.gelu(mixed)
        if (graph := self._dense_graph(edges, weight, n)) is not None:
            return z + torch.nn.functional.gelu(attend_over_edges(self.layer, self.norm(z), graph))
        shift = (torch.arange(b, device=z.device) * n)[:, None, None]
        index = (edges[None] + shift).permute(1, 0, 2).reshape(2, -1)
        flat = self.norm(z).reshape(b * n, d)
        out: Tensor = self.layer(flat, index, weight.repeat(b)[:, None])
        return z + torch.nn.functional.gelu(out.reshape(b, n, d))

    def _dense_graph(self, edges: Tensor, weight: Tensor, nodes: int) -> DenseGraph | None:
        """The graph as a matrix, computed once for the same tensors on the same device."""
        device = None if self._dense is None or self._dense[2] is None else self._dense[2].source.device
        moved = device not in (None, edges.device)
        if self._dense is None or moved or self._dense[0] is not edges or self._dense[1] is not weight:
            with torch.inference_mode(
                False
            ):  # an evaluation may come first, and training reads the same tensors
                self._dense = (edges, weight, dense_graph(edges, weight, nodes))
        return self._dense[2]
