"""A linear layer by oneDNN is the linear layer of torch, its gradients included."""

import pytest
import torch
from torch import nn

from st2llm.encode.layers.linear import ONEDNN_LINEAR, Linear, linear

ROWS = 1024
"""Rows of a layer of 128 x 128 that is multiplied by oneDNN."""


@pytest.mark.parametrize(
    "shape,out",
    [((100, 8, 64), 192), ((800, 192), 64), ((64, 576), 576)],
    ids=["wider", "narrower", "square"],
)
def test_values_and_gradients_are_those_of_torch(shape, out):
    ours, torchs = Linear(shape[-1], out), nn.Linear(shape[-1], out)
    torchs.load_state_dict(ours.state_dict())
    x, weights = torch.randn(shape, requires_grad=True), torch.randn(*shape[:-1], out)
    results = []
    for layer in (ours, torchs):
        y = layer(x)
        parameters = [x, *layer.parameters()]
        results.append((y.detach(), *torch.autograd.grad((y * weights).sum(), parameters)))
    history = ours(x).grad_fn
    names = type(history).__name__ + type(history.next_functions[0][0]).__name__
    assert ("OneDNN" in names) == (ONEDNN_LINEAR is not None)
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-3)


def test_a_layer_without_bias_and_an_input_without_gradient_get_none():
    weight = torch.randn(128, 128, requires_grad=True)
    x = torch.randn(ROWS, 128)
    linear(x, weight, None).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(dim=0).expand(128, -1), rtol=1e-4, atol=1e-3)


def test_autocast_multiplies_in_bf16_as_it_does_in_torch():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Linear(128, 128)(torch.randn(ROWS, 128)).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_kept(dtype):
    assert Linear(128, 128).to(dtype)(torch.randn(ROWS, 128, dtype=dtype)).dtype == dtype
