"""What a comparison has to do, one predictor and seed at a time, and where its progress goes."""

from collections.abc import Callable
from dataclasses import dataclass

from st2llm.config.predictors import PredictorSettings


@dataclass(frozen=True)
class Job:
    """One predictor with one seed; its key names its files."""

    predictor: PredictorSettings
    seed: int
    task: str
    key: str


@dataclass(frozen=True)
class Watch:
    """Where progress goes: a job begins with so many steps, then reaches one after another."""

    begin: Callable[[str, int], None] = lambda label, steps: None
    reach: Callable[[int], None] = lambda step: None


SILENT = Watch()
"""Nobody looks."""
