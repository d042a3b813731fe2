"""The token planner: what prompts cost in a tokenizer before any model runs, and how each is made to fit."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any, Protocol, runtime_checkable

from st2llm.errors import DataError
from st2llm.types import Prompt, Sample, Tokenizer

Variables = Mapping[str, Any]
DropOrder = Callable[[Variables], Iterator[tuple[str, dict[str, Any]]]]


@runtime_checkable
class Renderer(Protocol):
    """What can be planned: any Template."""

    def render(
        self,
        sample: Sample,
        *,
        budget: int | None = None,
        tokenizer: Tokenizer | None = None,
        examples: Sequence[Sample] = (),
    ) -> Prompt: ...


@dataclass(frozen=True)
class PromptCost:
    """What one prompt takes. whole: its tokens with all its parts; fitted: within the budget, None where it cannot be;
    dropped: what goes for that, in order; fault: why it cannot be, or ''."""

    sample: str
    whole: int
    fitted: int | None
    dropped: tuple[str, ...] = ()
    fault: str = ""


@dataclass(frozen=True)
class BudgetPlan:
    """The costs of prompts, sample by sample. budget: None where they were only counted."""

    costs: tuple[PromptCost, ...]
    budget: int | None

    @property
    def tokens(self) -> tuple[int, float, int]:
        """The smallest, the median and the greatest number of tokens of whole prompts."""
        whole = [cost.whole for cost in self.costs]
        return min(whole), float(median(whole)), max(whole)

    @property
    def whole(self) -> int:
        """How many prompts fit with all their parts."""
        return sum(cost.fitted is not None and not cost.dropped for cost in self.costs)

    @property
    def impossible(self) -> tuple[PromptCost, ...]:
        """Those that do not fit even without all that may go."""
        return tuple(cost for cost in self.costs if cost.fitted is None)

    @cached_property
    def dropped(self) -> dict[str, int]:
        """For how many prompts a part of each sort (the first word of what was dropped) goes, the most first."""
        sorts = (dict.fromkeys(part.split()[0] for part in cost.dropped) for cost in self.costs)
        return dict(Counter(sort for one in sorts for sort in one).most_common())

    def __str__(self) -> str:
        low, middle, high = self.tokens
        said = f"{len(self.costs)} prompts of {low} to {high} tokens, median {middle:g}"
        if self.budget is None:
            return said + "."
        said += f"; {self.whole} fit whole into {self.budget}"
        for sort, count in self.dropped.items():
            said += f"; {count} without {'some ' if sort != 'description' else ''}{sort}"
        return said + (f"; {len(self.impossible)} cannot fit." if self.impossible else ".")


def plan_budget(
    template: Renderer,
    samples: Iterable[Sample],
    tokenizer: Tokenizer,
    budget: int | None = None,
    *,
    examples: Callable[[Sample], Sequence[Sample]] | None = None,
) -> BudgetPlan:
    """What each sample costs as a prompt of this template, and what must go for the budget; no model runs.

    samples: narrowed where the template is for one place. examples: the solved samples that each one is shown.
    Raises DataError where there is no sample.
    """
    costs = []
    for sample in samples:
        shown = () if examples is None else examples(sample)
        whole = template.render(sample, tokenizer=tokenizer, examples=shown)
        costs.append(_cost(template, sample, whole, budget, tokenizer, shown))
    if not costs:
        raise DataError("There is no sample to plan prompts for. Give at least one.")
    return BudgetPlan(tuple(costs), budget)


def _cost(
    template: Renderer,
    sample: Sample,
    whole: Prompt,
    budget: int | None,
    tokenizer: Tokenizer,
    shown: Sequence[Sample],
) -> PromptCost:
    tokens = whole.tokens or 0
    if budget is None or tokens <= budget:
        return PromptCost(sample.id, tokens, tokens)
    try:
        prompt = template.render(sample, budget=budget, tokenizer=tokenizer, examples=shown)
    except DataError as error:
        return PromptCost(sample.id, tokens, None, (), str(error))
    return PromptCost(sample.id, tokens, prompt.tokens, prompt.dropped)


def truncation_steps(
    words: Variables, sacrifices: DropOrder
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """What was dropped so far and the words that are left, step by step: the examples first, then as the kind says."""
    dropped: tuple[str, ...] = ()
    left = dict(words)
    yield dropped, left
    for number in range(1, len(left.get("examples", ())) + 1):
        left = {**left, "examples": left["examples"][1:]}
        dropped = (*dropped, f"example {number}")
        yield dropped, left
    for gone, rest in sacrifices(left):
        dropped = (*dropped, gone)
        yield dropped, rest


def fit_to_budget(
    steps: Sequence[tuple[tuple[str, ...], Variables]],
    render: Callable[[tuple[str, ...], Variables], Prompt],
    budget: int,
    *,
    where: str,
) -> Prompt:
    """The prompt that drops so many parts, in order, that it keeps the budget, while with one part more it does not.

    steps: what was dropped and the words that are left, the whole first. They are halved again and again rather than
    tried one by one, since a table of hundreds of places is long to render. Raises DataError where even the last step
    does not fit.
    """
    whole = render(*steps[0])
    if (whole.tokens or 0) <= budget:
        return whole
    least = render(*steps[-1])
    if (least.tokens or 0) > budget:
        raise DataError(
            f"The prompt of {where} takes {least.tokens} tokens even without "
            f"{', '.join(least.dropped) or 'anything that may go'}, but the budget is {budget}. Raise the budget, or "
            f"ask for a shorter history."
        )
    over, within, found = 0, len(steps) - 1, least
    while within - over > 1:
        middle = (over + within) // 2
        prompt = render(*steps[middle])
        if (prompt.tokens or 0) <= budget:
            within, found = middle, prompt
        else:
            over = middle
    return found
