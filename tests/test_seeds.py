"""A test draws the same numbers whichever tests ran before it."""

import pytest
import torch


@pytest.mark.parametrize("turn", ["first", "after another test"])
def test_torch_starts_from_the_same_seed_in_every_test(turn):
    expected = torch.rand(3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.rand(3), expected)
