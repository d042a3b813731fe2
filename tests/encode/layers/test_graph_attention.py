"""Dense graph attention returns what torch-geometric's layer does, and leaves other graphs to it."""

import pytest
import torch
from torch_geometric.nn import GATv2Conv

from st2llm.encode.layers.graph_attention import attend_over_edges, dense_graph
from st2llm.encode.layers.graph_layers import GraphLayer

NODES = 6
EDGES = torch.tensor([[0, 1, 2, 3, 1, 2, 0, 4], [1, 0, 0, 2, 1, 3, 2, 0]])
"""One edge from a node to itself, a node with outgoing edges alone, and one without any."""


def weights():
    return torch.linspace(0.1, 1.0, EDGES.shape[1])


def layer_and_windows():
    torch.manual_seed(0)
    layer = GATv2Conv(8, 4, heads=2, edge_dim=1)
    torch.nn.init.normal_(layer.bias)
    return layer, torch.randn(3, NODES, 8, requires_grad=True)


def by_torch_geometric(layer, z):
    return torch.stack([layer(window, EDGES, weights()[:, None]) for window in z])


def test_values_and_gradients_are_those_of_torch_geometric():
    layer, z = layer_and_windows()
    graph = dense_graph(EDGES, weights(), NODES)
    pull = torch.randn(3, NODES, 8)
    inputs = [z, *layer.parameters()]
    expected = by_torch_geometric(layer, z)
    actual = attend_over_edges(layer, z, graph)
    torch.testing.assert_close(actual, expected)
    for one, other in zip(
        torch.autograd.grad((actual * pull).sum(), inputs),
        torch.autograd.grad((expected * pull).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("edges", "nodes"),
    [(torch.tensor([[0, 0], [1, 1]]), 2), (torch.tensor([[0], [1]]), 100)],
    ids=["parallel edges", "few edges among many places"],
)
def test_other_graphs_have_no_matrix(edges, nodes):
    assert dense_graph(edges, torch.ones(edges.shape[1]), nodes) is None


def test_a_layer_follows_a_change_of_its_edges():
    """The matrix that a layer keeps is that of the edges it is given."""
    torch.manual_seed(0)
    layer = GraphLayer("gat", d_st=8)
    z, weight = torch.randn(2, NODES, 8), weights()
    first, other = layer(z, EDGES, weight), layer(z, EDGES.flip(0), weight)
    assert not torch.allclose(first, other)
    torch.testing.assert_close(layer(z, EDGES, weight), first)


def test_a_layer_that_was_evaluated_first_can_be_trained():
    layer, z, weight = GraphLayer("gat", d_st=8), torch.randn(2, NODES, 8), weights()
    with torch.inference_mode():
        layer(z, EDGES, weight)
    layer(z, EDGES, weight).sum().backward()
    assert layer.norm.weight.grad.abs().sum() > 0
