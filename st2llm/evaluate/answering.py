"""`st2llm predict`: a checkpoint's answers for a data set, as a table; no labels are needed."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from st2llm.data import load_data
from st2llm.data.windows import Part, split
from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.tabulate import tabulate
from st2llm.files import write_whole
from st2llm.predict import checkpointed
from st2llm.types import Container, Grid, Sample, SensorGraph, SplitPlan

_KEPT = ["sample", "place", "step", "channel", "time", "value", "q05", "q50", "q95", "answer"]
_EVERYTHING = SplitPlan(1.0, 0.0, 0.0)


def answer(folder: Path, data: str, out: Path) -> int:
    """Writes the answers of a checkpoint's best state and returns how many there are.

    Fields: windows of the checkpoint's task over the whole data, one after the other, the last one at the very end; a
    forecast of what is to come asks for rows at the end whose readings are blank. Sequences: the samples of the test
    part. Raises ConfigError for a folder that is no checkpoint or an `out` that is no parquet file.
    """
    if out.suffix != ".parquet":
        raise ConfigError(f"--out should name a .parquet file, but it is {out}.")
    predictor = checkpointed.read(folder, name="checkpoint")
    samples = _windows(load_data(data), predictor.recipe)
    frame = tabulate(samples, predictor.predict([sample.without_truth() for sample in samples]))
    kept = frame[[name for name in _KEPT if name in frame]]
    write_whole(out, lambda file: kept.to_parquet(file, index=False))
    return len(kept)


def _windows(data: Container, recipe: checkpointed.AnyRecipe) -> list[Sample]:
    task = recipe.the_task
    if not isinstance(data, SensorGraph | Grid):
        part = split(data, task, stride=recipe.split.stride or 1).test
        return [part[i] for i in range(len(part))]
    whole = replace(data, split=_EVERYTHING)
    every: Part = split(whole, task, stride=1).train
    step = task.length - task.context if task.context else task.length
    at = np.arange(len(every) - 1, -1, -step)[::-1]
    if not len(at):
        raise DataError(f"{data.name} has no window of {task.length} steps for {task.name}. Bring more data.")
    return [every[int(i)] for i in at]
