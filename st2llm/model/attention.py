"""The attention kernel of a language model while soft tokens are trained through it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from st2llm.devices import is_cpu
from st2llm.llm.local import LanguageModel

LARGEST_SCORES = 2**22
"""Attention scores of one layer above which they are not kept for the backward pass (fp32, 16 MiB)."""


def keeps_scores(llm: LanguageModel, scores_per_head: int) -> bool:
    """Whether a pass may keep all attention scores of a layer. scores_per_head: batch x queries x keys."""
    heads = int(getattr(llm.model.config.get_text_config(), "num_attention_heads", 1))
    return (
        is_cpu(llm.device)
        and scores_per_head * heads <= LARGEST_SCORES
        and not torch.is_autocast_enabled("cpu")
    )


@contextmanager
def attention_for_training(llm: LanguageModel, scores_per_head: int) -> Iterator[None]:
    """A context in which the model's layers compute attention by matrix products, where that is faster.

    scores_per_head: batch x queries x keys. On the CPU, the backward pass of PyTorch's fused attention is slow for few
    tokens: in bf16, 11 tokens on 25 took 8 times as long as matrix products (benchmarks/seeds.py). Matrix products
    keep all scores, so layers with more than LARGEST_SCORES use the fused kernel, as do other devices.
    """
    config = llm.model.config.get_text_config()
    scores = scores_per_head * int(getattr(config, "num_attention_heads", 1))
    previous = config._attn_implementation
    if not is_cpu(llm.device) or previous != "sdpa" or scores > LARGEST_SCORES:
        yield
        return
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = previous
