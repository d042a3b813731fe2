"""The speed of each predictor on this machine, for a dry run: the seconds of one training step or of one answer."""

import time
from pathlib import Path

from st2llm.config.predictors import PredictorSettings
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.runners.arm_training import ArmTraining
from st2llm.evaluate.run.runners.text import decoding_settings, load_template, prompt_options
from st2llm.evaluate.run.samples import without_truth
from st2llm.evaluate.run.study import Study
from st2llm.llm.endpoint.client import PREFIX, RemoteModel
from st2llm.llm.local import LanguageModel
from st2llm.llm.model_files import resolve, weight_mib
from st2llm.model.checkpoint import load_finetuned_llm
from st2llm.predict.text import TextPredictor
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.trainer import fit

LARGEST_MIB = 2048
"""Language models with more weights, in MiB, are not loaded for a dry run."""


def measure(study: Study) -> dict[str, float]:
    """By predictor: the seconds of one training step, or of one answer to a prompt; nothing is kept of what is trained.

    Rules, predictors that are not trained here and those with a training of their own are missing, and those of a
    language model behind an endpoint, whose requests may cost, or with more weights than LARGEST_MIB. Raises as a run
    would.
    """
    inputs = study.inputs
    predictors = [p for p in inputs.suite.predictors if _is_measured(inputs, p)]
    steps = {p.name: _step_seconds(inputs, study.trained.arms, p) for p in predictors if p.trained}
    answers = {p.name: _answer_seconds(inputs, p) for p in predictors if p.family == "text"}
    return steps | answers


def _is_measured(inputs: Inputs, predictor: PredictorSettings) -> bool:
    """Whether a predictor costs steps or answers, and needs no language model or one that is loaded in seconds."""
    by_objectives = predictor.set.has_own_training
    if by_objectives or (not predictor.trained and predictor.family != "text"):
        return False
    llm = inputs.suite.llm
    if llm is None:
        return True
    return not llm.name.startswith(PREFIX) and weight_mib(resolve(llm.name).folder) <= LARGEST_MIB


def _step_seconds(inputs: Inputs, arms: ArmTraining, predictor: PredictorSettings) -> float:
    """The second of three steps on the first windows: the first one also makes what later ones find made."""
    job = inputs.jobs(predictor)[0]
    train = inputs.training_windows(job.seed)
    size = min(inputs.budget.batch, len(train))
    windows = train.select(range(size))
    training = arms.training.of(job.seed)
    preprocessor = training.preprocessor
    batch = preprocessor.collate(windows, with_instructions=predictor.family == "soft")
    ended: list[float] = []
    fit(
        arms.untrained(job, batch),
        batch,
        batch.take(range(1)),
        Budget(steps=3, batch=size, lr=inputs.budget.lr[0], evaluations=1),
        objective=training.objective,
        seed=job.seed,
        on_step=lambda step: ended.append(time.perf_counter()),
    )
    return ended[1] - ended[0]


def _answer_seconds(inputs: Inputs, predictor: PredictorSettings) -> float:
    """The answer to the first prompt, alone; a run reads several prompts at once, which takes less time for each."""
    seed = inputs.suite.seeds[0]
    model: LanguageModel | RemoteModel
    if predictor.checkpoint:
        model = load_finetuned_llm(Path(predictor.checkpoint), dtype=inputs.models.settings.dtype)
    else:
        model = inputs.models.of(predictor)
    text = TextPredictor(
        predictor.name,
        load_template(predictor),
        model,
        decoding=decoding_settings(predictor, seed),
        options=prompt_options(predictor, model, inputs.train, seed=seed),
    )
    (sample,) = without_truth(inputs.test_samples(predictor)[:1])
    query = text.queries(sample)[:1]
    began = time.perf_counter()
    text.answers(query)
    return (time.perf_counter() - began) / predictor.set.draws
