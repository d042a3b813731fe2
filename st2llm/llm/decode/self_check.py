"""A comparison of the engine's reading with the model's own forward pass, on a few tokens."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from st2llm.errors import ConfigError
from st2llm.llm.architecture.base_model import context_length
from st2llm.llm.architecture.text_lengths import TextLengths
from st2llm.llm.architecture.windows import window_of
from st2llm.llm.decode.attention import AttentionOptions, PrefillPass, forward_packed
from st2llm.llm.decode.decode_pass import DecodePass
from st2llm.llm.decode.lm_head import LMHead

_TOKENS, _PREFIX = 12, 5
_UNLIMITED = 4096
"""The position of a far token in a model without a longest text."""
Reading = Callable[[int], AbstractContextManager[None]]


def check_packed_reading(model: PreTrainedModel, head: LMHead, lengths: TextLengths, reading: Reading) -> int:
    """Compares logits of a text read in parts, beside another text, with those of the model's own forward pass.

    The text is read as a prefix, a rest (packed with a token at the end of the longest text that may be beside it) and
    one decoded token. reading: a context in which the model's layers attend through packed passes, for a class of text
    lengths. Returns the bytes of keys and values of one token. Raises ConfigError where the logits differ, or where the
    layers do not let their attention be replaced.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = [(7 + 13 * i) % vocabulary for i in range(_TOKENS)]
    expected = own_logits(model, ids)
    far = lengths.longest_short(context_length(model.config.get_text_config()) or _UNLIMITED)
    try:
        with reading(1):
            states, kv_bytes = _read_in_parts(model, ids, far)
        check_logits(model, expected, head.full_logits(states))
    except (LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{type(model).__name__} cannot answer here: its layers do not let their attention be replaced "
            f"({type(error).__name__}: {error}). Choose a llama, qwen, gemma, gpt2 or alike, or serve it and ask "
            f"it as openai:<base_url>#<model>."
        ) from error
    return kv_bytes


@torch.inference_mode()
def own_logits(model: PreTrainedModel, ids: Sequence[int]) -> Float[Tensor, "token vocabulary"]:
    """The logits of transformers' forward pass over one text."""
    logits: Tensor = model(input_ids=torch.tensor([list(ids)], device=model.device)).logits[0]
    return logits.float()


def check_logits(
    model: PreTrainedModel,
    expected: Float[Tensor, "token vocabulary"],
    actual: Float[Tensor, "token vocabulary"],
) -> None:
    """Raises ConfigError where logits differ by more than rounding."""
    exact = model.dtype == torch.float32 and not getattr(model, "is_quantized", False)
    off, scale = float((expected - actual).abs().max()), float(expected.max() - expected.min())
    if not off <= (1e-3 if exact else 0.05) * scale:
        raise ConfigError(
            f"{type(model).__name__} cannot answer here: read in parts, its logits are off by {off:.3g} of "
            f"{scale:.3g}. Serve it and ask it as openai:<base_url>#<model>."
        )


@torch.inference_mode()
def _read_in_parts(
    model: PreTrainedModel, ids: Sequence[int], far: int
) -> tuple[Float[Tensor, "token d_lm"], int]:
    """The hidden states of a text read in three parts, and the bytes of keys and values of a token."""
    device = model.device
    begin = _WindowCheck([_PREFIX], model.config.get_text_config())
    first = forward_packed(model, ids[:_PREFIX], begin.positions(device), begin)
    prefix, count = begin.key_values[0], len(ids) - _PREFIX - 1
    if not len(prefix):
        raise ValueError("no layer calls it")
    kv_bytes = prefix.bytes_per_token
    rest = PrefillPass([count, 1], prefix=prefix, keep=True)
    positions = torch.tensor([*range(_PREFIX, len(ids) - 1), far - 1], device=device)
    second = forward_packed(model, [*ids[_PREFIX:-1], ids[0]], positions, rest)
    last = DecodePass(prefix, rest.key_values[:1], draws=1, max_new_tokens=1)
    third = forward_packed(model, ids[-1:], last.begin([0], [1]), last)
    return torch.cat([first, second[:count], third]), kv_bytes


class _WindowCheck(PrefillPass):
    """A pass that refuses layers whose window differs from that of the model's config: few tokens cannot show it."""

    def __init__(self, lengths: Sequence[int], config: PreTrainedConfig) -> None:
        super().__init__(lengths, keep=True)
        self.config = config

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions
    ) -> Tensor:
        wanted, context = window_of(self.config, layer), context_length(self.config)
        if wanted != options.window and min(wanted or 2**40, options.window or 2**40) < (context or 2**40):
            raise ValueError(f"layer {layer} should have a window of {wanted}, not {options.window}")
        return super().attend(layer, query, key, value, options)
