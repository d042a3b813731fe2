"""The rows of an instruction set: prompts with their true answers, each determined by the request and its number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from st2llm import tasks
from st2llm.commands.prompt import task_for
from st2llm.commands.row_answer import answer_grammar, answer_options, asking_for_what_is_known, fits
from st2llm.data import split
from st2llm.errors import ConfigError, DataError, nearest
from st2llm.llm.tokenizer import load_tokenizer
from st2llm.serialize import questions
from st2llm.serialize.template.template import Template, load_prompt
from st2llm.types import Container, Ranking, Sample, SampleSequence, Slot, first_object, seed_from

_NO_TRUTH = ("describe", "anomaly")
_DRAWS = 8
"""The number of samples that are tried for a row before it is left out for lack of a true answer."""

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("truth", pa.string()),
        ("kind", pa.string()),
        ("task", pa.string()),
        ("split", pa.string()),
        ("dataset", pa.string()),
        ("sample", pa.string()),
        ("place", pa.string()),
        ("topic", pa.string()),
        ("options", pa.list_(pa.string())),
        ("decimals", pa.int64()),
        ("within", pa.float64()),
        ("grammar", pa.string()),
        ("separator", pa.string()),
        ("provenance", pa.string()),
        ("licence", pa.string()),
        ("template", pa.string()),
        ("template_version", pa.int64()),
        ("template_sha256", pa.string()),
        ("data_sha256", pa.string()),
        ("split_sha256", pa.string()),
        ("prompt_sha256", pa.string()),
    ]
)
"""The columns of each shard. messages: as chat templates take them, the true answer last. options: what a choice or a
ranking selects from. decimals, within: the precision of a numerical answer. grammar: of the answer, as in templates.
separator: between the ids of a ranking."""


@dataclass(frozen=True)
class InstructionRequest:
    """The instruction set to write.

    templates: names below the kind (forecast, question-answer.choice); empty for the card's task and questions. count:
    rows per template; None for one per sample. shard: rows per file. part: of the split; it names the files and is
    stored in each row. budget: maximum tokens of a prompt, counted by the tokenizer of `llm`; longer prompts are left
    out.
    """

    data: str
    templates: tuple[str, ...] = ()
    count: int | None = None
    shard: int = 1000
    seed: int = 0
    part: Literal["train", "validation", "test"] = "train"
    budget: int | None = None
    llm: str | None = None

    def __post_init__(self) -> None:
        if self.shard < 1 or (self.count is not None and self.count < 1):
            raise ConfigError(
                f"--count and --shard must be at least 1, but are {self.count} and {self.shard}."
            )
        if (self.budget is None) != (self.llm is None):
            raise ConfigError(
                "--budget counts tokens of a language model: give --budget and --llm together, or neither."
            )


@dataclass(frozen=True)
class InstructionSource:
    """The samples that the rows of one template are made from."""

    template: Template
    part: SampleSequence
    split_sha256: str
    count: int


def instruction_sources(request: InstructionRequest, data: Container) -> list[InstructionSource]:
    kind = first_object(data).kind
    sources = []
    for name in request.templates or _default_templates(data):
        template = asking_for_what_is_known(load_prompt(f"{kind}/{name}"))
        word = template.head.task
        if word in _NO_TRUTH or template.head.answer is None:
            raise ConfigError(
                f"Template {template.id} has no true answer to learn from. Take one whose answer the data "
                f"know, such as {kind}/question-answer."
            )
        task = task_for(word, data)
        parts = split(data, task, stride=_stride(kind, task))
        part: SampleSequence = getattr(parts, request.part)
        if not len(part):
            raise DataError(
                f"{first_object(data).name} has no {request.part} sample for {task.name}. Choose another --part."
            )
        sources.append(InstructionSource(template, part, parts.sha256, request.count or len(part)))
    return sources


def _default_templates(data: Container) -> tuple[str, ...]:
    """The card's own task and question answering, with chat templates where they exist."""
    default = tasks.from_config(first_object(data).default_task)
    task_names = [default[0].type] if default else []
    return tuple(_chat(first_object(data).kind, task_name) for task_name in [*task_names, "question-answer"])


def _chat(kind: str, word: str) -> str:
    try:
        load_prompt(f"{kind}/{word}.chat")
    except ConfigError:
        return word
    return f"{word}.chat"


def _stride(kind: str, task: tasks.Task) -> int:
    """Windows of a field are one horizon apart; sequences and clips one step."""
    horizon = getattr(task, "horizon", None)
    return int(horizon or task.length) if kind in ("graph", "grid") else int(horizon or 1)


