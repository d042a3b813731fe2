"""Texts of models whose rotary frequencies depend on the length of the text, so that each is read as if alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Forward = Callable[..., tuple[Tensor, ...] | Tensor]


class TextLengths:
    """Which texts may be read in one pass.

    transformers chooses the rotary frequencies of a pass by its largest position: `longrope` (Phi-3) has one set up to
    the original context and one beyond it, `dynamic` another for each length beyond it. Texts of different frequencies
    must not share a pass, and a part of a text (a prefix, a single new token) must be read with the frequencies of the
    whole text.
    """

    def __init__(self, model: nn.Module) -> None:
        self._rotary = [module for module in model.modules() if _types(module) & {"longrope", "dynamic"}]
        self._limits = sorted({limit for module in self._rotary for limit in _limits(module)})
        self._is_dynamic = any("dynamic" in _types(module) for module in self._rotary)

    @property
    def matter(self) -> bool:
        """Whether this model reads texts of different lengths with different frequencies."""
        return bool(self._rotary)

    def class_of(self, length: int) -> int:
        """The length that stands for all texts read with the same frequencies as a text of `length` tokens."""
        passed = [limit for limit in self._limits if length > limit]
        if not passed:
            return 1
        return length if self._is_dynamic else passed[-1] + 1

    def groups(self, lengths: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """The indices of the texts of each class, with the class."""
        members: dict[int, list[int]] = {}
        for i, length in enumerate(lengths):
            members.setdefault(self.class_of(length), []).append(i)
        yield from sorted(members.items())

    def longest_short(self, context: int) -> int:
        """The longest text within the context that may share a pass with a short one."""
        return min([context, *self._limits])

    @contextmanager
    def reading(self, length_class: int) -> Iterator[None]:
        """A context in which all positions get the frequencies of this class."""
        for module in self._rotary:
            module.forward = _fixed(module.forward, length_class)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for module in self._rotary:
                del module.forward


def _fixed(forward: Forward, length_class: int) -> Forward:
    """The rotary embedding of a text of this length: its last position is added to each call."""

    def call(x: Tensor, position_ids: Tensor, *more: str, **named: str) -> tuple[Tensor, ...] | Tensor:
        first = torch.zeros_like(position_ids[..., :1])
        forward(x, first, *more, **named)  # `dynamic` keeps the frequencies of the longest text so far
        with_last = torch.cat([position_ids, first + length_class - 1], dim=-1)
        output = forward(x, with_last, *more, **named)
        if isinstance(output, Tensor):
            return output[..., :-1, :]
        return tuple(part[..., :-1, :] for part in output)

    return call


def _types(module: nn.Module) -> set[str]:
    """The types of a rotary embedding's frequencies, by layer type where these differ; empty for other modules."""
    kind = getattr(module, "rope_type", None)
    return set(kind.values()) if isinstance(kind, dict) else {kind} if isinstance(kind, str) else set()


def _limits(module: nn.Module) -> Iterator[int]:
    """The lengths beyond which a rotary embedding changes its frequencies."""
    rope: Mapping[str, Any] = module.config.rope_parameters  # type: ignore[union-attr,assignment]
    for parameters in rope.values() if isinstance(module.rope_type, dict) else [rope]:
        if parameters["rope_type"] == "longrope":
            yield int(parameters["original_max_position_embeddings"])
        elif parameters["rope_type"] == "dynamic":
            yield int(module.original_max_seq_len)  # type: ignore[arg-type]
