"""Checks prompts for leaks of the target values or labels."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

import numpy as np
from jaxtyping import Float64

from st2llm import config
from st2llm.errors import DataError, St2llmError
from st2llm.serialize.lint.documents import is_about_target, publication_findings, stating_findings
from st2llm.serialize.lint.numbers_in_text import NUMBER, same_number, without_commas
from st2llm.serialize.lint.round_trip import is_code, round_trip_findings
from st2llm.serialize.lint.side_information import side_information_findings, time_findings
from st2llm.serialize.template.template import Template
from st2llm.types import Prompt, Sample

_RUN_LENGTH = 3
"""This many target values in a row are not a coincidence."""
_PHRASE_LENGTH = 6
"""This many words in a row of another data set's description are not a coincidence."""


def lint(
    template: Template,
    sample: Sample,
    datasets: Mapping[str, str] | None = None,
    examples: Sequence[Sample] = (),
) -> list[str]:
    """Checks the prompts that a template makes of a sample; returns findings, empty if there are none.

    - The prompt must be byte-identical for every future (label, class) and for an unknown one. The side information of
      the sample may not contain frames, positions or calendar entries of hidden steps.
    - Target values and their mean, minimum, maximum and sum may not be in the literal text of the template (numbers of
      two digits or more), in the description, notes and documents (three or more), or anywhere three in a row. The
      label may be in none of them, unless all options are, and the name of a clip may not contain its class; of the
      documents, those that are about the time of the target are checked for it.
    - No document may be published after the last known time of the sample.
    - The time of the target, where it is hidden, may not be in the text.
    - No example may overlap the target in time and place.
    - The template may not mention another data set. datasets: names and descriptions, by default of the shipped cards.
    - Every declared variable must be used, and the prompt must render.
    - The correct answer must survive a round trip: numbers within the stated precision, labels exactly.

    A template for one place is checked for each place that the sample asks for.
    """
    cards = _shipped_cards() if datasets is None else datasets
    if template.head.per == "place" and len(sample.wanted_nodes) > 1:
        parts = [sample.at(sample.place[node]) for node in sample.wanted_nodes]
    else:
        parts = [sample]
    findings = [*_template_findings(template, sample, cards)]
    for part in parts:
        try:
            findings += [*_future_findings(template, part, examples), *_literal_findings(template, part)]
            findings += [
                *side_information_findings(part, examples),
                *publication_findings(part),
                *time_findings(template.render(part), template.body.literals, part),
            ]
            findings += [*_name_findings(template, part), *round_trip_findings(template, part)]
        except St2llmError as error:
            findings.append(f"The prompt cannot be rendered: {error}")
    return list(dict.fromkeys(findings))


def _template_findings(template: Template, sample: Sample, datasets: Mapping[str, str]) -> Iterator[str]:
    idle = set(template.head.variables) - template.body.variables
    for name in sorted(idle):
        yield f"The variable {name!r} is declared but not used. Take it out of the head."
    dataset_words, template_words = _words(sample.side.dataset), _words(template.body.literals)
    for name, description in datasets.items():
        if _words(name) == dataset_words or not _words(name):
            continue
        if _contains(template_words, _words(name)):
            yield f"The template names the data set {name!r}, but the sample is of {sample.side.dataset!r}."
        phrases = _phrases(_words(description)) - _phrases(_words(sample.side.description))
        if phrases & _phrases(template_words):
            yield f"The template holds words of the description of the data set {name!r}."


def _future_findings(template: Template, sample: Sample, examples: Sequence[Sample]) -> Iterator[str]:
    if (sample.visible & sample.wanted).any():
        yield f"{sample.id} shows entries that it asks for: `visible` and `wanted` overlap."
    if np.isfinite(sample.values[~sample.visible]).any():
        yield f"{sample.id} holds values where `visible` is False; they should be NaN."
    if examples and "examples" not in template.body.variables:
        examples = ()
    now = _content(template.render(sample, examples=examples))
    for future in _alternative_futures(sample):
        if _content(template.render(future, examples=examples)) != now:
            yield "The prompt changes with the future: hidden values reach its text."
            return


