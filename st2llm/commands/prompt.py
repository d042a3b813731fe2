"""`st2llm prompt`: the prompt of one test sample."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from st2llm import tasks
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.errors import ConfigError, DataError
from st2llm.llm.tokenizer import load_tokenizer
from st2llm.predict.examples import make_example_selector
from st2llm.serialize.graph.anomaly import plant_anomaly
from st2llm.serialize.lint.leaks import lint
from st2llm.serialize.questions import QuestionAnswer as Asking
from st2llm.serialize.questions import generate_questions
from st2llm.serialize.questions import question_sample as put
from st2llm.serialize.template.template import Template, load_prompt, template_names
from st2llm.types import Container, Prompt, Sample, SampleSequence, TrainingWindows, first_object

_DEFAULT_STEPS = 24
"""Steps of a field that questions and descriptions cover, unless `history` is given."""
_EXAMPLES = 2


@dataclass(frozen=True)
class PromptRequest:
    """The prompt to render.

    index: counts the samples of the test part; windows of a field are one horizon (or one window) apart. place: asks
    for this place only. history, horizon: by default those of the card. examples: number of solved training samples to
    show; None means two where the template shows any.
    """

    template: str
    data: str
    llm: str | None = None
    index: int = 0
    place: str | None = None
    history: int | None = None
    horizon: int | None = None
    budget: int | None = None
    examples: int | None = None


@dataclass(frozen=True)
class RenderedPrompt:
    """A rendered prompt with its template, sample and examples."""

    template: Template
    sample: Sample
    prompt: Prompt
    examples: tuple[Sample, ...] = ()

    def lint(self) -> list[str]:
        """The leaks of the answer into the text, one message each."""
        return lint(self.template, self.sample, examples=self.examples)

    def record(self) -> dict[str, Any]:
        """What `st2llm prompt --json` prints."""
        made_by, told = self.prompt.template, self.prompt.told
        return {
            "messages": [{**m, "content": m["content"].replace("\ue000", "<")} for m in self.prompt.messages],
            "text": self.prompt.text,
            "tokens": self.prompt.tokens,
            "truth": self.prompt.truth,
            "template": {"id": made_by.id, "version": made_by.version, "sha256": made_by.sha256},
            "dropped": list(self.prompt.dropped),
            "told": None if told is None else {"values": told.values, "visible": told.visible},
        }


def render_prompt(question: PromptRequest) -> RenderedPrompt:
    """Renders the question. Raises DataError for an index or place that the test part does not have, ConfigError for a
    template of another kind, or a budget without a language model to count by."""
    template = load_prompt(question.template)
    if question.budget is not None and question.llm is None:
        raise ConfigError(
            "--budget counts tokens of a language model. Name it with --llm, for instance smollm2-135m."
        )
    data = load_data(question.data)
    first = first_object(data)
    if first.kind != template.head.kind:
        raise ConfigError(
            f"Template {template.id} is for {template.head.kind} data, but {first.name} is of kind {first.kind}. "
            f"{_template_hint(first.kind, template.head.task)}"
        )
    task = task_for(template.head.task, data, question.history, question.horizon)
    _refuse_unused_lengths(task, question)
    parts = split(data, task, stride=_stride(first, task))
    sample = _narrow(template, _sample_at(parts.test, question.index, first.name, task), question)
    examples = _examples(template, parts.train, sample, question.examples)
    tokenizer = load_tokenizer(question.llm) if question.llm is not None else None
    prompt = template.render(sample, budget=question.budget, tokenizer=tokenizer, examples=examples)
    return RenderedPrompt(template, sample, prompt, tuple(examples))


def _template_hint(kind: str, task: str) -> str:
    """Which templates exist for a kind of data: that of the same task, else those of its tasks."""
    names = template_names(kind)
    if f"{kind}/{task}" in names:
        return f"Take {kind}/{task}."
    return f"Take one of {', '.join(name for name in names if '.' not in name)}."


def _refuse_unused_lengths(task: tasks.Task, question: PromptRequest) -> None:
    """Raises ConfigError where the request gives a length that the task does not have."""
    takes = _length_options(task)
    for option, value in (("--history", question.history), ("--horizon", question.horizon)):
        if value is not None and option not in takes:
            raise ConfigError(
                f"{option} {value} has no effect: the task {task.type} of this prompt has no such length. Leave it "
                f"out{f', or give {takes[0]}' if takes else ''}."
            )


def _length_options(task: tasks.Task) -> list[str]:
    """The options of `st2llm prompt` that change a task."""
    names = {field.name for field in fields(task)}  # type: ignore[arg-type]
    return [option for option, keys in _LENGTH_KEYS.items() if names & set(keys)]


def task_for(
    word: str, data: Container, history: int | None = None, horizon: int | None = None
) -> tasks.Task:
    """The task of a template on this data: the default task of the card where its type fits, else one of its length.

    Descriptive templates (describe, question-answer, anomaly) use the steps that the default task shows; for a field
    the last 24 steps. history: observed steps; for masks, the length of the window. horizon: predicted steps.
    Raises DataError where the card has no task to go by and history or horizon are not given.
    """
    first = first_object(data)
    default = tasks.from_config(first.default_task)[0] if first.default_task else None
    length = history or _length(default)
    if default is not None and word == default.type:
        return _with_lengths(default, history, horizon)
    if default is not None and word in _DESCRIPTIVE:
        short = default.type == "forecast" and first.kind in ("graph", "grid") and word != "anomaly"
        return _with_lengths(default, history or min(length, _DEFAULT_STEPS) if short else history, horizon)
    if word in _TASK_FACTORIES:
        return _TASK_FACTORIES[word](length, horizon)
    if first.kind == "event":
        return tasks.next_event(length)
    missing = [name for name, value in (("--history", history), ("--horizon", horizon)) if value is None]
    if not missing or (default is not None and word == "forecast"):
        return tasks.forecast(history or max(1, length - 1), horizon or 1)
    raise DataError(
        f"The card of {first.name} has no `default_task` for {word}. Give {' and '.join(missing)}, or name the task in "
        f"the card, such as `default_task: {{forecast: {{history: 48, horizon: 24}}}}`."
    )


_LENGTH_KEYS: Mapping[str, tuple[str, ...]] = {
    "--history": ("length", "history"),
    "--horizon": ("horizon", "span"),
}
"""The fields of a task that an option sets: the first of them that the task has."""
_DESCRIPTIVE = ("describe", "question-answer", "anomaly")


def _recover(length: int, horizon: int | None) -> tasks.Task:
    span = horizon or max(1, length // 3)
    return tasks.recover(max(length, span + 2), span)


_TASK_FACTORIES: Mapping[str, Callable[[int, int | None], tasks.Task]] = {
    "impute": lambda length, _: tasks.impute(max(2, length)),
    "interpolate": lambda length, _: tasks.interpolate(max(3, length)),
    "krige": lambda length, _: tasks.krige(length),
    "recover": _recover,
    "next-place": lambda length, _: tasks.next_place(),
    "next-event": lambda length, _: tasks.next_event(length),
    "classify": lambda length, _: tasks.classify(),
}
"""Makes tasks that are not the card's own from a length and a horizon."""


