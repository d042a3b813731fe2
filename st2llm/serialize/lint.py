"""Looks for leaks in prompts: whatever a model is told about the values that it is asked for."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
import yaml
from jaxtyping import Float64

from st2llm.errors import DataError, St2llmError
from st2llm.serialize.template import Template
from st2llm.types import Prompt, Sample

_NUMBER = re.compile(r"(?<![\w.])-?[0-9]+(?:\.[0-9]+)?(?![\w])", re.ASCII)
_RUN = 3
"""So many target values in a row are no chance."""
_PHRASE = 6
"""So many words in a row of another data set's description are no chance."""


def lint(template: Template, sample: Sample, datasets: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with the prompts that a template makes of a sample; empty where nothing is.

    - The prompt must be the same to the byte whatever the future holds, and where it is not known.
    - Target values and their mean, smallest, largest and sum stand neither in the template's own words
      (numbers of two digits or more) nor in description and notes (three or more), nor anywhere three in a row.
    - The template does not speak of another data set. datasets: names and descriptions, default: our cards'.
    - Every variable that is declared is used, and the prompt can be rendered.
    - What a perfect model would answer can be read back within the stated precision.

    A template for one place is looked at for each place that the sample asks for.
    """
    known = _cards() if datasets is None else datasets
    if template.head.per == "place" and len(sample.asked) > 1:
        parts = [sample.at(sample.place[node]) for node in sample.asked]
    else:
        parts = [sample]
    found = [*_template_findings(template, sample, known)]
    for part in parts:
        try:
            found += [*_future_findings(template, part), *_literal_findings(template, part)]
            found += [*_reading_findings(template, part)]
        except St2llmError as error:
            found.append(f"The prompt cannot be rendered: {error}")
    return list(dict.fromkeys(found))


def _template_findings(template: Template, sample: Sample, datasets: Mapping[str, str]) -> Iterator[str]:
    idle = set(template.head.variables) - template.body.variables
    for name in sorted(idle):
        yield f"The variable {name!r} is declared but not used. Take it out of the head."
    own, said = _words(sample.side.dataset), _words(template.body.literals)
    for name, description in datasets.items():
        if _words(name) == own or not _words(name):
            continue
        if _holds(said, _words(name)):
            yield f"The template names the data set {name!r}, but the sample is of {sample.side.dataset!r}."
        phrases = _phrases(_words(description)) - _phrases(_words(sample.side.description))
        if phrases & _phrases(said):
            yield f"The template holds words of the description of the data set {name!r}."


def _future_findings(template: Template, sample: Sample) -> Iterator[str]:
    if (sample.visible & sample.wanted).any():
        yield f"{sample.id} shows entries that it asks for: `visible` and `wanted` overlap."
    if np.isfinite(sample.values[~sample.visible]).any():
        yield f"{sample.id} holds values where `visible` is False; they should be NaN."
    now = _content(template.render(sample))
    for future in _futures(sample):
        if _content(template.render(future)) != now:
            yield "The prompt changes with the future: hidden values reach its text."
            return


def _futures(sample: Sample) -> Iterator[Sample]:
    """The same question with other answers: unknown, of the same size, and beyond all that was seen."""
    yield sample.without_truth()
    scale = float(np.nanmax(np.abs(sample.values), initial=1.0)) if np.isfinite(sample.values).any() else 1.0
    for top in (scale, 1000 * scale):
        other = np.random.default_rng(0).uniform(0.0, top, sample.values.shape)
        yield replace(
            sample,
            values=np.where(sample.visible, sample.values, other),
            truth=np.where(sample.wanted, other, np.nan),
        )


def _literal_findings(template: Template, sample: Sample) -> Iterator[str]:
    if sample.truth is None or not np.isfinite(sample.truth).any():
        return
    targets = list(_targets(template, sample, sample.truth))
    side = sample.side
    places = [("The template", template.body.literals, 2), ("The description", side.description, 3)]
    places += [("The note", note, 3) for note in side.notes]
    places += [("The label of a place", label, 0) for label in side.labels]
    places += [(name, text, 0) for name, text in (("The quantity", side.quantity), ("The unit", side.unit))]
    for where, text, size in places:
        yield from _told(where, text, size, targets)


@dataclass(frozen=True)
class _Target:
    """One asked series in one notation, oldest first, and statistics over it."""

    values: Float64[np.ndarray, " horizon"]

    def named(self) -> Iterator[tuple[str, float]]:
        for name, statistic in (("mean", np.mean), ("min", np.min), ("max", np.max), ("sum", np.sum)):
            yield f"the {name} of the target", float(statistic(self.values))
        for value in self.values:
            yield "a target value", float(value)


def _targets(template: Template, sample: Sample, truth: np.ndarray) -> Iterator[_Target]:
    """Each asked series in raw units, and as the prompt's own numbers where those are others."""
    for node in sample.asked:
        for channel in range(sample.values.shape[2]):
            series = truth[:, node, channel]
            series = series[np.isfinite(series)]
            if series.size:
                yield _Target(series)
    if template.head.answer is not None:
        numbers = template.words.numbers(sample)
        words = [float(word) for word in _NUMBER.findall(template.words.truth(sample))]
        if words and (numbers.step != 1 or numbers.shift):
            yield _Target(np.array(words))


def _told(where: str, text: str, size: int, targets: Iterable[_Target]) -> Iterator[str]:
    """Findings in one text. size: digits that a number must have to count; 0 looks for runs alone."""
    literals = _NUMBER.findall(text)
    for target in targets:
        if _run(literals, target):
            yield f"{where} holds {_RUN} or more target values in a row."
        for literal in literals:
            if not size or len(literal.strip("-").replace(".", "")) < size:
                continue
            name = next((name for name, value in target.named() if _same(literal, value)), None)
            if name is not None:
                yield f"{where} holds the number {literal}, which is {name}. Use a variable or take it out."


def _run(literals: list[str], target: _Target) -> bool:
    """Whether the literals hold `_RUN` target values in a row that are not all the same."""
    for start in range(len(target.values) - _RUN + 1):
        wanted = target.values[start : start + _RUN].tolist()
        if len(set(wanted)) == 1:
            continue
        for at in range(len(literals) - _RUN + 1):
            if all(_same(a, b) for a, b in zip(literals[at : at + _RUN], wanted, strict=True)):
                return True
    return False


def _same(literal: str, value: float) -> bool:
    """Whether the literal is the value, rounded to as many decimals as the literal has."""
    decimals = len(literal.partition(".")[2])
    return abs(float(literal) - value) <= 0.5 * 10.0**-decimals * (1 + 1e-9)


def _reading_findings(template: Template, sample: Sample) -> Iterator[str]:
    if template.head.answer is None:
        return
    numbers = template.words.numbers(sample)
    low, high = numbers.limits
    spread = np.random.default_rng(1).uniform(low, high, sample.values.shape)
    truth = np.where(sample.wanted, spread, np.nan)
    answer = template.render(replace(sample, truth=truth)).truth
    read = template.read(answer, sample)
    if read.value is None:
        yield f"A perfect answer cannot be read: {read.unread_reason}. Change `answer` in the head."
    elif np.nanmax(np.abs(read.value - truth)) > numbers.precision * (1 + 1e-6):
        yield f"A perfect answer is not read back within {numbers.precision}. Change `answer` in the head."


def _content(prompt: Prompt) -> tuple[object, ...]:
    return prompt.parts, prompt.messages, prompt.grammar


def _cards() -> dict[str, str]:
    """Names and descriptions of the data sets that ship with the package."""
    found = {}
    for file in (resources.files("st2llm") / "data" / "cards").iterdir():
        if file.name.endswith(".yaml"):
            card = yaml.safe_load(file.read_text(encoding="utf-8"))
            if not isinstance(card, dict) or "name" not in card:
                raise DataError(f"The data card {file.name} holds no name. Mend the card.")
            found[str(card["name"])] = str(card.get("description", ""))
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _holds(text: list[str], name: list[str]) -> bool:
    return any(text[i : i + len(name)] == name for i in range(len(text) - len(name) + 1))


def _phrases(text: list[str]) -> set[tuple[str, ...]]:
    return {tuple(text[i : i + _PHRASE]) for i in range(len(text) - _PHRASE + 1)}
