"""Soft tokens through the layers of a frozen llama: forward and backward pass with what frozen weights need alone.

Automatic differentiation of transformers' layers keeps a tensor for each of some fifty operations of a layer, repeats
keys and values for grouped heads and adds gradients of shared inputs one by one. Here a layer is one operation. It
keeps its input, queries, keys, values, attention weights and the two inputs of the gate, and computes no gradient of
weights, of norms' scales or of prompts. Attention is in fp32, which halves the error of bf16 gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, silu
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaModel

from st2llm.devices import on_cpu


class FrozenLlama:
    """Reads soft tokens that follow prompts, whose keys and values it is given.

    base: a LlamaModel for which `can_read` holds.
    """

    def __init__(self, base: nn.Module) -> None:
        self.base = base
        self.layers = [_LayerWeights.of(layer) for layer in base.get_submodule("layers").children()]

    @staticmethod
    def can_read(base: nn.Module) -> bool:
        """Whether all layers are those of a llama on the CPU, frozen, without biases, adapters or quantised weights."""
        layers = list(base.get_submodule("layers").children()) if type(base) is LlamaModel else []
        return bool(layers) and all(map(_is_plain, layers))

    def __call__(
        self,
        tokens: Float[Tensor, "row token d_lm"],
        past: Sequence[tuple[Tensor, Tensor]],
        position: Int64[Tensor, "row token"],
        visible: Bool[Tensor, "row token key"],
    ) -> Float[Tensor, "row token d_lm"]:
        """The last hidden states. past: keys and values of the prompt at each layer, [row, head, prompt, width].

        visible: whether a token attends to a token of the prompt or to another soft token.
        """
        cos, sin = self.base.get_submodule("rotary_emb")(tokens, position_ids=position)
        where = _Where(_Rotation.of(cos, sin), ~visible.transpose(1, 2)[:, None, :, None])
        for weights, (key, value) in zip(self.layers, past, strict=True):
            tokens = _FrozenLayer.apply(tokens, weights, key, value, where)  # type: ignore[no-untyped-call]
        states: Tensor = self.base.get_submodule("norm")(tokens)
        return states


def _is_plain(layer: nn.Module) -> bool:
    projections = [module for name, module in layer.named_modules() if name.endswith("_proj")]
    plain = type(layer) is LlamaDecoderLayer and all(
        type(module) is nn.Linear and module.bias is None and on_cpu(module.weight) for module in projections
    )
    activation = type(layer.get_submodule("mlp.act_fn")).__name__ if plain else ""
    return activation in ("SiLU", "SiLUActivation") and not any(p.requires_grad for p in layer.parameters())


@dataclass(frozen=True)
class _LayerWeights:
    """The weights of one layer, and the width of a head."""

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor
    norms: tuple[Tensor, Tensor]
    eps: float
    width: int

    @classmethod
    def of(cls, layer: nn.Module) -> "_LayerWeights":
        attention, mlp = layer.get_submodule("self_attn"), layer.get_submodule("mlp")
        norms = [layer.get_submodule(f"{name}_layernorm") for name in ("input", "post_attention")]
        query, key, value, output = (attention.get_parameter(f"{name}_proj.weight") for name in "qkvo")
        gate, up, down = (mlp.get_parameter(f"{name}_proj.weight") for name in ("gate", "up", "down"))
        return cls(
            *(query, key, value, output, gate, up, down),
            norms=(norms[0].get_parameter("weight"), norms[1].get_parameter("weight")),
            eps=float(norms[0].variance_epsilon),  # type: ignore[arg-type]
            width=int(attention.head_dim),  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class _Rotation:
    """Rotary positions (Su et al. 2021; halves as in llama) in fp32, [row, token, 1, width].

    sin: negative in the first half.
    """

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, cos: Tensor, sin: Tensor) -> "_Rotation":
        signed = sin.float().clone()
        signed[..., : sin.shape[-1] // 2].neg_()
        return cls(cos.float()[:, :, None], signed[:, :, None])

    def forward(self, x: Float[Tensor, "row token head d"]) -> Float[Tensor, "row token head d"]:
        return torch.addcmul(x * self.cos, x.roll(x.shape[-1] // 2, -1), self.sin)

    def backward(self, grad: Float[Tensor, "row token head d"]) -> Float[Tensor, "row token head d"]:
        return (grad * self.cos).add_((grad * self.sin).roll(grad.shape[-1] // 2, -1))


@dataclass(frozen=True)
class _Where:
    """What all layers of a pass share: positions, and which keys are hidden, [row, 1, key, 1, token]."""

    rotation: _Rotation
    hidden: Tensor


class _FrozenLayer(torch.autograd.Function):
    """A llama layer. Scores lie as [row and head, key, query], so that the softmax is not over the last axis."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weights: _LayerWeights, key: Tensor, value: Tensor, where: _Where
    ) -> Tensor:
        normed, scale = _rms_norm(x, weights.norms[0], weights.eps)
        parts = _queries_keys_values(normed, weights, key, value, where.rotation)
        attended, share = _attend(*parts, where.hidden)
        middle = x + linear(attended.to(x.dtype), weights.output)
        normed, middle_scale = _rms_norm(middle, weights.norms[1], weights.eps)
        gate, up = linear(normed, weights.gate), linear(normed, weights.up)
        ctx.save_for_backward(x, scale, *parts, share, middle, middle_scale, gate, up)
        ctx.weights, ctx.rotation = weights, where.rotation
        return middle + linear(silu(gate) * up, weights.down)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, scale, query, key, value, share, middle, middle_scale, gate, up = ctx.saved_tensors
        weights: _LayerWeights = ctx.weights
        of_gated = grad @ weights.down
        of_gate = torch.ops.aten.silu_backward(of_gated * up, gate)
        of_normed = _products([of_gate, of_gated.mul_(silu(gate))], [weights.gate, weights.up])
        of_middle = grad + _rms_norm_gradient(of_normed, middle, middle_scale, weights.norms[1])
        of_attended = (of_middle @ weights.output).float()
        heads = _attention_gradients(of_attended, (query, key, value, share), ctx.rotation)
        of_normed = _products(
            [part.to(x.dtype) for part in heads], [weights.query, weights.key, weights.value]
        )
        return of_middle + _rms_norm_gradient(of_normed, x, scale, weights.norms[0]), None, None, None, None


