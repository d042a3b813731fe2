"""What prompting all of the data takes: prompts, tokens and money, before any model is asked."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

from st2llm.commands.predict.server import is_server
from st2llm.commands.predict.shards import ShardPredictor, ShardRequest, open_shards
from st2llm.errors import ConfigError
from st2llm.llm.endpoint.protocol import max_tokens
from st2llm.llm.tokenizer import load_tokenizer
from st2llm.processes import map_jobs
from st2llm.types import Prompt, Tokenizer

_MILLION = 1_000_000


@dataclass(frozen=True)
class PromptCosts:
    """Counts of prompts and their tokens.

    longest: tokens of the longest prompt. answers_known: prompts whose true answer is known; answer_tokens: of these.
    answer_limit: tokens that all answers may have at most.
    """

    prompts: int = 0
    tokens: int = 0
    longest: int = 0
    answers_known: int = 0
    answer_tokens: int = 0
    answer_limit: int = 0

    def __add__(self, other: "PromptCosts") -> "PromptCosts":
        return PromptCosts(
            self.prompts + other.prompts,
            self.tokens + other.tokens,
            max(self.longest, other.longest),
            self.answers_known + other.answers_known,
            self.answer_tokens + other.answer_tokens,
            self.answer_limit + other.answer_limit,
        )

    @property
    def expected_answer_tokens(self) -> int:
        """Answers as long as the true ones that are known; at most the limit, where none is."""
        if not self.answers_known:
            return self.answer_limit
        return round(self.answer_tokens / self.answers_known * self.prompts)

    def money(self, price: tuple[float, float]) -> float:
        """The cost at a price for a million tokens of prompts, and of answers."""
        return (self.tokens * price[0] + self.expected_answer_tokens * price[1]) / _MILLION

    def lines(self, price: tuple[float, float] | None) -> list[str]:
        """The counts as text, and the money at a price."""
        known = "as long as true answers" if self.answers_known else "at most"
        mean = self.tokens / max(1, self.prompts)
        lines = [
            f"{self.prompts:,} prompts of {self.tokens:,} tokens, {mean:,.0f} each and {self.longest:,} at most",
            f"{self.expected_answer_tokens:,} tokens of answers ({known})",
        ]
        return (
            lines
            if price is None
            else [*lines, f"cost {self.money(price):,.2f} at {price[0]:g} and {price[1]:g}"]
        )


def parse_price(text: str) -> tuple[float, float]:
    """The price of a million tokens of prompts and of answers, from `IN,OUT`. Raises ConfigError for another form."""
    try:
        prompts, answers = (float(part) for part in text.split(","))
    except ValueError:
        prompts, answers = -1.0, -1.0
    if not (0 <= prompts < math.inf and 0 <= answers < math.inf):
        raise ConfigError(
            f"--price should be two numbers from 0 on, of a million tokens of prompts and of answers (0.15,0.6), but "
            f"it is {text!r}."
        )
    return prompts, answers


def estimate_costs(request: ShardRequest, tokenizer: str, *, workers: int = 1) -> PromptCosts:
    """Renders the prompts of all of the data and counts their tokens, without asking a model.

    tokenizer: the language model whose tokenizer counts. Raises ConfigError for a model that is on no server.
    """
    if not is_server(request.model):
        raise ConfigError(
            f"--dry-run counts prompts for servers (openai:URL#MODEL), but {request.model} predicts on this machine."
        )
    shards = open_shards(request, Path()).shards
    counted = map_jobs(partial(_open_counter, request, tokenizer), range(shards), workers)
    return reduce(PromptCosts.__add__, (costs for _, costs in counted), PromptCosts())


def _open_counter(request: ShardRequest, tokenizer: str) -> Callable[[int], PromptCosts]:
    """In a worker process: the function that counts the prompts of a shard."""
    return partial(_count, open_shards(request, Path()), load_tokenizer(tokenizer))


def _count(opened: ShardPredictor, tokenizer: Tokenizer, shard: int) -> PromptCosts:
    prompts = opened.prompts(shard)
    return reduce(PromptCosts.__add__, (_cost(prompt, tokenizer) for prompt in prompts), PromptCosts())


def _cost(prompt: Prompt, tokenizer: Tokenizer) -> PromptCosts:
    text = "\n".join(message["content"] for message in prompt.messages) or prompt.text
    tokens, answer = len(tokenizer.encode(text)), len(tokenizer.encode(prompt.truth)) if prompt.truth else 0
    return PromptCosts(1, tokens, tokens, int(bool(prompt.truth)), answer, max_tokens(prompt.grammar))
