"""Noise that is added can be undone, and the samplers reach the distribution that the true score belongs to."""

import itertools

import pytest
import torch

from st2llm.errors import ConfigError
from st2llm.model.objectives.noise_schedule import NoiseSchedule

SCHEDULES = [
    NoiseSchedule(name, says)
    for name in ("linear", "cosine", "quadratic")
    for says in ("epsilon", "velocity")
]
SCHEDULES.append(NoiseSchedule("flow", "velocity"))
NAMES = [f"{s.name}-{s.prediction_type}" for s in SCHEDULES]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=NAMES)
def test_signal_falls_and_noise_rises_from_nothing_to_all(schedule):
    signal, noise = schedule.signal_and_noise(torch.linspace(0, 1, 101))
    assert (signal.diff() < 0).all()
    assert (noise.diff() > 0).all()
    assert (float(signal[0]), float(noise[0])) == pytest.approx((1, 0), abs=1e-3)
    assert float(signal[-1]) < 0.02 or schedule.name == "quadratic"
    if schedule.name != "flow":
        torch.testing.assert_close(signal**2 + noise**2, torch.ones(101), atol=1e-5, rtol=0)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=NAMES)
def test_the_right_answer_undoes_the_noise(schedule):
    torch.manual_seed(0)
    x, noise, t = torch.randn(6, 3, 2), torch.randn(6, 3, 2), torch.linspace(0.05, 0.9, 6)
    noisy = schedule.add_noise(x, noise, t)
    got, rest = schedule.data_and_noise(noisy, schedule.target(x, noise, t), t)
    torch.testing.assert_close(got, x, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rest, noise, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=NAMES)
def test_sampling_with_the_true_score_gives_the_data(schedule):
    """Of normal data with mean 1.5 and deviation 0.5 the best answer at each time is known in closed form."""
    mean, std, n = 1.5, 0.5, 4000
    x = torch.randn(n, generator=torch.Generator().manual_seed(0))
    times = torch.linspace(1, 0, 101)
    for now, until in itertools.pairwise(times):
        t = now.expand(n)
        a, s = schedule.signal_and_noise(t)
        gain = a * std**2 / (a**2 * std**2 + s**2)
        clean = mean + gain * (x - a * mean)
        noise = (x - a * clean) / s
        said = schedule.target(clean, noise, t)
        x = schedule.step(x, said, t, until.expand(n), limit=50.0)
    tolerance = 0.2 if schedule.name == "quadratic" else 0.06  # its noise does not hide all of the data
    assert float(x.mean()) == pytest.approx(mean, abs=tolerance)
    assert float(x.std()) == pytest.approx(std, abs=tolerance)


def test_flow_is_a_straight_line():
    t = torch.tensor([0.25])
    flow = NoiseSchedule("flow", "velocity")
    assert flow.add_noise(torch.tensor([2.0]), torch.tensor([-2.0]), t).tolist() == [1.0]
    assert flow.target(torch.tensor([2.0]), torch.tensor([-2.0]), t).tolist() == [-4.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("sine", "epsilon"), "no noise schedule 'sine'"),
        (("cosine", "noise"), "no prediction type 'noise'"),
        (("flow", "epsilon"), "Set prediction_type: velocity"),
    ],
)
def test_what_is_unknown_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        NoiseSchedule(*settings)
