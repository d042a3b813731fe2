"""Containers as words and words as predictions. `KINDS` says how each kind of data is written and read."""

from collections.abc import Mapping

from st2llm.serialize import event, graph, grid, trajectory, video
from st2llm.serialize.kind import Kind

KINDS: Mapping[str, Kind] = {
    "graph": graph.KIND,
    "grid": grid.KIND,
    "video": video.KIND,
    "trajectory": trajectory.KIND,
    "event": event.KIND,
}
"""What each kind brings so that templates can speak of it."""
