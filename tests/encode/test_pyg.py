from dataclasses import replace

import numpy as np
import torch
from support import five_kinds

from st2llm.encode.pyg import to_pyg


def test_a_graph_comes_back_from_torch_geometric():
    data = five_kinds.graph()
    data.values[3, 1, 0] = np.nan
    graph = to_pyg(data)
    assert graph.validate(raise_on_error=True) and graph.num_nodes == 3 and graph.num_edges == 4
    np.testing.assert_allclose(graph.x.transpose(0, 1).numpy(), data.values)
    assert int((~graph.mask).sum()) == 1
    np.testing.assert_array_equal(graph.edge_index.numpy(), np.stack([data.edges.source, data.edges.target]))
    np.testing.assert_array_equal(graph.time.numpy(), data.time)
    np.testing.assert_allclose(graph.pos.numpy(), data.xy)


def test_a_graph_without_coordinates_has_no_positions():
    graph = to_pyg(replace(five_kinds.graph(), xy=None, lonlat=None))
    assert graph.pos is None and "lonlat" not in graph
    assert graph.edge_weight.dtype == torch.float32
