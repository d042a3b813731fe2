"""Put spatio-temporal data into a language model, and find out whether it was worth it."""

import logging
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what editors and type checkers see; at run time `__getattr__` finds the same names
    from st2llm import tasks
    from st2llm.data import load_data
    from st2llm.data.windows import split
    from st2llm.errors import (
        AlignmentError,
        ArtefactError,
        ConfigError,
        DataError,
        St2llmError,
        StorageError,
        TrainingError,
    )
    from st2llm.evaluate.run.compare import compare
    from st2llm.llm import load_llm
    from st2llm.predict.checkpoint import CheckpointPredictor
    from st2llm.predict.external.wrapper import wrap
    from st2llm.predict.forecaster import Forecaster, forecast
    from st2llm.serialize.template.template import load_prompt
    from st2llm.types import Events, Grid, Prediction, Prompt, Sample, SensorGraph, Trajectory, Video

__all__ = [
    "AlignmentError",
    "ArtefactError",
    "CheckpointPredictor",
    "ConfigError",
    "DataError",
    "Events",
    "Forecaster",
    "Grid",
    "Prediction",
    "Prompt",
    "Sample",
    "SensorGraph",
    "St2llmError",
    "StorageError",
    "TrainingError",
    "Trajectory",
    "Video",
    "compare",
    "forecast",
    "load_data",
    "load_llm",
    "load_prompt",
    "split",
    "tasks",
    "wrap",
]

# peft imports bitsandbytes, which on CPUs with AVX512-BF16 asks for an optional kernel from a hub and warns the user of
# any command that it is not there. Nothing here waits for it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

# Names are looked up on first use, so that `import st2llm` is quick and leaves torch alone.
_HOMES = {
    "load_data": "st2llm.data",
    "split": "st2llm.data.windows",
    "load_llm": "st2llm.llm",
    "load_prompt": "st2llm.serialize.template.template",
    "compare": "st2llm.evaluate.run.compare",
    "CheckpointPredictor": "st2llm.predict.checkpoint",
    "wrap": "st2llm.predict.external.wrapper",
    "forecast": "st2llm.predict.forecaster",
    "Forecaster": "st2llm.predict.forecaster",
    **dict.fromkeys(
        ["SensorGraph", "Grid", "Video", "Trajectory", "Events", "Sample", "Prediction", "Prompt"],
        "st2llm.types",
    ),
    **dict.fromkeys([name for name in __all__ if name.endswith("Error")], "st2llm.errors"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("st2llm")
    if name == "tasks":
        return import_module("st2llm.tasks")
    if name not in _HOMES:
        raise AttributeError(f"module 'st2llm' has no attribute {name!r}. It has: {', '.join(__all__)}.")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
