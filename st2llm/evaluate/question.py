"""One test sample of a data set as the prompt a language model would be given."""

from dataclasses import dataclass, replace
from typing import Any

from st2llm import tasks
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.errors import ConfigError, DataError
from st2llm.llm.tokenizer import load_tokenizer
from st2llm.serialize.lint import lint
from st2llm.serialize.template import Template, load_prompt
from st2llm.types import Prompt, Sample, SensorGraph


@dataclass(frozen=True)
class Question:
    """What to ask: `index` counts test samples one default horizon apart; None means the card's choice."""

    template: str
    data: str
    llm: str | None = None
    index: int = 0
    place: str | None = None
    history: int | None = None
    horizon: int | None = None
    budget: int | None = None


@dataclass(frozen=True)
class Asked:
    """A rendered prompt with the template and sample it came from."""

    template: Template
    sample: Sample
    prompt: Prompt

    def lint(self) -> list[str]:
        """Findings where something of the answer reached the text."""
        return lint(self.template, self.sample)

    def record(self) -> dict[str, Any]:
        """What `st2llm prompt --json` prints."""
        made_by = self.prompt.template
        return {
            "messages": list(self.prompt.messages),
            "text": self.prompt.text,
            "tokens": self.prompt.tokens,
            "truth": self.prompt.truth,
            "template": {"id": made_by.id, "version": made_by.version, "sha256": made_by.sha256},
            "dropped": list(self.prompt.dropped),
        }


def ask(question: Question) -> Asked:
    """Renders the question. Raises DataError for an index or place that the test part does not have,
    ConfigError for a budget without a language model to count by."""
    template = load_prompt(question.template)
    if question.budget is not None and question.llm is None:
        raise ConfigError(
            "--budget counts tokens of a language model. Name it with --llm, for instance smollm2-135m."
        )
    sample = _sample(load_data(question.data), question)
    if question.place is not None:
        sample = sample.at(question.place)
    elif template.head.per == "place":
        sample = sample.at(sample.place[sample.asked[0]])
    tokenizer = load_tokenizer(question.llm) if question.llm is not None else None
    return Asked(template, sample, template.render(sample, budget=question.budget, tokenizer=tokenizer))


def _sample(data: SensorGraph, question: Question) -> Sample:
    task, stride = _task(data, question)
    test = split(data, task, stride=stride).test
    if not 0 <= question.index < len(test):
        have = f"it has {len(test)} test samples for {task.name}, {stride} steps apart"
        raise DataError(
            f"--index {question.index} is not in the test part of {data.name}: {have}. "
            f"Count from 0, or choose a shorter --history and --horizon."
        )
    return test[question.index]


def _task(data: SensorGraph, question: Question) -> tuple[tasks.Forecast, int]:
    """The task asked for, and the default task's horizon, by which test samples are counted."""
    settings = {"history": question.history, "horizon": question.horizon}
    given = {name: steps for name, steps in settings.items() if steps is not None}
    if data.default_task:
        own = tasks.from_config(data.default_task)[0]
        return replace(own, **given), own.horizon
    if len(given) < 2:
        raise DataError(f"The card of {data.name} has no `default_task`. Give both --history and --horizon.")
    task = tasks.forecast(**given)
    return task, task.horizon
