"""Weights of linear layers laid out once for few rows: the library's call lays them out anew at every token."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ROWS = 64
"""Rows that the layout is made for; with many more it is as fast as the library's own call."""
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers that transformers gives the same input, one right after the other: multiplied as one."""

Call = Callable[[Tensor], Tensor]


class Laid:
    """The linear layers of a frozen model with weights in oneDNN's own layout, in fp32 where bf16 is emulated.

    On a CPU that has no bf16 instructions, a bf16 layer multiplies in fp32 (the same weights, exactly) and rounds
    its result: several times faster there, and closer to the truth. Layers of other classes (quantised, adapted)
    and other devices are left alone, as is everything where this build of torch has no such operator.
    """

    def __init__(self, model: nn.Module, *, native_bf16: bool) -> None:
        self._calls: dict[nn.Linear, Call] = {}
        for parent in model.modules():
            for names in (*SIBLINGS, *((name,) for name, _ in parent.named_children())):
                layers = [getattr(parent, name, None) for name in names]
                if all(_fits(layer) and layer not in self._calls for layer in layers):
                    self._add([layer for layer in layers if isinstance(layer, nn.Linear)], native_bf16)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within it the layers multiply by their laid-out weights."""
        for layer, call in self._calls.items():
            layer.forward = call  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            for layer in self._calls:
                del layer.forward

    def _add(self, layers: Sequence[nn.Linear], native_bf16: bool) -> None:
        product = _Product(layers, widen=layers[0].weight.dtype == torch.bfloat16 and not native_bf16)
        for i, layer in enumerate(layers):
            self._calls[layer] = product.part(i)


class _Product:
    """Layers with one input, multiplied at the first one's call; the others take their share of the result."""

    def __init__(self, layers: Sequence[nn.Linear], *, widen: bool) -> None:
        self.dtype = torch.float32 if widen else layers[0].weight.dtype
        weight = torch.cat([layer.weight.detach() for layer in layers]).to(self.dtype)
        self.laid = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        self.bias: Tensor | None = None
        if any(layer.bias is not None for layer in layers):
            none = [weight.new_zeros(layer.out_features) for layer in layers]
            given = [
                empty if layer.bias is None else layer.bias for empty, layer in zip(none, layers, strict=True)
            ]
            self.bias = torch.cat([bias.detach().to(self.dtype) for bias in given])
        self.widths = [layer.out_features for layer in layers]
        self.input: Tensor | None = None
        self.shares: tuple[Tensor, ...] = ()

    def part(self, i: int) -> Call:
        def call(x: Tensor) -> Tensor:
            if x is not self.input:
                self.input, self.shares = x, torch.split(self._all(x), self.widths, dim=-1)
            share = self.shares[i]
            if i == len(self.widths) - 1:
                self.input, self.shares = None, ()
            return share

        return call

    def _all(self, x: Tensor) -> Tensor:
        done: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(self.dtype), self.laid, self.bias, "none", [], ""
        )
        return done.to(x.dtype)


def _fits(layer: object) -> bool:
    possible = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return type(layer) is nn.Linear and layer.weight.device.type == "cpu" and possible
