"""Checks a task of a suite before anything trains: windows, templates, prompts, checkpoints, language model."""

from pathlib import Path

from st2llm.config.predictors import PredictorSettings
from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.runners.text import load_template
from st2llm.llm.architecture.base_model import context_length, read_text_config
from st2llm.llm.endpoint.client import PREFIX
from st2llm.llm.model_files import resolve
from st2llm.llm.tokenizer import load_tokenizer
from st2llm.model import checkpoint
from st2llm.predict.examples import make_example_selector
from st2llm.serialize.template.template import Template, load_prompt
from st2llm.types import Prompt, Sample, SampleSequence, Tokenizer


def check_task(inputs: Inputs) -> dict[str, Prompt]:
    """Checks all that the arms of one task need, and returns the first prompt of each text predictor.

    Raises DataError where a part of the split is empty, ConfigError for a template that does not exist or is for
    another task, a prompt that does not fit into the context of the language model, or a model that cannot be found.
    """
    _check_windows(inputs)
    _check_online(inputs)
    suite = inputs.suite
    if suite.llm is not None and not suite.llm.name.startswith(PREFIX):
        resolve(suite.llm.name)
    if any(predictor.family == "soft" and predictor.trained for predictor in suite.predictors):
        load_prompt(suite.instruction or f"{suite.kind}/{inputs.task.type}.soft")
    return {p.name: _first_prompt(inputs, p) for p in suite.predictors if p.family == "text"}


def _check_windows(inputs: Inputs) -> None:
    """Raises DataError where a part of the split that the suite needs has no windows."""
    needed: dict[str, SampleSequence] = {"test": inputs.test}
    if any(predictor.trained or predictor.text_features for predictor in inputs.suite.predictors):
        needed |= {"train": inputs.train, "validation": inputs.validation}
    for part, windows in needed.items():
        if not len(windows):
            raise DataError(
                f"{inputs.suite.id}: the {part} part of {inputs.suite.data} has no window for {inputs.task.name}. Ask "
                f"for shorter windows, or name a split with a larger {part} part (data: NAME#SPLIT)."
            )


def _check_online(inputs: Inputs) -> None:
    """Raises ConfigError where a predictor should be adapted that cannot be."""
    suite = inputs.suite
    for predictor in suite.predictors:
        if predictor.set.adapt_online is None:
            continue
        if suite.kind not in ("graph", "grid") or inputs.task.type != "forecast":
            raise ConfigError(
                f"{suite.id}: adapt_online of {predictor.name!r} is for forecasts of graphs and grids, but the suite "
                f"asks for {inputs.task.type} of kind {suite.kind}. Leave it out."
            )
        if predictor.family == "text" or predictor.text_features:
            raise ConfigError(
                f"{suite.id}: adapt_online is for rules, ridges, external predictors and trained arms, but "
                f"{predictor.name!r} is none. Leave it out."
            )


def _first_prompt(inputs: Inputs, predictor: PredictorSettings) -> Prompt:
    """The prompt of a text predictor for the first test window, with its tokens where the model is on this machine."""
    template = load_template(predictor)
    _check_template(template, inputs, predictor)
    if predictor.checkpoint is not None:
        checkpoint.read_checkpoint(Path(predictor.checkpoint))
    name = inputs.models.settings.name
    tokenizer = None if name.startswith(PREFIX) else load_tokenizer(name)
    prompt = _render(template, inputs, predictor, tokenizer)
    if tokenizer is not None and prompt.tokens is not None:
        _check_context(prompt.tokens, name, predictor)
    return prompt


def _check_template(template: Template, inputs: Inputs, predictor: PredictorSettings) -> None:
    head, kind, task = template.head, inputs.suite.kind, inputs.task.type
    if (head.kind, head.task) != (kind, task):
        raise ConfigError(
            f"{inputs.suite.id}: the template {template.id} of {predictor.name!r} is for {head.task} of kind "
            f"{head.kind}, but the suite asks for {task} of kind {kind}. Take a template {kind}/{task}."
        )
    if head.answer is None:
        raise ConfigError(
            f"{inputs.suite.id}: the template {template.id} of {predictor.name!r} has no `answer` in its head, so no "
            f"answer could be read. Add one, or take another template."
        )


def _render(
    template: Template, inputs: Inputs, predictor: PredictorSettings, tokenizer: Tokenizer | None
) -> Prompt:
    settings = predictor.set
    sample = _narrowed(template, inputs.test_windows(predictor)[0])
    examples: list[Sample] = []
    if settings.examples is not None:
        selector = make_example_selector(settings.examples.select, settings.examples.count, inputs.train)
        examples = selector(sample)
    budget = settings.prompt_budget if tokenizer is not None else None
    return template.render(sample, budget=budget, tokenizer=tokenizer, examples=examples)


def _narrowed(template: Template, sample: Sample) -> Sample:
    if template.head.per != "place" or len(sample.wanted_nodes) <= 1:
        return sample
    return sample.at(sample.place[sample.wanted_nodes[0]])


def _check_context(tokens: int, name: str, predictor: PredictorSettings) -> None:
    """Raises ConfigError where a prompt leaves no room for an answer in the context of the model."""
    context = context_length(read_text_config(resolve(name).folder))
    if context is not None and tokens >= context:
        raise ConfigError(
            f"The first prompt of {predictor.name!r} has {tokens:,} tokens, but {name} reads {context:,} with the "
            f"answer. Set `prompt_budget` under its `set`, or ask for a shorter history."
        )