def _alternative_futures(sample: Sample) -> Iterator[Sample]:
    """The sample with other futures: unknown, of similar magnitude, and far larger than all visible values."""
    yield sample.without_truth()
    visible = sample.values[sample.visible]
    scale = float(np.nanmax(np.abs(visible), initial=1.0)) if np.isfinite(visible).any() else 1.0
    coded = sample.label in sample.side.options
    others = [option for option in sample.side.options if coded and option != sample.label]
    others = others or [_different_answer(sample.label)]
    for seed, (top, label) in enumerate(((scale, others[0]), (1000 * scale, others[-1]))):
        draw = np.random.default_rng(seed)
        other = draw.uniform(0.0, top, sample.values.shape)
        for channel in (c for c in range(other.shape[2]) if is_code(sample, c)):
            other[:, :, channel] = draw.integers(len(sample.side.options), size=other.shape[:2])
        yield replace(
            sample,
            values=np.where(sample.visible, sample.values, other),
            truth=np.where(sample.wanted, other, np.nan),
            label=None if sample.label is None else label,
        )


def _different_answer(label: str | None) -> str:
    """A different answer of the same type."""
    return f"{float(label) + 7:g}" if label and NUMBER.fullmatch(label) else "something else"


def _name_findings(template: Template, sample: Sample) -> Iterator[str]:
    """Finds names of clips or objects that contain the label and reach the prompt."""
    label = _words(sample.label or "")
    if sample.task != "classify" or not label:
        return

    def masked(text: str) -> str:
        return "something" if _reveals_label(_words(text), label) else text

    side = replace(
        sample.side, labels=tuple(map(masked, sample.side.labels)), dataset=masked(sample.side.dataset)
    )
    other = replace(sample, id=masked(sample.id), place=tuple(map(masked, sample.place)), side=side)
    if _content(template.render(other)) != _content(template.render(sample)):
        yield f"The name of what is classified holds its label {sample.label!r}, and it reaches the prompt."


def _literal_findings(template: Template, sample: Sample) -> Iterator[str]:
    side = sample.side
    places = [("The template", template.body.literals, 2), ("The description", side.description, 3)]
    places += [("The note", note, 3) for note in side.notes]
    told = [(f"The document {document.text[:40]!r}", document) for document in side.documents]
    if sample.label is not None:
        yield from _label_findings(
            sample,
            [
                *((where, text) for where, text, _ in places),
                *((where, document.text) for where, document in told if is_about_target(sample, document)),
                ("The quantity", side.quantity),
            ],
        )
    if sample.truth is None or not np.isfinite(sample.truth).any():
        return
    targets = list(_targets(template, sample, sample.truth))
    places += [(where, without_commas(document.text), 3) for where, document in told]
    places += [("The label of a place", label, 0) for label in side.labels]
    places += [(name, text, 0) for name, text in (("The quantity", side.quantity), ("The unit", side.unit))]
    yield from stating_findings(sample)
    for where, text, size in places:
        yield from _text_findings(where, text, size, targets)


