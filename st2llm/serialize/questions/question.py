"""A question with its exact answer, and how an answer is marked."""

import re
from dataclasses import dataclass
from typing import Literal

from st2llm.errors import DataError

_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(?:\.\d+)?", re.ASCII)


@dataclass(frozen=True)
class QuestionAnswer:
    """A question whose answer was computed from visible values alone.

    topic: which sort of question it is: busiest-at, mean-last-day, ... answer: exact, as it should be said. unit and
    decimals: of a number. options: of a choice; the answer is one of them, and no two are equally right. provenance:
    how the answer was computed. places: nodes that it speaks of, empty for all.
    """

    topic: str
    words: str
    answer: str
    sort: Literal["number", "choice"]
    provenance: str
    unit: str = ""
    decimals: int = 0
    options: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    within: float = 0.0
    """Of a number that prompts tell rounded: the share of it by which an answer may be off."""

    def __post_init__(self) -> None:
        if self.sort == "choice" and (self.answer not in self.options or len(set(self.options)) < 2):
            raise DataError(
                f"A choice needs at least two different options with the answer among them, but {self.topic} has "
                f"{self.options} and the answer {self.answer!r}."
            )

    @property
    def in_full(self) -> str:
        """The words with the options behind them, for prompts that do not list them otherwise."""
        return f"{self.words} Answer with one of: {', '.join(self.options)}." if self.options else self.words

    def right(self, text: str) -> bool | None:
        """Whether an answer names the option, or a number within one unit of the last decimal (or `within`).

        None for an answer in which neither can be read.
        """
        return is_correct(text, self)


def number_question(
    topic: str,
    words: str,
    value: float,
    *,
    decimals: int,
    unit: str = "",
    provenance: str,
    places: tuple[int, ...] = (),
    within: float = 0.0,
) -> QuestionAnswer:
    """A question that a number answers; the words say in which unit and to how many decimals."""
    said = f"{value:.{decimals}f}"
    if float(said) == 0:
        said = said.removeprefix("-")
    digits = (
        "a whole number"
        if decimals == 0
        else f"a number with {decimals} decimal{'s' if decimals > 1 else ''}"
    )
    asked = f"{words} Answer with {digits}{f' in {unit}' if unit else ''}."
    return QuestionAnswer(topic, asked, said, "number", provenance, unit, decimals, (), places, within)


def choice_question(
    topic: str,
    words: str,
    answer: str,
    options: tuple[str, ...],
    *,
    provenance: str,
    places: tuple[int, ...] = (),
) -> QuestionAnswer:
    """A question that one of several words answers."""
    return QuestionAnswer(topic, words, answer, "choice", provenance, options=options, places=places)


def is_correct(text: str, question: QuestionAnswer) -> bool | None:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if question.sort == "choice":
        said = line.strip(" .\"'*").casefold()
        found = [option for option in question.options if option.casefold() == said]
        if not found:
            found = [
                o for o in question.options if re.search(rf"(?<![\w-]){re.escape(o)}(?![\w-])", line, re.I)
            ]
            # `top left` holds `top` and `left`: the longest option that covers the others is meant.
            found = [
                o
                for o in found
                if not any(o != other and o.casefold() in other.casefold() for other in found)
            ]
        return None if len(found) != 1 else found[0] == question.answer
    said_number = _NUMBER.search(line)
    if said_number is None:
        return None
    got = float(said_number.group().replace(",", "").replace("−", "-"))
    true, unit = float(question.answer), 10.0**-question.decimals if question.decimals else 0.0
    return abs(got - true) <= 1.0001 * max(unit, question.within * abs(true)) + 1e-9