def _length(task: tasks.Task | None) -> int:
    """The number of steps that a task shows."""
    return _DEFAULT_STEPS if task is None else task.context or task.length or _DEFAULT_STEPS


def _with_lengths(task: tasks.Task, history: int | None, horizon: int | None) -> tasks.Task:
    """The task with another history (the length of masks) and horizon (the span of a recovery), where it has them."""
    field_names = {field.name for field in fields(task)}  # type: ignore[arg-type]
    changes: dict[str, int] = {}
    for value, names in zip((history, horizon), _LENGTH_KEYS.values(), strict=True):
        name = next((name for name in names if name in field_names), None)
        if value is not None and name is not None:
            changes[name] = value
    return replace(task, **changes) if changes else task  # type: ignore[type-var]


def _stride(first: Any, task: tasks.Task) -> int:
    """Forecasts are one horizon apart, that of the card's own task where it has one, so that an index means the same
    window for every horizon; masks of a field one window; other sequences and clips go step by step."""
    horizon = getattr(task, "horizon", None)
    if horizon and first.default_task:
        default = tasks.from_config(first.default_task)[0]
        horizon = getattr(default, "horizon", None) or horizon
    if first.kind in ("graph", "grid"):
        return int(horizon or task.length)
    return int(horizon or 1)


def _sample_at(test: SampleSequence, index: int, name: str, task: tasks.Task) -> Sample:
    if not 0 <= index < len(test):
        raise DataError(
            f"--index {index} is not in the test part of {name}: it has {len(test)} test samples for {task.name}. "
            f"{_index_hint(len(test), task)}"
        )
    return test[index]


def _index_hint(count: int, task: tasks.Task) -> str:
    if count:
        return f"Count from 0 to {count - 1}."
    options = " or ".join(_length_options(task))
    return f"Choose a shorter {options}." if options else "Take a split with a larger test part."


def _narrow(template: Template, sample: Sample, question: PromptRequest) -> Sample:
    """The sample as the template needs it: of one place, with a question, or with a planted anomaly."""
    word, place = template.head.task, question.place
    if word == "anomaly":
        if place is not None:
            sample = sample.at(place)
        return plant_anomaly(sample, sample.place[sample.wanted_nodes[0]])
    if word == "question-answer":
        return put(sample, _choose_question(template, sample, place))
    if word == "describe":
        return sample if place is None else sample.at(place)
    if place is not None:
        return sample.at(place)
    return sample.at(sample.place[sample.wanted_nodes[0]]) if template.head.per == "place" else sample


def _choose_question(template: Template, sample: Sample, place: str | None) -> Asking:
    """The first question about the sample whose answer fits the template's grammar; with a place, one that names it."""
    grammar = "text" if template.head.answer is None else template.head.answer.grammar
    matching = [question for question in generate_questions(sample) if _answers(question, grammar)]
    if place is not None:
        name = sample.side.labels[sample.at(place).wanted_nodes[0]]
        matching = [question for question in matching if name in question.text or name in question.options]
    if not matching:
        raise DataError(
            f"There is no question about {sample.id} that is answered in the grammar {grammar!r}"
            f"{'' if place is None else f' and names {place!r}'}. Take another --index, --place or template."
        )
    return matching[0]


def _answers(asking: Asking, grammar: str) -> bool:
    if grammar in ("choice", "ranking"):
        return bool(asking.options)
    return grammar != "numbers" or _is_number(asking.answer)


def _is_number(word: str) -> bool:
    try:
        return float(word) == float(word)
    except ValueError:
        return False


def _examples(template: Template, train: TrainingWindows, sample: Sample, count: int | None) -> list[Sample]:
    """Solved train samples, drawn at random, where the template shows any."""
    if "examples" not in template.body.variables:
        if count:
            raise ConfigError(
                f"Template {template.id} shows no examples. Leave --examples out, or take one that does, for instance "
                f"{template.head.kind}/{template.head.task}.examples."
            )
        return []
    number = _EXAMPLES if count is None else count
    return make_example_selector("random", number, train)(sample) if number and len(train) else []
