"""Counts the answers of a language model by category: readable, or why not."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from st2llm.serialize.answer.unread import unread_kind
from st2llm.types import Answer, Prediction

AnswerCategory = Literal[
    "readable", "unreadable", "out_of_range", "invalid", "repeated", "truncated", "refused"
]  # fmt: skip
CATEGORIES: tuple[AnswerCategory, ...] = get_args(AnswerCategory)
CATEGORY_DESCRIPTIONS: Mapping[AnswerCategory, str] = {
    "readable": "it was read and counts",
    "unreadable": "nothing in it has the form that was asked for",
    "out_of_range": "a number is beyond the limits that were given",
    "invalid": "an id is none of the candidates",
    "repeated": "an id stands in it twice, or it ends in the same words four times over",
    "truncated": "it holds too few of what was asked for, or its tokens were used up",
    "refused": "the endpoint gave none",
}
REPETITIONS = 4
"""An answer is repeated when the same words end it at least this many times in a row."""
_LONGEST_LOOP = 8


def categorise(answer: Answer, prediction: Prediction) -> AnswerCategory:
    """The category of an answer, from its text and from the prediction that was read in it.

    An answer that was read is readable, whatever else it contains. Repeated numbers are no repetition: a street may be
    empty all night.
    """
    if answer.finish == "refused":
        return "refused"
    if prediction.unread_reason is None:
        return "readable"
    kind = unread_kind(prediction.unread_reason)
    if kind not in ("unreadable", "truncated"):
        return kind
    if ends_in_repetition(answer.text):
        return "repeated"
    return "truncated" if answer.finish == "length" else kind


def count_categories(categories: Iterable[AnswerCategory]) -> dict[AnswerCategory, int]:
    """Number of answers of each category, in the order of CATEGORIES, zeros included."""
    counts = Counter(categories)
    return {category: counts[category] for category in CATEGORIES}


def sum_counts(counts: Iterable[Mapping[AnswerCategory, int]]) -> dict[AnswerCategory, int]:
    """The sum of several counts, such as those of several seeds."""
    total: Counter[AnswerCategory] = Counter()
    for part in counts:
        total.update(part)
    return count_categories(total.elements())


def ends_in_repetition(text: str) -> bool:
    """Whether the text ends in the same 1 to 8 words, not numbers alone, REPETITIONS times in a row."""
    words = text.split()
    for size in range(1, min(_LONGEST_LOOP, len(words) // REPETITIONS) + 1):
        last = words[-size:]
        if words[-size * REPETITIONS :] == last * REPETITIONS and any(
            char.isalpha() for char in "".join(last)
        ):
            return True
    return False
