"""The expected cost of a comparison: steps, prompts, tokens, minutes and memory of each arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from st2llm.config.predictors import PredictorSettings
from st2llm.evaluate.report.formats import format_duration
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.plan import LOADING_S, expected_seconds
from st2llm.evaluate.run.runners.text import load_template
from st2llm.llm.architecture.base_model import read_text_config
from st2llm.llm.endpoint.client import PREFIX
from st2llm.llm.model_files import resolve, weight_mib
from st2llm.types import Prompt

BASE_MIB = 700
"""About the memory of Python, torch and transformers alone."""
_TRAINED_FACTOR = 1.5
"""Activations and optimiser states of a training step, as a multiple of the weights, at a batch of 32."""


@dataclass(frozen=True)
class ArmEstimate:
    """The expected cost of one predictor on one task, over all its seeds and learning rates.

    tokens: of the prompts, at the length of the first one; None for a model whose tokenizer is not on this machine.
    pace: the measured time as a multiple of the assumed one; None where nothing was measured. mib: peak memory.
    """

    task: str
    predictor: str
    family: str
    runs: int
    steps: int
    prompts: int
    tokens: int | None
    seconds: float
    pace: float | None
    mib: int

    def row(self) -> list[str]:
        tokens = "?" if self.tokens is None else f"{self.tokens:,}"
        return [
            self.predictor,
            self.family,
            self.task,
            str(self.runs),
            f"{self.steps:,}",
            f"{self.prompts:,}",
            tokens if self.prompts else "0",
            format_duration(float(round(self.seconds))),
            "assumed" if self.pace is None else "measured",
            f"{self.mib:,} MiB",
        ]


HEADER = ("predictor", "family", "task", "runs", "steps", "prompts", "tokens", "time", "speed", "memory")


def estimate_task(
    inputs: Inputs, prompts: Mapping[str, Prompt], speeds: Mapping[str, float]
) -> list[ArmEstimate]:
    """The estimate of each predictor.

    prompts: the first prompt of each text predictor. speeds: the seconds of a training step or an answer of each
    predictor that was measured; others have an assumed speed.
    """
    return [
        _estimate(inputs, each, prompts.get(each.name), speeds.get(each.name))
        for each in inputs.suite.predictors
    ]


def summary(estimates: Sequence[ArmEstimate], *, controls: float = 0.0) -> str:
    """The sums over all arms in one sentence. controls: seconds of the planted controls."""
    seconds = sum(each.seconds for each in estimates) + controls
    of_controls = f" ({format_duration(float(round(controls)))} of it for the controls)" if controls else ""
    return (
        f"{sum(each.runs for each in estimates)} runs, "
        f"{sum(each.steps for each in estimates):,} steps, {sum(each.prompts for each in estimates):,} prompts: about "
        f"{format_duration(float(round(seconds)))}{of_controls}, and at most "
        f"{max((each.mib for each in estimates), default=0):,} MiB of memory. {_speeds(estimates)}"
    )


def _speeds(estimates: Sequence[ArmEstimate]) -> str:
    """Where the times come from."""
    costly = [each for each in estimates if each.steps or each.prompts]
    measured = [each.predictor for each in costly if each.pace is not None]
    assumed = list(dict.fromkeys(each.predictor for each in costly if each.pace is None))
    text = "A step or an answer of each predictor was measured on this machine. " if measured else ""
    if assumed:
        text += f"The speed of {', '.join(assumed)} is assumed, as on two cores. "
    return f"{text}These are estimates; no result was kept."


def _estimate(
    inputs: Inputs, predictor: PredictorSettings, prompt: Prompt | None, speed: float | None
) -> ArmEstimate:
    suite = inputs.suite
    runs = len(suite.seeds) if suite.fitted_by_seed(predictor) else 1
    rates = len(suite.budget.lr) if predictor.trained and suite.budget else 1
    steps = runs * rates * suite.budget.steps if predictor.trained and suite.budget else 0
    count = _prompt_count(inputs, predictor) if prompt is not None else 0
    tokens = None if prompt is None or prompt.tokens is None else prompt.tokens * count
    assumed = runs * rates * expected_seconds(suite, predictor)
    seconds = assumed if speed is None else runs * rates * LOADING_S + (steps or count) * speed
    return ArmEstimate(
        inputs.task.name,
        predictor.name,
        predictor.family,
        runs,
        steps,
        count,
        tokens,
        seconds,
        None if speed is None else seconds / assumed,
        _memory(inputs, predictor),
    )


def _prompt_count(inputs: Inputs, predictor: PredictorSettings) -> int:
    """Prompts of test and validation windows, one for each place where the template asks place by place, per draw."""
    samples = [*inputs.test_samples(predictor), *inputs.prompted_validation_samples(predictor)]
    by_place = load_template(predictor).head.per == "place"
    count = sum(len(sample.wanted_nodes) if by_place else 1 for sample in samples)
    return count * predictor.set.draws


def _memory(inputs: Inputs, predictor: PredictorSettings) -> int:
    """About the peak memory in MiB: the libraries, and the language model with what its training adds."""
    llm = inputs.suite.llm
    uses_llm = predictor.family in ("soft", "text")
    if llm is None or not uses_llm or llm.name.startswith(PREFIX):
        return BASE_MIB
    weights = weight_mib(resolve(llm.name).folder)
    share = 1.0 if predictor.set.depth is None and llm.depth is None else _depth_share(inputs, predictor)
    return training_mib(weights * share) if predictor.trained else int(BASE_MIB + 1.5 * weights * share)


def training_mib(weights: float) -> int:
    """About the peak memory of training through a language model. weights: their size in MiB."""
    return int(BASE_MIB + weights * (1 + _TRAINED_FACTOR))


def _depth_share(inputs: Inputs, predictor: PredictorSettings) -> float:
    """The share of the layers that are kept."""
    llm = inputs.models.settings
    layers = int(read_text_config(resolve(llm.name).folder).num_hidden_layers)
    return min(1.0, (predictor.set.depth or llm.depth or layers) / layers)
