"""A question with its exact answer, and whether another answer is correct."""

import re
from dataclasses import dataclass
from typing import Literal

from st2llm.errors import DataError

_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(?:\.\d+)?", re.ASCII)


@dataclass(frozen=True)
class QuestionAnswer:
    """A question whose answer was computed from visible values alone.

    topic: busiest-at, mean-last-day, ... answer: the exact answer as text. unit, decimals: of a number. options: of a
    choice; exactly one of them is the answer. provenance: how the answer was computed. places: indices of the nodes
    that the question is about; empty for all. tolerance: share of the true number by which an answer may be off, for
    values that prompts show rounded. Raises DataError for a choice without two different options or without its answer.
    """

    topic: str
    text: str
    answer: str
    answer_type: Literal["number", "choice"]
    provenance: str
    unit: str = ""
    decimals: int = 0
    options: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if self.answer_type == "choice" and (self.answer not in self.options or len(set(self.options)) < 2):
            raise DataError(
                f"A choice needs at least two different options with the answer among them, but {self.topic} has "
                f"{self.options} and the answer {self.answer!r}."
            )

    @property
    def text_with_options(self) -> str:
        """The text followed by the options, for prompts that do not list them otherwise."""
        return f"{self.text} Answer with one of: {', '.join(self.options)}." if self.options else self.text

    def is_correct(self, text: str) -> bool | None:
        """Whether an answer names the option, or a number within one unit of the last decimal (or `tolerance`).

        None for an answer that holds neither.
        """
        return is_correct(text, self)


def number_question(
    topic: str,
    text: str,
    value: float,
    *,
    decimals: int,
    unit: str = "",
    provenance: str,
    places: tuple[int, ...] = (),
    tolerance: float = 0.0,
) -> QuestionAnswer:
    """A question whose answer is a number; its text states the unit and the number of decimals."""
    answer = f"{value:.{decimals}f}"
    if float(answer) == 0:
        answer = answer.removeprefix("-")
    digits = (
        "a whole number"
        if decimals == 0
        else f"a number with {decimals} decimal{'s' if decimals > 1 else ''}"
    )
    full_text = f"{text} Answer with {digits}{f' in {unit}' if unit else ''}."
    return QuestionAnswer(
        topic, full_text, answer, "number", provenance, unit, decimals, (), places, tolerance
    )


def choice_question(
    topic: str,
    text: str,
    answer: str,
    options: tuple[str, ...],
    *,
    provenance: str,
    places: tuple[int, ...] = (),
) -> QuestionAnswer:
    """A question whose answer is one of several options."""
    return QuestionAnswer(topic, text, answer, "choice", provenance, options=options, places=places)


def is_correct(text: str, question: QuestionAnswer) -> bool | None:
    """Whether the first line of an answer is correct; None where no option and no number can be read in it."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if question.answer_type == "choice":
        named = _named_options(line, question.options)
        return None if len(named) != 1 else named[0] == question.answer
    literal = _NUMBER.search(line)
    if literal is None:
        return None
    value = float(literal.group().replace(",", "").replace("−", "-"))
    truth, unit = float(question.answer), 10.0**-question.decimals if question.decimals else 0.0
    return abs(value - truth) <= 1.0001 * max(unit, question.tolerance * abs(truth)) + 1e-9 * abs(truth)


def _named_options(line: str, options: tuple[str, ...]) -> list[str]:
    """The options that a line names. `top left` names neither `top` nor `left`."""
    folded = line.strip(" .\"'*").casefold()
    equal = [option for option in options if option.casefold() == folded]
    if equal:
        return equal
    named = [o for o in options if re.search(rf"(?<![\w-]){re.escape(o)}(?![\w-])", line, re.I)]
    return [o for o in named if not any(o != other and o.casefold() in other.casefold() for other in named)]
