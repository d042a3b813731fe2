"""Heads of sequences: untrained they are their rule, what they say is a distribution, and they learn it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from st2llm.align.sequence_head import (
    NOISE_SIZE,
    GapMixture,
    LocationMixture,
    NextEventHead,
    NextPlaceHead,
    TrajectoryForecastHead,
    TrajectoryRecoveryHead,
    build_sequence_head,
    reads_query_alone,
)
from st2llm.encode.point_batch import PointBatch
from st2llm.encode.sequence import SequenceShape

D, POINTS, CODES = 16, 5, 4


def shape(task, **more):
    settings = {"points": POINTS, "features": 3, "codes": CODES, "horizon": 1, "channels": 1, **more}
    return SequenceShape(task=task, **settings)


def batch(count=3, *, codes=None, base=None, target=None, noise=0) -> PointBatch:
    target = torch.zeros((count, 1, 1)) if target is None else target
    return PointBatch(
        numbers=torch.zeros((count, POINTS, 3)),
        codes=torch.zeros((count, POINTS), dtype=torch.long) if codes is None else codes,
        calendar=torch.zeros((count, POINTS + 1, 2), dtype=torch.long),
        position=torch.zeros((count, POINTS + 1, 3)),
        real=torch.ones((count, POINTS), dtype=torch.bool),
        base=torch.zeros((count, POINTS, 1)) if base is None else base,
        target=target,
        valid=torch.ones_like(target, dtype=torch.bool),
        noise=torch.randn((count, noise, NOISE_SIZE), generator=torch.Generator().manual_seed(0)),
        mean_step_m=torch.ones(count),
        query=torch.zeros((count, 0)),
        prompts=("",) * count,
    )


def tokens(count=3):
    return torch.randn((count, POINTS + 1, D), generator=torch.Generator().manual_seed(1))


def test_an_untrained_place_head_is_the_weights_of_its_rule():
    codes = torch.tensor([[1, 2, 2, 3, 2]])
    base = torch.log(torch.tensor([[1.0, 1.0, 1.0, 4.0, 0.5]]))[..., None]
    said = NextPlaceHead(D, shape("next-place"))(tokens(1), batch(1, codes=codes, base=base))
    share = torch.exp(said[0].detach())
    assert float(share.sum()) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(share[:3] / share[:3].sum(), np.array([1, 2.5, 4]) / 7.5, atol=2e-3)
    assert float(share[3]) < 0.002


def test_a_place_head_can_say_a_place_that_was_never_visited():
    torch.manual_seed(0)
    head = NextPlaceHead(D, shape("next-place"))
    data = batch(codes=torch.ones((3, POINTS), dtype=torch.long), target=torch.full((3, 1, 1), 3.0))
    optimiser = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(100):
        loss = head.loss(head(tokens(), data), data).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert head(tokens(), data).argmax(dim=1).tolist() == [3, 3, 3]
    assert float(loss.detach()) < 0.3


def test_padded_points_have_no_weight():
    head = NextPlaceHead(D, shape("next-place"))
    codes = torch.tensor([[0, 0, 1, 2, 2]])
    data = replace(batch(1, codes=codes), real=torch.tensor([[False, False, True, True, True]]))
    share = torch.exp(head(tokens(1), data)[0].detach())
    np.testing.assert_allclose(share[:2] / share[:2].sum(), [1 / 3, 2 / 3], atol=2e-3)


def test_a_mixture_of_gaps_is_a_density():
    mixture = GapMixture(torch.tensor([[0.3, -1.0]]), torch.tensor([[0.0, 1.5]]), torch.tensor([[-0.5, 0.2]]))
    hours = torch.linspace(1e-4, 400, 400_000, dtype=torch.float64)
    density = torch.exp(mixture.log_density(torch.log(hours)[None].float())[0]).double()
    assert float(torch.trapezoid(density, hours)) == pytest.approx(1, abs=0.01)


def test_an_event_head_learns_the_gaps_it_is_shown():
    rng = np.random.default_rng(0)
    gaps = np.log(rng.exponential(2.0, size=(3000, 1, 1)))
    head = NextEventHead(D, shape("next-event", gaps=tuple(np.quantile(gaps, np.linspace(0.01, 0.99, 32)))))
    data = batch(3000, target=torch.from_numpy(gaps).float())
    z = torch.zeros((3000, POINTS + 1, D))
    optimiser = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(200):
        loss = head.loss(head(z, data), data).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    truth = 1 + np.log(2.0)  # the entropy of an exponential distribution with mean 2, in nats
    assert float(loss.detach()) == pytest.approx(truth, abs=0.05)


def test_where_an_event_is_said_is_a_density_over_space():
    torch.manual_seed(0)
    head = NextEventHead(D, shape("next-event", channels=3, gaps=(0.0, 1.0)))
    place = head(tokens(1), batch(1)).location
    side = torch.linspace(-12, 12, 401)
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).reshape(-1, 2)
    with torch.no_grad():
        parts = (
            part.expand(len(grid), *part.shape[1:]) for part in (place.share, place.centre, place.log_width)
        )
        density = torch.exp(LocationMixture(*parts).log_density(grid))
    assert float(density.sum()) * float(side[1] - side[0]) ** 2 == pytest.approx(1, abs=0.02)


def test_an_untrained_path_is_the_base():
    base = torch.randn((3, 4, 2), generator=torch.Generator().manual_seed(0))
    data = batch(base=base, target=torch.zeros((3, 4, 2)), noise=5)
    said = TrajectoryForecastHead(D, shape("forecast", horizon=4, channels=2))(tokens(), data)
    torch.testing.assert_close(said, base[:, None].expand(3, 5, 4, 2))


@pytest.mark.slow
def test_paths_trained_by_the_energy_score_spread_as_the_truth_does():
    """Each walk goes left or right by one; draws must do both, not the middle."""
    torch.manual_seed(0)
    n, horizon = 512, 2
    head = TrajectoryForecastHead(D, shape("forecast", horizon=horizon, channels=2))
    side = torch.where(torch.arange(n) % 2 == 0, 1.0, -1.0)
    target = torch.stack([torch.zeros(n, horizon), side[:, None].expand(n, horizon)], dim=-1)
    data = batch(n, base=torch.zeros((n, horizon, 2)), target=target)
    z = torch.zeros((n, POINTS + 1, D))
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    for step in range(400):
        noisy = data.with_noise(8, NOISE_SIZE, torch.Generator().manual_seed(step))
        loss = head.loss(head(z, noisy), noisy).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        drawn = head(z[:4], data.take(range(4)).with_noise(400, NOISE_SIZE, torch.Generator().manual_seed(0)))
    y = drawn[..., 1].flatten()
    assert float((y > 0).float().mean()) == pytest.approx(0.5, abs=0.1)
    assert float(y.abs().mean()) == pytest.approx(1, abs=0.15)
    assert float((y.abs() < 0.5).float().mean()) < 0.2


def test_steps_without_truth_do_not_count():
    head = TrajectoryForecastHead(D, shape("forecast", horizon=3, channels=2))
    data = batch(2, base=torch.zeros((2, 3, 2)), target=torch.zeros((2, 3, 2)), noise=2)
    valid = data.valid.clone()
    valid[:, 2] = False
    hidden = replace(data, valid=valid)
    far = hidden.target.clone()
    far[:, 2] = 100.0
    said = head(tokens(2), hidden)
    torch.testing.assert_close(head.loss(said, hidden), head.loss(said, replace(hidden, target=far)))


def test_an_untrained_track_head_is_its_base_and_its_loss_counts_hidden_points_alone():
    base = torch.arange(15.0).reshape(1, POINTS, 3)
    target = base + torch.tensor([3.0, 4.0, 0.5])
    data = replace(batch(1, base=base, target=target), mean_step_m=torch.tensor([2.0]))
    head = TrajectoryRecoveryHead(D)
    said = head(tokens(1), data)
    assert torch.equal(said, base)
    hidden = torch.zeros((1, POINTS, 3), dtype=torch.bool)
    # The place of one point, 5 m or 2.5 steps off, and the time of another.
    hidden[0, 1, :2] = hidden[0, 3, 2] = True
    loss = head.loss(said, replace(data, valid=hidden))
    assert float(loss.detach()) == pytest.approx((2.5 + 0.5) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("task", "channels", "alone"),
    [
        ("next-place", 1, False),
        ("next-event", 1, True),
        ("next-event", 3, False),
        ("forecast", 2, True),
        ("classify", 1, True),
        ("track", 3, False),
    ],
)
def test_a_head_reads_the_query_alone_where_other_slots_change_nothing(task, channels, alone):
    torch.manual_seed(0)
    head = build_sequence_head(D, shape(task, channels=channels, gaps=(-1.0, 0.0, 1.0)))
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    data = batch(codes=torch.randint(1, CODES + 1, (3, POINTS)), base=torch.zeros(3, *_BASES[task]))
    said, other_points = head(tokens(), data), tokens()
    other_points[:, :-1] = other_points[:, :-1].flip(-1)
    same = _same(said, head(other_points, data))
    assert (reads_query_alone(head), same) == (alone, alone)
    assert not alone or _same(said, head(tokens()[:, -1:], data))


_BASES = {
    "next-place": (POINTS, 1),
    "next-event": (POINTS, 1),
    "classify": (POINTS, 1),
    "forecast": (1, 2),
    "track": (POINTS, 3),
}


def _same(one, other):
    """Whether two predictions hold the same numbers."""
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and torch.allclose(one, other)
    if one is None:
        return True
    return all(_same(getattr(one, name), getattr(other, name)) for name in vars(one))
