"""Runners: one class per family of predictors, each fits and predicts the jobs of its family."""

from collections.abc import Callable, Mapping

from st2llm.config.predictors import PredictorSettings
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Runner
from st2llm.evaluate.run.runners.external import ExternalRunner
from st2llm.evaluate.run.runners.joint import JointRunner
from st2llm.evaluate.run.runners.objectives import ObjectivesRunner
from st2llm.evaluate.run.runners.predictions import RuleRunner
from st2llm.evaluate.run.runners.text import TextRunner
from st2llm.evaluate.run.runners.text_features import TextFeaturesRunner
from st2llm.evaluate.run.runners.trained import TrainedRunner

RUNNERS: Mapping[str, Callable[[Inputs], Runner]] = {
    "rule": RuleRunner,
    "external": ExternalRunner,
    "text": TextRunner,
    "text-features": TextFeaturesRunner,
    "objectives": ObjectivesRunner,
    "joint": JointRunner,
    "trained": TrainedRunner,
}


def runner_name(predictor: PredictorSettings) -> str:
    """The key in RUNNERS of the runner of a predictor."""
    if predictor.external:
        return "external"
    if predictor.text_features is not None:
        return "text-features"
    if predictor.set.objectives is not None:
        return "objectives"
    if predictor.set.trained_on:
        return "joint"
    return {"baseline": "rule", "text": "text"}.get(predictor.family, "trained")
