"""Laid-out weights multiply as the layers themselves do, and leave them as they were."""

import pytest
import torch
from torch import nn

from st2llm.llm.decode.packed_layers import PackedLayers
from st2llm.llm.decode.packed_linear import PACKED_FOR_ROWS


class Part(nn.Module):
    """Layers as a decoder has them: siblings with one input, one of them with a bias, and a single one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q_proj, self.k_proj = nn.Linear(32, 48, bias=True), nn.Linear(32, 16, bias=False)
        self.v_proj, self.o_proj = nn.Linear(32, 16, bias=True), nn.Linear(48, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.o_proj(self.q_proj(x) * self.k_proj(x).repeat(1, 3) + self.v_proj(x).repeat(1, 3))


@pytest.mark.parametrize("rows", [1, 7, PACKED_FOR_ROWS, 5 * PACKED_FOR_ROWS])
@pytest.mark.parametrize(
    ("dtype", "native", "tolerance"), [("float32", True, 1e-5), ("bfloat16", False, 0.03)]
)
@torch.inference_mode()
def test_the_product_is_that_of_the_layers(rows, dtype, native, tolerance):
    part, x = Part().to(getattr(torch, dtype)), torch.randn(rows, 32).to(getattr(torch, dtype))
    wanted = part(x)
    with PackedLayers(part, native_bf16=native).installed():
        got = part(x)
    assert got.dtype == wanted.dtype
    torch.testing.assert_close(got, wanted, atol=tolerance, rtol=tolerance)


@torch.inference_mode()
def test_emulated_bf16_is_nearer_to_the_weights_own_product():
    part, x = Part().to(torch.bfloat16), torch.randn(64, 32).to(torch.bfloat16)
    exact = part.float()(x.float())
    rounded = part.to(torch.bfloat16)(x).float()
    with PackedLayers(part, native_bf16=False).installed():
        ours = part(x).float()
    assert (ours - exact).abs().mean() <= (rounded - exact).abs().mean() * 1.05


@torch.inference_mode()
def test_a_layer_that_gets_another_input_than_its_sibling_multiplies_that():
    part = Part()
    x, other = torch.randn(3, 32), torch.randn(3, 32)
    wanted = part.k_proj(other)
    with PackedLayers(part, native_bf16=True).installed():
        part.q_proj(x)
        torch.testing.assert_close(part.k_proj(other), wanted, atol=1e-5, rtol=1e-5)


def test_afterwards_the_layers_are_their_own_whatever_happened():
    part = Part()
    with pytest.raises(ZeroDivisionError), PackedLayers(part, native_bf16=True).installed():
        assert "forward" in vars(part.q_proj)
        raise ZeroDivisionError
    assert not any("forward" in vars(layer) for layer in part.children())


def test_layers_of_other_classes_are_left_alone():
    class Special(nn.Linear):
        pass

    part = nn.Sequential(Special(4, 4), nn.Linear(4, 4))
    with PackedLayers(part, native_bf16=True).installed():
        assert ["forward" in vars(layer) for layer in part] == [False, True]
