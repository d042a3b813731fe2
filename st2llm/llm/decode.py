"""Greedy answers under a grammar: prompts read a few rows at a time, then one token a step for all."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from st2llm.errors import ConfigError
from st2llm.llm.cache import RoomyCache
from st2llm.llm.grammar import FORBIDDEN, START, STOPPED, Grammar
from st2llm.llm.tokenizer import FastTokenizer
from st2llm.types import Answer

PREFILL_ROWS = 4
"""Prompts read in one forward pass: more at once was slower on a CPU, whose caches they leave."""
TOKEN_BUDGET = 32_768
"""Keys and values held at once, in tokens of prompt and answer."""


@dataclass(frozen=True)
class Head:
    """The language model's head on the allowed tokens alone, in fp32."""

    weight: Float[Tensor, "_ d_lm"]
    bias: Float[Tensor, " _"] | None

    def logprobs(self, hidden: Float[Tensor, "batch d_lm"], allowed: Tensor) -> Float[Tensor, "batch _"]:
        """Log-probabilities among the columns that are allowed; -inf elsewhere."""
        logits = F.linear(hidden.float(), self.weight, self.bias)
        return logits.masked_fill(~allowed, -torch.inf).log_softmax(-1)


def head_of(model: PreTrainedModel, grammar: Grammar) -> Head:
    """The rows of the model's head that a grammar can choose from."""
    full: nn.Linear = model.get_output_embeddings()
    rows = torch.from_numpy(grammar.ids).to(full.weight.device)
    bias = None if getattr(full, "bias", None) is None else full.bias[rows].float()
    return Head(full.weight[rows].float(), bias)


@torch.inference_mode()
def answer(
    model: PreTrainedModel, tokenizer: FastTokenizer, prompts: Sequence[Sequence[int]], grammar: Grammar
) -> list[Answer]:
    """The most probable next token until each answer is whole; answers in the order of the prompts.

    `logprob` sums over the tokens chosen, each among the allowed ones. `seconds` is the batch's time shared
    evenly. Raises ConfigError for a prompt that is empty or, with its answer, longer than the model's context.
    """
    _check_lengths(model, prompts, grammar.longest)
    head = head_of(model, grammar)
    found: dict[int, Answer] = {}
    for rows in batches([len(prompt) for prompt in prompts], grammar.longest):
        found.update(
            zip(rows, _batch(model, tokenizer, [prompts[i] for i in rows], grammar, head), strict=True)
        )
    return [found[i] for i in range(len(prompts))]


