"""A llama decoder layer in a third of the kernel calls: rotary embedding, activation and residuals are fused with
products.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from st2llm.llm.decode.attention import AttentionOptions, attend
from st2llm.llm.decode.packed_linear import PackedLinear

FUSABLE_LAYERS = (LlamaDecoderLayer, Qwen2DecoderLayer)
"""Layer classes of the same structure: RMS norm, rotary positions, gated SiLU."""


class RotaryEmbedding:
    """Rotary position embedding with signed sines cached for all layers of a pass (Su et al. 2021; halves as in
    llama).
    """

    def __init__(self) -> None:
        self._cached_sin: Tensor | None = None
        self._signed_sin = torch.empty(0)

    def rotate(
        self,
        x: Float[Tensor, "token head d"],
        cos: Float[Tensor, "1 token d"],
        sin: Float[Tensor, "1 token d"],
    ) -> Float[Tensor, "token head d"]:
        if self._cached_sin is not sin:
            half = sin.shape[-1] // 2
            self._cached_sin, self._signed_sin = (
                sin,
                torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)[:, None],
            )
        return torch.addcmul(x * cos[0, :, None], x.roll(x.shape[-1] // 2, -1), self._signed_sin)


class FusedLayer:
    """The forward pass of one layer over packed tokens; attention is that of the current forward pass.

    widen: multiply in fp32 although the weights are bf16, for processors that emulate bf16.
    """

    def __init__(self, layer: nn.Module, rotation: RotaryEmbedding, *, widen: bool) -> None:
        attention, mlp = layer.get_submodule("self_attn"), layer.get_submodule("mlp")
        self._norms = [layer.get_submodule(f"{name}_layernorm") for name in ("input", "post_attention")]
        self._layer, self._head_d = int(attention.layer_idx), int(attention.head_dim)  # type: ignore[arg-type]
        window = getattr(attention, "sliding_window", None)
        self._options = AttentionOptions(float(attention.scaling), None, window)  # type: ignore[arg-type]
        self._rotation = rotation
        q, k, v, o = (attention.get_submodule(f"{name}_proj") for name in "qkvo")
        gate, up, down = (mlp.get_submodule(f"{name}_proj") for name in ("gate", "up", "down"))
        dtype = torch.float32 if widen else q.weight.dtype  # type: ignore[assignment]
        self._widths: list[int] = [int(layer.out_features) // self._head_d for layer in (q, k, v)]  # type: ignore[arg-type]
        self._qkv = PackedLinear([q, k, v], dtype)  # type: ignore[list-item, arg-type]
        self._o, self._gate, self._up, self._down = (
            PackedLinear([linear], dtype)  # type: ignore[list-item, arg-type]
            for linear in (o, gate, up, down)
        )

    def __call__(
        self,
        hidden_states: Float[Tensor, "1 token d_lm"],
        *,
        position_embeddings: tuple[Tensor, Tensor],
        **_: object,
    ) -> Float[Tensor, "1 token d_lm"]:
        x, dtype = hidden_states, hidden_states.dtype
        heads = self._qkv(self._normed(x, 0)).to(dtype)[0].view(x.shape[1], -1, self._head_d)
        query_key, value = torch.split(heads, [self._widths[0] + self._widths[1], self._widths[2]], dim=1)
        query, key = torch.split(
            self._rotation.rotate(query_key, *position_embeddings), self._widths[:2], dim=1
        )
        attended = attend(
            self._layer, query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1), self._options
        )
        x = self._o.with_binary(attended.reshape(1, len(attended), -1), x, "add").to(dtype)
        normed = self._normed(x, 1)
        gated = self._up.with_binary(normed, self._gate(normed, "swish"), "mul")
        return self._down.with_binary(gated, x, "add").to(dtype)

    def _normed(self, x: Tensor, index: int) -> Tensor:
        norm = self._norms[index]
        normed: Tensor = torch.rms_norm(x, x.shape[-1:], norm.weight, float(norm.variance_epsilon))  # type: ignore[arg-type]
        return normed


def can_fuse(layer: nn.Module) -> bool:
    """Whether the layer is of a fusable class, not quantised and without adapters."""
    if type(layer) not in FUSABLE_LAYERS:
        return False
    linear = [m for name, m in layer.named_modules() if name.endswith("_proj")]
    activation = layer.get_submodule("mlp").get_submodule("act_fn")
    return all(type(m) is nn.Linear for m in linear) and type(activation).__name__ in (
        "SiLU",
        "SiLUActivation",
    )
