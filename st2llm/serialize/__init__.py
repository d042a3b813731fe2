"""Writes samples as text and reads predictions from text. `KINDS` maps each kind of data to its serializer."""

from collections.abc import Mapping

from st2llm.serialize.event.text import KIND as EVENT
from st2llm.serialize.graph.text import KIND as GRAPH
from st2llm.serialize.grid.text import KIND as GRID
from st2llm.serialize.template.interface import KindSpec
from st2llm.serialize.trajectory.text import KIND as TRAJECTORY
from st2llm.serialize.video.text import KIND as VIDEO

KINDS: Mapping[str, KindSpec] = {
    "graph": GRAPH,
    "grid": GRID,
    "video": VIDEO,
    "trajectory": TRAJECTORY,
    "event": EVENT,
}
"""The tasks, variables, settings and serializer of each kind."""