def batches(lengths: Sequence[int], room: int, budget: int = TOKEN_BUDGET) -> Iterator[list[int]]:
    """Indices of prompts, longest first; padded prompts and answers of a batch stay within the budget."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        fit = max(1, budget // (lengths[order[0]] + room))
        yield order[:fit]
        order = order[fit:]


def _batch(
    model: PreTrainedModel,
    tokenizer: FastTokenizer,
    prompts: Sequence[Sequence[int]],
    grammar: Grammar,
    head: Head,
) -> list[Answer]:
    began = time.perf_counter()
    hidden, cache = prefill(model, prompts, room=grammar.longest)
    rows = _Rows([len(prompt) for prompt in prompts], grammar.longest, hidden.device)
    _decode(model, hidden, cache, rows, grammar, head)
    seconds = (time.perf_counter() - began) / len(prompts)
    return [
        Answer(
            text=grammar.text(tokenizer, columns),
            tokens_in=len(prompt),
            tokens_out=len(columns),
            seconds=seconds,
            logprob=total,
        )
        for prompt, columns, total in zip(prompts, rows.chosen, rows.logprob, strict=True)
    ]


def prefill(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], *, room: int
) -> tuple[Float[Tensor, "batch d_lm"], RoomyCache]:
    """Reads prompts a few rows at a time: the last hidden state of each, and the keys and values of all.

    Rows are padded on the right, where a causal model does not see it, so that no mask is needed.
    """
    cache = RoomyCache(len(prompts), max(map(len, prompts)), room)
    hidden = []
    for first in range(0, len(prompts), PREFILL_ROWS):
        part = [torch.tensor(prompt, device=model.device) for prompt in prompts[first : first + PREFILL_ROWS]]
        ids = nn.utils.rnn.pad_sequence(part, batch_first=True)
        filled = DynamicCache()
        states = model.base_model(input_ids=ids, past_key_values=filled, use_cache=True).last_hidden_state
        lengths = [len(row) for row in part]
        hidden.append(states[torch.arange(len(part)), torch.tensor(lengths) - 1])
        cache.fill(range(first, first + len(part)), lengths, filled)
    return torch.cat(hidden), cache


class _Rows:
    """The answers of a batch as they grow."""

    def __init__(self, lengths: Sequence[int], room: int, device: torch.device) -> None:
        longest = max(lengths)
        self.chosen: list[list[int]] = [[] for _ in lengths]
        self.logprob = [0.0] * len(lengths)
        self.index = list(range(len(lengths)))
        self.state = torch.full((len(lengths),), START, device=device)
        self.position = torch.tensor(lengths, device=device)
        self.mask = (torch.arange(longest + room, device=device) >= longest - self.position[:, None]).long()

    def add(self, columns: Tensor, logprobs: Tensor, state: Tensor) -> None:
        """Takes one token a row; a stop counts in the probability, but is no part of the answer."""
        news = zip(
            self.index, columns.tolist(), logprobs.tolist(), self.state.tolist(), state.tolist(), strict=True
        )
        for row, column, logprob, before, now in news:
            if before >= START:
                self.logprob[row] += logprob
                self.chosen[row] += [] if now == STOPPED else [column]
        self.state = state

    def alive(self) -> Tensor:
        """Positions of the rows whose answer is not whole."""
        return torch.nonzero(self.state >= START).flatten()

    def keep(self, rows: Tensor) -> None:
        self.index = [self.index[i] for i in rows.tolist()]
        self.state, self.position, self.mask = self.state[rows], self.position[rows], self.mask[rows]


def _decode(
    model: PreTrainedModel, hidden: Tensor, cache: RoomyCache, rows: _Rows, grammar: Grammar, head: Head
) -> None:
    """Grows the answers until all are whole; rows leave when half of the batch is."""
    table = torch.from_numpy(grammar.step).to(model.device)
    ids = torch.from_numpy(grammar.ids).to(model.device)
    for taken in range(1, grammar.longest + 1):
        step = table[rows.state]
        best, column = head.logprobs(hidden, step != FORBIDDEN).max(-1)
        rows.add(column, best, step.gather(1, column[:, None])[:, 0])
        alive = rows.alive()
        if not len(alive) or taken == grammar.longest:
            return
        if 2 * len(alive) <= len(rows.index):
            rows.keep(alive)
            cache.keep(alive)
            column = column[alive]
        hidden = _forward(model, ids[column], cache, rows, taken)


def _forward(model: PreTrainedModel, ids: Tensor, cache: RoomyCache, rows: _Rows, taken: int) -> Tensor:
    """Reads the token of each row that was chosen as its `taken`-th, and gives the hidden state after it."""
    out = model.base_model(
        input_ids=ids[:, None],
        attention_mask=rows.mask[:, : cache.longest + taken],
        position_ids=(rows.position + taken - 1)[:, None],
        past_key_values=cache,
        use_cache=True,
    )
    hidden: Tensor = out.last_hidden_state[:, -1]
    return hidden


def _check_lengths(model: PreTrainedModel, prompts: Sequence[Sequence[int]], room: int) -> None:
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for i, prompt in enumerate(prompts):
        if not len(prompt):
            raise ConfigError(
                f"Prompt {i} is empty, but a language model needs at least one token. Give it words."
            )
        if context is not None and len(prompt) + room > context:
            raise ConfigError(
                f"Prompt {i} has {len(prompt)} tokens and its answer up to {room}, but the model's context "
                f"holds {context}. Shorten the history or lower the budget."
            )
