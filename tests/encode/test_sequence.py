"""The sequence encoder: padding and the future are not heard, rotary attention sees differences alone."""

from dataclasses import replace

import pytest
import torch

from st2llm.encode.point_batch import PointBatch
from st2llm.encode.sequence import RotaryPositions, SequenceEncoder, SequenceEncoderOptions, SequenceShape
from st2llm.errors import ConfigError

POINTS = 6
SHAPE = SequenceShape(task="next-place", points=POINTS, features=3, codes=5, horizon=1, channels=1)


def batch(count=4, real=POINTS) -> PointBatch:
    make = torch.Generator().manual_seed(0)
    shown = (torch.arange(POINTS) >= POINTS - real).expand(count, -1)
    return PointBatch(
        numbers=torch.randn((count, POINTS, 3), generator=make) * shown[..., None],
        codes=torch.randint(1, 6, (count, POINTS), generator=make) * shown,
        calendar=torch.randint(0, 7, (count, POINTS + 1, 2), generator=make),
        position=torch.randn((count, POINTS + 1, 3), generator=make),
        real=shown.clone(),
        base=torch.zeros((count, POINTS, 1)),
        target=torch.zeros((count, 1, 1)),
        valid=torch.ones((count, 1, 1), dtype=torch.bool),
        noise=torch.zeros((count, 0, 0)),
        mean_step_m=torch.ones(count),
        query=torch.zeros((count, 0)),
        prompts=("",) * count,
    )


def encoder(code_features=None, **settings) -> SequenceEncoder:
    torch.manual_seed(0)
    options = SequenceEncoderOptions(**{"d_st": 16, "layers": 2, **settings})
    return SequenceEncoder(SHAPE, options, code_features=code_features).eval()


@pytest.mark.parametrize("mixer", ["transformer", "mlp"])
def test_a_token_a_point_and_one_for_the_question(mixer):
    assert encoder(mixer=mixer)(batch()).shape == (4, POINTS + 1, 16)


@pytest.mark.parametrize("causal", [False, True])
def test_padding_is_heard_by_nobody(causal):
    made, data = encoder(causal=causal), batch(real=4)
    loud = replace(
        data, position=data.position + 5 * (~torch.cat([data.real, data.real[:, :1] | True], 1))[..., None]
    )
    torch.testing.assert_close(made(data)[:, 2:], made(loud)[:, 2:])


def test_a_causal_point_hears_those_before_it_alone():
    made, data = encoder(causal=True), batch()
    numbers = data.numbers.clone()
    numbers[:, 3] += 1
    moved = (made(replace(data, numbers=numbers)) - made(data)).abs().amax(dim=(0, 2))
    assert not moved[:3].any()
    assert (moved[3:] > 1e-6).all()


def test_without_it_every_point_hears_all():
    made, data = encoder(), batch()
    numbers = data.numbers.clone()
    numbers[:, 3] += 1
    moved = (made(replace(data, numbers=numbers)) - made(data)).abs().amax(dim=(0, 2))
    assert (moved > 1e-6).all()


def test_a_sample_in_a_batch_is_the_sample_alone():
    made, data = encoder(), batch()
    torch.testing.assert_close(made(data)[2:3], made(data.take([2])))


def test_attention_sees_differences_of_place_and_time_alone():
    made, data = encoder(), batch()
    shift = torch.tensor([3.0, -2.0, 1.5])
    torch.testing.assert_close(
        made(data), made(replace(data, position=data.position + shift)), atol=1e-4, rtol=1e-4
    )
    stretched = made(replace(data, position=2 * data.position))
    assert (made(data) - stretched).abs().max() > 1e-3


def test_rotary_turns_keep_lengths_and_follow_the_difference():
    turn = RotaryPositions(12)
    q, k = torch.randn(1, 1, 2, 12), torch.randn(1, 1, 2, 12)
    at = torch.randn(1, 2, 3)
    torch.testing.assert_close(turn(q, at).norm(dim=-1), q.norm(dim=-1))
    one = (turn(q, at) * turn(k, at + 1)).sum(dim=-1)
    other = (turn(q, at + 2) * turn(k, at + 3)).sum(dim=-1)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="no mixer 'mpl'. .*'mlp'"):
        encoder(mixer="mpl")
    with pytest.raises(ConfigError, match="a multiple of 8"):
        encoder(d_st=20)


def test_what_a_code_is_called_is_heard_and_no_code_says_nothing():
    names = torch.randn((5, 7), generator=torch.Generator().manual_seed(1))
    made, data = encoder(code_features=names), batch()
    other = encoder(code_features=names.roll(1, dims=0))
    other.load_state_dict(made.state_dict())
    assert (made(data) - other(data)).abs().max() > 1e-4
    none = replace(data, codes=torch.zeros_like(data.codes))
    torch.testing.assert_close(made(none), other(none))
    assert "known" not in made.state_dict()  # frozen features come from the data, not from a checkpoint


def test_names_of_another_count_of_codes_are_refused():
    with pytest.raises(ConfigError, match="4 places or marks, but the sequences have 5"):
        encoder(code_features=torch.zeros((4, 7)))


@pytest.mark.parametrize(
    "settings", [{}, {"causal": True}, {"layers": 1}, {"mixer": "mlp"}, {"dropout": 0.5}], ids=str
)
def test_the_query_alone_is_the_last_slot_of_all(settings):
    """Values and gradients, also where dropout is drawn for all slots."""
    made, data = encoder(**settings).train(), batch(real=4)
    pull = torch.randn(4, 1, 16)
    gradients = []
    for read in (lambda: made(data)[:, -1:], lambda: made.query(data)):
        torch.manual_seed(3)
        slot = read()
        used = torch.autograd.grad((slot * pull).sum(), list(made.parameters()), allow_unused=True)
        gradients.append([slot, *(g for g in used if g is not None)])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
