"""Linear layers of a frozen model with weights packed for few rows, and fused llama layers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from st2llm.devices import has_onednn_linear, on_cpu
from st2llm.llm.decode.fused_layer import FusedLayer, RotaryEmbedding, can_fuse
from st2llm.llm.decode.packed_linear import PackedLinear

SHARED_INPUT_LAYERS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers that transformers calls with the same input one after the other: multiplied as one."""

Forward = Callable[..., Tensor]


class PackedLayers:
    """The linear layers of a frozen model with weights in oneDNN's layout, in fp32 where bf16 is emulated.

    On a CPU without bf16 instructions, a bf16 layer multiplies in fp32 (the same weights, exactly) and rounds
    its result, which is several times faster and more precise. Layers of a llama run as `FusedLayer`. Other
    classes of layers (quantised, adapted) and other devices are unchanged, and so is everything where this
    build of torch has no such operator.
    """

    def __init__(self, model: nn.Module, *, native_bf16: bool) -> None:
        self._forwards: dict[nn.Module, Forward] = {}
        rotation, inside_fused = RotaryEmbedding(), set()
        for layer in model.modules():
            if can_fuse(layer) and all(
                _can_pack(m) for name, m in layer.named_modules() if name.endswith("_proj")
            ):
                weight = next(m.weight for name, m in layer.named_modules() if name.endswith("_proj"))
                widen = weight.dtype == torch.bfloat16 and not native_bf16
                self._forwards[layer] = FusedLayer(layer, rotation, widen=widen)
                inside_fused |= set(layer.modules())
        for parent in model.modules():
            if parent in inside_fused:
                continue
            for names in (*SHARED_INPUT_LAYERS, *((name,) for name, _ in parent.named_children())):
                layers = [getattr(parent, name, None) for name in names]
                if all(_can_pack(layer) and layer not in self._forwards for layer in layers):
                    self._add_linear([layer for layer in layers if isinstance(layer, nn.Linear)], native_bf16)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """A context in which the layers multiply by their packed weights."""
        for layer, call in self._forwards.items():
            layer.forward = call  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            for layer in self._forwards:
                del layer.forward

    def _add_linear(self, layers: Sequence[nn.Linear], native_bf16: bool) -> None:
        product = _SharedInputLinear(
            layers, widen=layers[0].weight.dtype == torch.bfloat16 and not native_bf16
        )
        for i, layer in enumerate(layers):
            self._forwards[layer] = product.forward_of(i)


class _SharedInputLinear:
    """Linear layers with one input, multiplied at the call of the first; the others return their part of the
    result.
    """

    def __init__(self, layers: Sequence[nn.Linear], *, widen: bool) -> None:
        self._linear = PackedLinear(layers, torch.float32 if widen else layers[0].weight.dtype)
        self.widths = [layer.out_features for layer in layers]
        self.input: Tensor | None = None
        self.outputs: tuple[Tensor, ...] = ()

    def forward_of(self, i: int) -> Forward:
        def call(x: Tensor) -> Tensor:
            if x is not self.input:
                self.input, self.outputs = x, torch.split(self._multiply(x), self.widths, dim=-1)
            share = self.outputs[i]
            if i == len(self.widths) - 1:
                self.input, self.outputs = None, ()
            return share

        return call

    def _multiply(self, x: Tensor) -> Tensor:
        return self._linear(x).to(x.dtype)


def _can_pack(layer: object) -> bool:
    return type(layer) is nn.Linear and on_cpu(layer.weight) and has_onednn_linear()
