"""Predictions to audit: noisy true values of a made-up town, as a table in the layout of users' files."""

import numpy as np
import pandas as pd

import st2llm
from st2llm.evaluate.audit.problem import Problem, pose
from st2llm.types import SensorGraph

HISTORY, HORIZON = 8, 3
TASK = st2llm.tasks.forecast(HISTORY, HORIZON)
PLACES = ("east", "west")


def town(*, zeros: bool = False, timezone: str = "UTC") -> SensorGraph:
    """Forty days of three-hour steps at two places with a daily wave and a rising level, with gaps."""
    rng = np.random.default_rng(5)
    hours = np.arange(0, 40 * 24, 3)
    wave = 50 + 0.02 * hours + 20 * np.sin(2 * np.pi * hours / 24)
    values = np.stack([wave, 2 * wave], axis=1) + rng.normal(0, 3, (len(hours), 2))
    if zeros:
        values[rng.random(values.shape) < 0.1] = 0.0
    values[rng.random(values.shape) < 0.02] = np.nan
    stamps = pd.date_range("2024-01-01", periods=len(hours), freq="3h", tz="UTC")
    card = {
        "name": "town",
        "unit": "people",
        "timezone": timezone,
        "split": {"train": 0.6, "validation": 0.1, "test": 0.3},
    }
    return SensorGraph.from_pandas(pd.DataFrame(values, index=stamps, columns=list(PLACES)), card=card)


def town_problem(*, zeros: bool = False) -> Problem:
    return pose(town(zeros=zeros), TASK)


def table(problem: Problem, origins: np.ndarray | None = None, *, noise: float = 4.0) -> pd.DataFrame:
    """A row for each wanted entry of these windows, by default st2llm's: the truth with noise; 60 where none is."""
    origins = problem.scored.origins if origins is None else origins
    truth = problem.truth(origins)
    windows, steps, series = truth.shape
    rng = np.random.default_rng(1)
    value = np.where(np.isfinite(truth), truth, 60.0) + rng.normal(0, noise, truth.shape)
    return pd.DataFrame(
        {
            "origin": np.repeat(problem.data.time[origins], steps * series),
            "place": np.tile(np.array(problem.places), windows * steps),
            "step": np.tile(np.repeat(np.arange(steps), series), windows),
            "value": value.ravel(),
        }
    )
