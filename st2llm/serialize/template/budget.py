"""Plans token budgets: counts the tokens of prompts and truncates prompts to a budget, without running a model."""

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
    """Anything that renders prompts, such as a Template."""

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
    """Token counts of one prompt.

    full_tokens: without truncation. fitted_tokens: truncated to the budget; None where that is impossible. dropped: the
    parts that truncation drops, in order. error: why the prompt cannot fit, or ''.
    """

    sample: str
    full_tokens: int
    fitted_tokens: int | None
    dropped: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class BudgetPlan:
    """The costs of prompts, one per sample. budget: None where tokens were only counted."""

    costs: tuple[PromptCost, ...]
    budget: int | None

    @property
    def tokens(self) -> tuple[int, float, int]:
        """Minimum, median and maximum number of tokens of the prompts without truncation."""
        counts = [cost.full_tokens for cost in self.costs]
        return min(counts), float(median(counts)), max(counts)

    @property
    def complete(self) -> int:
        """Number of prompts that fit without truncation."""
        return sum(cost.fitted_tokens is not None and not cost.dropped for cost in self.costs)

    @property
    def impossible(self) -> tuple[PromptCost, ...]:
        """The prompts that do not fit even after the largest possible truncation."""
        return tuple(cost for cost in self.costs if cost.fitted_tokens is None)

    @cached_property
    def dropped(self) -> dict[str, int]:
        """Number of prompts that lose a part of each type (the first word of its name), most frequent first."""
        types = (dict.fromkeys(part.split()[0] for part in cost.dropped) for cost in self.costs)
        return dict(Counter(part_type for each in types for part_type in each).most_common())

    def __str__(self) -> str:
        low, middle, high = self.tokens
        text = f"{len(self.costs)} prompts of {low} to {high} tokens, median {middle:g}"
        if self.budget is None:
            return text + "."
        text += f"; {self.complete} fit whole into {self.budget}"
        for part_type, count in self.dropped.items():
            text += f"; {count} without {'some ' if part_type != 'description' else ''}{part_type}"
        return text + (f"; {len(self.impossible)} cannot fit." if self.impossible else ".")


def plan_budget(
    template: Renderer,
    samples: Iterable[Sample],
    tokenizer: Tokenizer,
    budget: int | None = None,
    *,
    examples: Callable[[Sample], Sequence[Sample]] | None = None,
) -> BudgetPlan:
    """Counts the tokens of each sample's prompt, and finds what truncation to the budget drops.

    samples: narrowed to one place where the template is for one place. examples: returns the solved samples to show
    with a sample. Raises DataError where there is no sample.
    """
    costs = []
    for sample in samples:
        solved = () if examples is None else examples(sample)
        prompt = template.render(sample, tokenizer=tokenizer, examples=solved)
        costs.append(_cost(template, sample, prompt, budget, tokenizer, solved))
    if not costs:
        raise DataError("There are no samples to plan prompts for. Give at least one.")
    return BudgetPlan(tuple(costs), budget)


def _cost(
    template: Renderer,
    sample: Sample,
    prompt: Prompt,
    budget: int | None,
    tokenizer: Tokenizer,
    solved: Sequence[Sample],
) -> PromptCost:
    tokens = prompt.tokens or 0
    if budget is None or tokens <= budget:
        return PromptCost(sample.id, tokens, tokens)
    try:
        truncated = template.render(sample, budget=budget, tokenizer=tokenizer, examples=solved)
    except DataError as error:
        return PromptCost(sample.id, tokens, None, (), str(error))
    return PromptCost(sample.id, tokens, truncated.tokens, truncated.dropped)


def truncation_steps(
    variables: Variables, drop_order: DropOrder
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yields the dropped parts and the remaining variables after each step.

    Examples are dropped first, then documents, the last (oldest) one first, then parts in `drop_order`.
    """
    dropped: tuple[str, ...] = ()
    left = dict(variables)
    yield dropped, left
    for number in range(1, len(left.get("examples", ())) + 1):
        left = {**left, "examples": left["examples"][1:]}
        dropped = (*dropped, f"example {number}")
        yield dropped, left
    for number in range(len(left.get("documents", ())), 0, -1):
        left = {**left, "documents": left["documents"][:-1]}
        dropped = (*dropped, f"document {number}")
        yield dropped, left
    for name, rest in drop_order(left):
        dropped = (*dropped, name)
        yield dropped, rest


def fit_to_budget(
    steps: Sequence[tuple[tuple[str, ...], Variables]],
    render: Callable[[tuple[str, ...], Variables], Prompt],
    budget: int,
    *,
    where: str,
) -> Prompt:
    """Renders the prompt that drops the fewest parts, in order, that fits the budget.

    steps: dropped parts and remaining variables, the complete prompt first. A binary search finds the step, because a
    table of hundreds of places takes long to render. Raises DataError where even the last step does not fit.
    """
    complete = render(*steps[0])
    if (complete.tokens or 0) <= budget:
        return complete
    least = render(*steps[-1])
    if (least.tokens or 0) > budget:
        raise DataError(
            f"The prompt of {where} takes {least.tokens} tokens even without "
            f"{', '.join(least.dropped) or 'anything that may go'}, but the budget is {budget}. Raise the budget, or "
            f"ask for a shorter history."
        )
    over, within, best = 0, len(steps) - 1, least
    while within - over > 1:
        middle = (over + within) // 2
        prompt = render(*steps[middle])
        if (prompt.tokens or 0) <= budget:
            within, best = middle, prompt
        else:
            over = middle
    return best
