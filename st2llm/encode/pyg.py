"""Conversion of sensor graphs to torch-geometric's `Data`."""

import torch
from torch_geometric.data import Data

from st2llm.types import SensorGraph


def to_pyg(data: SensorGraph) -> Data:
    """The whole graph as one `Data`: x is [node, time, channel] in single precision, NaN where a reading is
    missing.

    edge_index: [2, edge], sources in the first row; edge_weight: [edge]. mask: where x is a reading. time:
    int64 seconds UTC, [time]. pos: metres east and north, [node, 2], and lonlat in degrees, where they are
    known. places: the ids.
    """
    values = torch.from_numpy(data.values).float().transpose(0, 1).contiguous()
    edges = data.edges
    graph = Data(
        x=values,
        edge_index=torch.stack([torch.from_numpy(edges.source), torch.from_numpy(edges.target)]),
        edge_weight=torch.from_numpy(edges.weight).float(),
        mask=torch.isfinite(values),
        time=torch.from_numpy(data.time),
        places=list(data.places),
        channels=list(data.channels),
    )
    for name, points in (("pos", data.xy), ("lonlat", data.lonlat)):
        if points is not None:
            graph[name] = torch.from_numpy(points).float()
    return graph
