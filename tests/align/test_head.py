"""The heads speak at the LLM's volume, add nothing before they are trained, and keep shapes."""

import pytest
import torch

from st2llm.align.head import DownHead, NumberHead, UpHead


@pytest.mark.parametrize("token_rms", [0.02, 0.13, 1.0])
@pytest.mark.parametrize("volume", [0.1, 1.0, 10.0])
def test_up_speaks_at_the_volume_of_the_llms_own_tokens(token_rms, volume):
    torch.manual_seed(0)
    tokens = UpHead(8, 32, token_rms=token_rms)(volume * torch.randn(4, 3, 8))
    assert tokens.shape == (4, 3, 32)
    rms = tokens.square().mean(dim=-1).sqrt()
    torch.testing.assert_close(rms, torch.full((4, 3), token_rms), rtol=0.02, atol=0)


def test_up_refuses_another_width():
    with pytest.raises(TypeError, match="batch slot"):
        UpHead(8, 32, token_rms=1.0)(torch.zeros(1, 3, 9))


def test_down_adds_the_words_to_every_slot():
    torch.manual_seed(0)
    down = DownHead(32, 8)
    slots, words = torch.randn(2, 3, 32), torch.randn(2, 32)
    got = down(slots, words)
    assert got.shape == (2, 3, 8)
    moved = got - down(slots, torch.zeros(2, 32))
    torch.testing.assert_close(moved, moved[:, :1].expand(-1, 3, -1))
    assert moved.abs().max() > 0.01


def test_down_hears_states_of_any_scale_alike():
    torch.manual_seed(0)
    down = DownHead(32, 8)
    slots, words = torch.randn(2, 3, 32), torch.randn(2, 32)
    torch.testing.assert_close(down(1000 * slots, 1000 * words), down(slots, words), rtol=1e-3, atol=1e-4)


def test_numbers_are_zero_before_training():
    got = NumberHead(8, context=0, horizon=5, channels=2).correction(torch.randn(4, 3, 8))
    assert got.shape == (4, 5, 3, 2)
    assert not got.any()


def test_nothing_is_said_of_steps_that_are_never_asked_for():
    head = NumberHead(8, context=3, horizon=2, channels=1)
    torch.nn.init.normal_(head.out.weight)
    got = head.correction(torch.randn(4, 5, 8))
    assert got.shape == (4, 5, 5, 1)
    assert not got[:, :3].any()
    assert got[:, 3:].all()


def test_numbers_of_a_place_come_from_that_place():
    torch.manual_seed(0)
    head = NumberHead(8, context=0, horizon=5, channels=2)
    torch.nn.init.normal_(head.out.weight)
    z = torch.randn(4, 3, 8)
    other = z.clone()
    other[:, 1, 0] += 1
    moved = (head.correction(z) - head.correction(other)).abs().amax(dim=(0, 1, 3))
    assert moved[1] > 0.01
    assert (moved[0], moved[2]) == (0, 0)


def test_steps_and_channels_of_the_last_layer_are_in_order():
    head = NumberHead(8, context=0, horizon=2, channels=3)
    with torch.no_grad():
        head.out.bias.copy_(torch.arange(6.0))
    assert head.correction(torch.zeros(1, 1, 8))[0, :, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_heads_overfit_one_batch():
    torch.manual_seed(0)
    parts = torch.nn.ModuleList(
        [UpHead(8, 32, token_rms=0.1), DownHead(32, 8), NumberHead(8, context=0, horizon=2, channels=1)]
    )
    z, want = torch.randn(4, 3, 8), torch.randn(4, 2, 3, 1)
    optimiser = torch.optim.Adam(parts.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        up, down, numbers = parts
        loss = (numbers.correction(down(up(z), torch.zeros(4, 32))) - want).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.01 * losses[0]
