"""Engines that run jobs on other processes or machines; each module needs a package of its own."""

from collections.abc import Mapping

ENGINES: Mapping[str, str] = {
    "ray": "st2llm.distributed.engines.ray.RayEngine",
    "slurm": "st2llm.distributed.engines.slurm.SlurmEngine",
}
"""The class of each engine; its module is imported when the engine is asked for."""
