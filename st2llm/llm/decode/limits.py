"""Requests that a model cannot take: empty prompts, and texts longer than its context."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from st2llm.errors import ConfigError
from st2llm.llm.architecture.base_model import context_length
from st2llm.llm.decode.requests import DecodeRequest


def check_requests(model: PreTrainedModel, requests: Sequence[DecodeRequest]) -> None:
    """Raises ConfigError for a request that is empty or, with its answer, longer than the model's context."""
    for i, request in enumerate(requests):
        if not request.prompt_ids:
            raise ConfigError(
                f"Prompt {i} is empty, but a language model needs at least one token. Give a text."
            )
    if requests:
        max_new_tokens = max(request.automaton.max_tokens for request in requests)
        check_lengths(model, [len(request.prompt_ids) for request in requests], max_new_tokens)


def check_lengths(model: PreTrainedModel, lengths: Sequence[int], max_new_tokens: int) -> None:
    """Raises ConfigError for a text that, with its answer, is longer than the model's context."""
    context = context_length(model.config.get_text_config())
    for i, length in enumerate(lengths):
        if context is not None and length + max_new_tokens > context:
            raise ConfigError(
                f"Prompt {i} has {length} tokens and its answer up to {max_new_tokens}, but the model's context "
                f"holds {context}. Shorten the history or lower the budget."
            )
