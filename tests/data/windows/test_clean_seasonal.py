"""The shipped series is what its card's formula says."""

import numpy as np

from st2llm import tasks
from st2llm.data import load_data, split


def test_every_value_is_that_of_the_formula():
    data = load_data("clean-seasonal")
    hours = np.arange(len(data.time))
    hour, day = hours % 24, hours // 24
    assert data.places == ("north", "south", "east")
    for node, (level, shift) in enumerate(((120, 6), (60, 9), (200, 3))):
        wave = (
            1 + 0.5 * np.sin(2 * np.pi * (hour - shift) / 24) + 0.2 * np.sin(2 * np.pi * (hour - shift) / 12)
        )
        want = level * (1 + 0.002 * day) * wave
        assert np.abs(data.values[:, node, 0] - want).max() <= 0.05 + 1e-9


def test_its_test_part_has_days_enough_for_an_interval():
    splits = split(load_data("clean-seasonal"), tasks.forecast(24, 12), stride=24)
    assert len(splits.test) >= 20
