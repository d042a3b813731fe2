"""The jobs of a comparison: one predictor with one seed each."""

from dataclasses import dataclass

from st2llm.config.predictors import PredictorSettings


@dataclass(frozen=True)
class Job:
    """One predictor with one seed; its key names its files."""

    predictor: PredictorSettings
    seed: int
    task: str
    key: str
