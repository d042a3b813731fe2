"""A transformer encoder that can stop at the last token of each sequence."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.encode.layers.linear import linear
from st2llm.encode.layers.short_attention import attend, softmax_of_few


class Transformer(nn.Module):
    """`nn.TransformerEncoder` of pre-norm layers with GELU and no dropout: the same parameters, names and results.

    Attention is that of `short_attention`. `last_token` computes no more of the last layer than that token needs.
    """

    def __init__(self, width: int, *, heads: int, feedforward: int, layers: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, heads, feedforward, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        # Copies of one layer, as in nn.TransformerEncoder: all layers start from the same weights.
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(layers))

    def forward(self, z: Float[Tensor, "row token d"]) -> Float[Tensor, "row token d"]:
        for layer in self.layers:
            z = _run_layer(layer, z)
        return z

    def last_token(self, z: Float[Tensor, "row token d"]) -> Float[Tensor, "row d"]:
        """The last token of what `forward` returns."""
        for layer in self.layers[:-1]:
            z = _run_layer(layer, z)
        return _run_layer(self.layers[-1], z, last_only=True)[:, 0]


def _run_layer(
    layer: nn.Module, z: Float[Tensor, "row token d"], *, last_only: bool = False
) -> Float[Tensor, "row query d"]:
    """One layer for all tokens, or for the last one alone."""
    normed = layer.get_submodule("norm1")(z)
    attend = _attend_from_last if last_only else _attend
    attended = attend(layer.get_submodule("self_attn"), normed)
    z = z[:, -attended.shape[1] :] + _linear(layer.get_submodule("self_attn.out_proj"), attended)
    hidden = nn.functional.gelu(_linear(layer.get_submodule("linear1"), layer.get_submodule("norm2")(z)))
    return z + _linear(layer.get_submodule("linear2"), hidden)


def _attend(attention: nn.Module, z: Float[Tensor, "row token d"]) -> Float[Tensor, "row token d"]:
    weight, bias, heads = _projection(attention)
    return attend(linear(z, weight, bias).view(*z.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4))


def _attend_from_last(attention: nn.Module, z: Float[Tensor, "row token d"]) -> Float[Tensor, "row 1 d"]:
    """Attention of the last token, without keys and values of the others.

    The query is mapped into the space of tokens by the key's weights, and values are computed from the weighted mean of
    tokens. A bias of keys adds the same to all scores, so it changes nothing.
    """
    weight, bias, heads = _projection(attention)
    d = z.shape[-1]
    _, of_key, of_value = weight.view(3, heads, -1, d)
    query = linear(z[:, -1], weight[:d], bias[:d]).view(len(z), heads, -1).transpose(0, 1)
    in_tokens = torch.bmm(query, of_key).transpose(0, 1) * query.shape[-1] ** -0.5
    share = softmax_of_few(torch.bmm(in_tokens, z.transpose(1, 2)))
    mean = torch.bmm(share, z).transpose(0, 1)
    value = torch.bmm(mean, of_value.transpose(1, 2)).transpose(0, 1).reshape(len(z), d)
    return (value + bias[2 * d :])[:, None]


def _projection(attention: nn.Module) -> tuple[Tensor, Tensor, int]:
    """The stacked projection to queries, keys and values (weight and bias), and the number of heads."""
    weight, bias = attention.get_parameter("in_proj_weight"), attention.get_parameter("in_proj_bias")
    return weight, bias, int(attention.num_heads)  # type: ignore[arg-type]


def _linear(layer: nn.Module, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
    return linear(x, layer.get_parameter("weight"), layer.get_parameter("bias"))
