"""Number heads add nothing before they are trained, and keep shapes."""

import torch

from st2llm.align.output_head import ValueHead


def test_numbers_are_zero_before_training():
    got = ValueHead(8, context=0, horizon=5, channels=2).correction(torch.randn(4, 3, 8))
    assert got.shape == (4, 5, 3, 2)
    assert not got.any()


def test_nothing_is_said_of_steps_that_are_never_asked_for():
    head = ValueHead(8, context=3, horizon=2, channels=1)
    torch.nn.init.normal_(head.out.weight)
    got = head.correction(torch.randn(4, 5, 8))
    assert got.shape == (4, 5, 5, 1)
    assert not got[:, :3].any()
    assert got[:, 3:].all()


def test_numbers_of_a_place_come_from_that_place():
    torch.manual_seed(0)
    head = ValueHead(8, context=0, horizon=5, channels=2)
    torch.nn.init.normal_(head.out.weight)
    z = torch.randn(4, 3, 8)
    other = z.clone()
    other[:, 1, 0] += 1
    moved = (head.correction(z) - head.correction(other)).abs().amax(dim=(0, 1, 3))
    assert moved[1] > 0.01
    assert (moved[0], moved[2]) == (0, 0)


def test_steps_and_channels_of_the_last_layer_are_in_order():
    head = ValueHead(8, context=0, horizon=2, channels=3)
    with torch.no_grad():
        head.out.bias.copy_(torch.arange(6.0))
    assert head.correction(torch.zeros(1, 1, 8))[0, :, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
