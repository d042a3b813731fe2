"""Batch planning for decoding: which requests fit into memory together, and which prefix they share."""

from collections.abc import Iterator, Sequence

from st2llm.llm.decode.requests import DecodeRequest

MAX_PASS_TOKENS = 1024
"""Tokens read in one forward pass. More of them exceed a CPU's caches; too few do not amortise loading the
weights.
"""
MIN_SHARED_PREFIX = 8
"""A shorter shared prefix is read with each prompt, since keeping it apart would cost more."""


def plan_batches(
    requests: Sequence[DecodeRequest], draws: int, prefix_length: int, budget: int
) -> Iterator[list[int]]:
    """Yields indices of requests, longest first, whose keys and values fit into `budget` tokens."""
    order = sorted(range(len(requests)), key=lambda i: (-len(requests[i].prompt_ids), i))
    while order:
        max_answer_tokens = max(requests[i].automaton.max_tokens for i in order)
        tokens_per_request = len(requests[order[0]].prompt_ids) - prefix_length + draws * max_answer_tokens
        batch_size = max(1, (budget - prefix_length) // tokens_per_request)
        yield order[:batch_size]
        order = order[batch_size:]


def shared_prefix_length(texts: Sequence[Sequence[int]]) -> int:
    """Number of tokens that all texts begin with, leaving at least one to each; 0 where it is too short to pay."""
    if len(texts) < 2:
        return 0
    ordered = sorted(tuple(text) for text in texts)
    first, last = ordered[0], ordered[-1]
    limit = min(map(len, texts)) - 1
    length = next((i for i in range(limit) if first[i] != last[i]), max(limit, 0))
    return length if length >= MIN_SHARED_PREFIX else 0


def group_texts(texts: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Yields groups of consecutive texts that are read in one pass."""
    group: list[Sequence[int]] = []
    for text in texts:
        if group and sum(map(len, group)) + len(text) > MAX_PASS_TOKENS:
            yield group
            group = []
        group.append(text)
    if group:
        yield group