def _label_findings(sample: Sample, texts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Finds the label in a text that does not contain all options."""
    label_words = {_words(name) for name in _label_names(sample)} if sample.label is not None else set()
    options = [_words(option) for option in (sample.side.option_labels or sample.side.options)]
    for where, text in texts:
        words = _words(text)
        if any(_reveals_label(words, label) for label in label_words):
            if len(options) > 1 and all(_contains(words, option) for option in options):
                continue
            yield f"{where} holds {sample.label!r}, which is the answer. Take it out."


def _label_names(sample: Sample) -> Iterator[str]:
    side, label = sample.side, sample.label or ""
    yield label
    if side.option_labels and label in side.options:
        yield side.option_labels[side.options.index(label)]


def _reveals_label(words: tuple[str, ...], label: tuple[str, ...]) -> bool:
    """Whether a text contains a label of at least three letters or two digits, so that it is not a coincidence."""
    name = "".join(label)
    return len(name) >= (2 if name.isdigit() else 3) and _contains(words, label)


@dataclass(frozen=True)
class _Target:
    """One target series in one notation, oldest first, and its statistics."""

    values: Float64[np.ndarray, " horizon"]

    def named(self) -> Iterator[tuple[str, float]]:
        for name, statistic in (("mean", np.mean), ("min", np.min), ("max", np.max), ("sum", np.sum)):
            yield f"the {name} of the target", float(statistic(self.values))
        for value in self.values:
            yield "a target value", float(value)


def _targets(template: Template, sample: Sample, truth: np.ndarray) -> Iterator[_Target]:
    """The target series in raw units, and as written in the prompt where that differs; without channels of codes."""
    for node in sample.wanted_nodes:
        for channel in range(sample.values.shape[2]):
            series = truth[:, node, channel]
            series = series[np.isfinite(series)]
            if series.size and not is_code(sample, channel):
                yield _Target(series)
    if template.head.answer is not None and template.head.answer.grammar == "numbers":
        numbers = np.array([float(number) for number in NUMBER.findall(template.serializer.truth(sample))])
        if numbers.size and not np.array_equal(numbers, truth[np.isfinite(truth)]):
            yield _Target(numbers)


def _text_findings(where: str, text: str, size: int, targets: Iterable[_Target]) -> Iterator[str]:
    """Findings in one text. size: minimum number of digits of a number that counts; 0 checks runs only."""
    literals = NUMBER.findall(text)
    if len(literals) < (1 if size else _RUN_LENGTH):
        return
    for target in targets:
        if _holds_run(literals, target):
            yield f"{where} holds {_RUN_LENGTH} or more target values in a row."
        for literal in literals:
            if not size or len(literal.strip("-").replace(".", "")) < size:
                continue
            name = next((name for name, value in target.named() if same_number(literal, value)), None)
            if name is not None:
                yield f"{where} holds the number {literal}, which is {name}. Use a variable or take it out."


def _holds_run(literals: list[str], target: _Target) -> bool:
    """Whether the literals contain _RUN_LENGTH target values in a row that are not all equal."""
    for start in range(len(target.values) - _RUN_LENGTH + 1):
        wanted = target.values[start : start + _RUN_LENGTH].tolist()
        if len(set(wanted)) == 1:
            continue
        for at in range(len(literals) - _RUN_LENGTH + 1):
            if all(same_number(a, b) for a, b in zip(literals[at : at + _RUN_LENGTH], wanted, strict=True)):
                return True
    return False


def _content(prompt: Prompt) -> tuple[object, ...]:
    return prompt.parts, prompt.messages, prompt.grammar


@cache
def _shipped_cards() -> dict[str, str]:
    """Names and descriptions of the data sets that ship with the package."""
    descriptions = {}
    for file in (resources.files("st2llm") / "data" / "cards").iterdir():
        if file.name.endswith(".yaml"):
            card = config.load_yaml(file.read_text(encoding="utf-8"), file.name)
            if not isinstance(card, dict) or "name" not in card:
                raise DataError(f"The data card {file.name} holds no name. Add a `name`.")
            descriptions[str(card["name"])] = str(card.get("description", ""))
    return descriptions


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9]+", text.lower()))


def _contains(text: tuple[str, ...], name: tuple[str, ...]) -> bool:
    return any(text[i : i + len(name)] == name for i in range(len(text) - len(name) + 1))


def _phrases(text: tuple[str, ...]) -> set[tuple[str, ...]]:
    return {text[i : i + _PHRASE_LENGTH] for i in range(len(text) - _PHRASE_LENGTH + 1)}