def instruction_row(
    request: InstructionRequest, data: Container, sources: Sequence[InstructionSource], number: int
) -> dict[str, Any] | None:
    """Row `number` of the set; None where no candidate sample has a true answer."""
    for source in sources:
        if number < source.count:
            break
        number -= source.count
    draw = np.random.default_rng(seed_from(f"{request.seed}\n{request.part}\n{source.template.id}\n{number}"))
    for sample in _candidates(source, number, draw):
        for solved, question, provenance in _solved(source.template, sample, request.seed, draw):
            if (row := _make_row(source, data, solved, request, question, provenance)) is not None:
                return row
    return None


def _candidates(source: InstructionSource, number: int, draw: np.random.Generator) -> Iterator[Sample]:
    """The sample of a row (evenly spaced over the part), then samples drawn at random."""
    size = len(source.part)
    even = number * size // source.count if source.count <= size else number % size
    yield source.part[even]
    for position in draw.integers(size, size=_DRAWS - 1).tolist():
        yield source.part[int(position)]


def _solved(
    template: Template, sample: Sample, seed: int, draw: np.random.Generator
) -> Iterator[tuple[Sample, questions.QuestionAnswer | None, str]]:
    """Solved problems of a sample for the template, in random order: sample, question, provenance of the answer."""
    if template.head.task == questions.TASK:
        answered = [
            question
            for question in questions.generate_questions(sample, seed=seed)
            if fits(template, question)
        ]
        for i in draw.permutation(len(answered)).tolist():
            yield questions.question_sample(sample, answered[i]), answered[i], answered[i].provenance
        return
    provenance = f"the {template.head.task} task's own truth: the readings that the sample hides"
    if template.head.per != "place" or len(sample.wanted_nodes) <= 1:
        yield sample, None, provenance
        return
    for i in draw.permutation(len(sample.wanted_nodes))[:_DRAWS].tolist():
        yield sample.at(sample.place[sample.wanted_nodes[i]]), None, provenance


def _make_row(
    source: InstructionSource,
    data: Container,
    sample: Sample,
    request: InstructionRequest,
    question: questions.QuestionAnswer | None,
    provenance: str,
) -> dict[str, Any] | None:
    if sample.wanted.any() and (sample.truth is None or not np.isfinite(sample.truth[sample.wanted]).all()):
        return None
    tokenizer = load_tokenizer(request.llm) if request.llm is not None else None
    try:
        prompt = source.template.render(sample, budget=request.budget, tokenizer=tokenizer)
    except DataError:
        if request.budget is None:
            raise
        return None  # this prompt exceeds the budget; another question or sample may fit
    if not prompt.truth or any(isinstance(piece, Slot) for piece in prompt.parts):
        return None
    options = question.options if question else answer_options(prompt.grammar, sample)
    if options and prompt.truth not in options:
        return None  # a place that the prompt does not list, or a direction where the options are places or marks
    messages = [dict(message) for message in prompt.messages] or [{"role": "user", "content": prompt.text}]
    first, place = (
        first_object(data),
        sample.place[sample.wanted_nodes[0]] if len(sample.wanted_nodes) == 1 else "",
    )
    return {
        "id": "|".join(word for word in (sample.id, place, source.template.id) if word),
        "messages": [*messages, {"role": "assistant", "content": prompt.truth}],
        "truth": prompt.truth,
        "kind": sample.kind,
        "task": source.template.head.task,
        "split": request.part,
        "dataset": first.name,
        "sample": sample.id,
        "place": place,
        "topic": question.topic if question else "",
        "options": list(options),
        "decimals": question.decimals if question else 0,
        "within": question.tolerance if question else 0.0,
        "grammar": answer_grammar(source.template, question),
        "separator": prompt.grammar.separator if isinstance(prompt.grammar, Ranking) else "",
        "provenance": f"{first.provenance.source or first.name}: {provenance}",
        "licence": first.provenance.licence,
        "template": source.template.id,
        "template_version": source.template.version,
        "template_sha256": source.template.sha256,
        "data_sha256": first.provenance.sha256,
        "split_sha256": source.split_sha256,
        "prompt_sha256": prompt.sha256,
    }


def parse_part(name: str) -> Literal["train", "validation", "test"]:
    """The part of a split with this name. Raises ConfigError with the nearest name."""
    for part in ("train", "validation", "test"):
        if name == part:
            return part  # type: ignore[return-value]
    raise ConfigError(f"A split has no part {name!r}. {nearest(name, ('train', 'validation', 'test'))}")