def _products(
    left: Sequence[Float[Tensor, "row token _"]], right: Sequence[Float[Tensor, "_ d_lm"]]
) -> Float[Tensor, "row token d_lm"]:
    """The sum of the products of each pair; each is added by the product itself."""
    rows = [part.flatten(0, 1) for part in left]
    total = rows[0] @ right[0]
    for part, weight in zip(rows[1:], right[1:], strict=True):
        total = torch.addmm(total, part, weight)
    return total.view(*left[0].shape[:2], -1)


def _rms_norm(
    x: Float[Tensor, "row token d"], weight: Float[Tensor, " d"], eps: float
) -> tuple[Float[Tensor, "row token d"], Float[Tensor, "row token 1"]]:
    """Root mean square norm (Zhang and Sennrich 2019), and the factor in fp32 that it multiplies each token by."""
    wide = x.float()
    squared = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
    scale = squared.div_(x.shape[-1]).add_(eps).rsqrt_()
    return (wide * scale).to(x.dtype) * weight, scale


def _rms_norm_gradient(grad: Tensor, x: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
    normed, of_normed = x.float() * scale, (grad * weight).float()
    mean = (of_normed * normed).mean(dim=-1, keepdim=True)
    return torch.addcmul(of_normed, normed, mean, value=-1).mul_(scale).to(x.dtype)


def _queries_keys_values(
    normed: Tensor, weights: _LayerWeights, past_key: Tensor, past_value: Tensor, rotation: _Rotation
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [row and head, group and token, width] in fp32; keys and values of prompt and tokens, [row and head, key,
    width]. A head of keys is shared by a group of queries.
    """
    rows, tokens, _ = normed.shape
    projected = [linear(normed, weight) for weight in (weights.query, weights.key, weights.value)]
    query, key, value = (part.float().view(rows, tokens, -1, weights.width) for part in projected)
    query = rotation.forward(query).view(rows, tokens, key.shape[2], -1, weights.width).permute(0, 2, 3, 1, 4)
    own = (rotation.forward(key).transpose(1, 2), value.transpose(1, 2))
    key, value = (
        torch.cat([past.float(), new], dim=2).flatten(0, 1)
        for past, new in zip((past_key, past_value), own, strict=True)
    )
    return query.reshape(len(key), -1, weights.width), key, value


def _attend(
    query: Tensor, key: Tensor, value: Tensor, hidden: Bool[Tensor, "row 1 key 1 token"]
) -> tuple[Float[Tensor, "row token d"], Float[Tensor, "row_and_head key query"]]:
    rows, tokens = hidden.shape[0], hidden.shape[-1]
    scores = torch.bmm(key, (query * query.shape[-1] ** -0.5).transpose(1, 2))
    grouped = scores.view(rows, -1, key.shape[1], query.shape[1] // tokens, tokens)
    share = torch.softmax(grouped.masked_fill_(hidden, -torch.inf).view(scores.shape), dim=1)
    attended = torch.bmm(share.transpose(1, 2), value).view(rows, -1, tokens, query.shape[-1])
    return attended.transpose(1, 2).reshape(rows, tokens, -1), share


def _attention_gradients(
    grad: Float[Tensor, "row token d"], kept: tuple[Tensor, Tensor, Tensor, Tensor], rotation: _Rotation
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the projections to queries, keys and values, [row, token, head and width], in fp32."""
    query, key, value, share = kept
    (rows, tokens, _), width = grad.shape, query.shape[-1]
    grad = grad.view(rows, tokens, -1, width).transpose(1, 2).reshape(query.shape)
    own = key.shape[1] - tokens
    of_share = torch.bmm(value, grad.transpose(1, 2))
    of_scores = torch.ops.aten._softmax_backward_data(of_share, share, 1, share.dtype).mul_(width**-0.5)
    of_query = torch.bmm(of_scores.transpose(1, 2), key).view(rows, -1, tokens, width)
    of_key, of_value = torch.bmm(of_scores[:, own:], query), torch.bmm(share[:, own:], grad)
    by_token = [part.view(rows, -1, tokens, width).transpose(1, 2) for part in (of_query, of_key, of_value)]
    turned = (rotation.backward(by_token[0]), rotation.backward(by_token[1]), by_token[2])
    return turned[0].flatten(2), turned[1].flatten(2), turned[2].flatten(2)
