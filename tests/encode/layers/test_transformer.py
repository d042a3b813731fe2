"""The transformer is that of torch: parameters, names, initial values, results and gradients."""

import pytest
import torch
from torch import nn

from st2llm.encode.layers.transformer import Transformer

TOKENS = 7


@pytest.fixture
def ours():
    torch.manual_seed(3)
    return Transformer(16, heads=4, feedforward=32, layers=2)


@pytest.fixture
def torchs():
    torch.manual_seed(3)
    layer = nn.TransformerEncoderLayer(
        16, 4, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def results(module, call, z):
    """The last tokens of a module, and its gradients by parameter."""
    last = call(z)
    names = dict(module.named_parameters())
    gradients = torch.autograd.grad(last.square().sum(), [*names.values(), z])
    return {"last": last.detach(), **dict(zip([*names, "z"], gradients, strict=True))}


def test_the_initial_weights_are_those_of_torch_by_name(ours, torchs):
    expected = torchs.state_dict()
    assert list(ours.state_dict()) == list(expected)
    for name, weight in ours.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=0)


def test_all_tokens_are_those_of_torch(ours, torchs):
    z = torch.randn(5, TOKENS, 16)
    torch.testing.assert_close(ours(z), torchs(z), rtol=1e-4, atol=1e-5)


def test_the_last_token_alone_has_the_values_and_gradients_of_all_tokens(ours, torchs):
    z = torch.randn(5, TOKENS, 16, requires_grad=True)
    alone = results(ours, ours.last_token, z)
    expected = results(torchs, lambda z: torchs(z)[:, -1], z)
    assert alone.keys() == expected.keys()
    for name, value in alone.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)


def test_one_layer_has_a_last_token_too(ours):
    single = Transformer(16, heads=4, feedforward=32, layers=1)
    z = torch.randn(5, TOKENS, 16)
    torch.testing.assert_close(single.last_token(z), single(z)[:, -1], rtol=1e-4, atol=1e-5)
