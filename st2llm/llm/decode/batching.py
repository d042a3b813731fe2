"""What is read and answered together: within the memory that was set, and what is common once."""

from collections.abc import Iterator, Sequence

from transformers import PreTrainedModel

from st2llm.llm.decode.requests import Question

PASS_TOKENS = 1024
"""Tokens read in one forward pass: many more leave a CPU's caches, and few do not pay for the weights' way there."""
LEAST_SHARED = 8
"""A beginning shorter than this is read with each prompt: keeping it apart would cost more."""


def batches(questions: Sequence[Question], draws: int, shared: int, budget: int) -> Iterator[list[int]]:
    """Indices of questions, longest first, whose keys and values fit into `budget` tokens."""
    order = sorted(range(len(questions)), key=lambda i: (-len(questions[i].ids), i))
    while order:
        room = max(questions[i].automaton.longest for i in order)
        each = len(questions[order[0]].ids) - shared + draws * room
        fit = max(1, (budget - shared) // each)
        yield order[:fit]
        order = order[fit:]


def shared(texts: Sequence[Sequence[int]]) -> int:
    """Tokens that all texts begin with, leaving one at least to each; 0 where it is not worth it."""
    if len(texts) < 2:
        return 0
    ordered = sorted(tuple(text) for text in texts)
    first, last = ordered[0], ordered[-1]
    most = min(map(len, texts)) - 1
    same = next((i for i in range(most) if first[i] != last[i]), max(most, 0))
    return same if same >= LEAST_SHARED else 0


def chunks(texts: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Consecutive texts that are read in one pass."""
    chunk: list[Sequence[int]] = []
    for text in texts:
        if chunk and sum(map(len, chunk)) + len(text) > PASS_TOKENS:
            yield chunk
            chunk = []
        chunk.append(text)
    if chunk:
        yield chunk


def bytes_per_token(model: PreTrainedModel) -> int:
    """Of keys and values at all layers."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = model.get_input_embeddings().weight.element_size()
    return int(2 * config.num_hidden_layers * heads * width * size)
