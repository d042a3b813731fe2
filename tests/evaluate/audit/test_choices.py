"""Effects of choices of protocol on hand-made errors, each known beforehand."""

import numpy as np
import pytest

from st2llm.evaluate.audit.alignment import Aligned
from st2llm.evaluate.audit.choices import measured_choices


def _aligned(error: np.ndarray, truth: np.ndarray) -> Aligned:
    """Windows of two steps at one place."""
    value = np.nan_to_num(truth) + error
    return Aligned(np.arange(len(truth)), value[..., None], truth[..., None], None, 0)


@pytest.fixture(scope="module")
def choices():
    """Forty windows: errors of 1, and of 5 in the last eight; the second step is 3 worse; a zero and a gap."""
    error = np.ones((40, 2))
    error[32:] = 5.0
    error[:, 1] += 3.0
    truth = np.full((40, 2), 10.0)
    truth[0, 0], truth[1, 0] = 0.0, np.nan
    return {choice.key: choice for choice in measured_choices(_aligned(error, truth))}


def test_dropping_the_last_batch_leaves_out_its_windows(choices):
    kept = (30 * 1 + 1 + 32 * 4) / 63
    assert choices["drop-last"].detail == "batches of 32: 8 of 40 windows left out"
    assert choices["drop-last"].scores["mae"] == pytest.approx(kept)


def test_padding_repeats_the_last_window(choices):
    everything = 31 * 1 + 32 * 4 + 8 * 5 + 8 * 8
    assert choices["padding"].scores["mae"] == pytest.approx((everything + 24 * 13) / (79 + 48))
    assert choices["padding"].reference["mae"] == pytest.approx(everything / 79)


def test_means_of_batches_weigh_batches_equally(choices):
    assert choices["batch-means"].scores["mae"] == pytest.approx(((31 + 128) / 63 + 6.5) / 2)


def test_means_of_steps_differ_in_rmse(choices):
    steps = [np.sqrt((31 + 8 * 25) / 39), np.sqrt((32 * 16 + 8 * 64) / 40)]
    assert choices["step-means"].scores["rmse"] == pytest.approx(np.mean(steps))
    assert choices["step-means"].effect("rmse") < 0


def test_the_last_step_alone_is_the_harder_one(choices):
    assert choices["last-step"].scores["mae"] == pytest.approx((32 * 4 + 8 * 8) / 40)


def test_a_gap_counts_as_zero_only_where_the_choice_says_so(choices):
    gap = choices["missing-as-zero"]
    assert gap.detail == "1 of 80 true values are missing"
    assert gap.scores["mae"] == pytest.approx((gap.reference["mae"] * 79 + 1.0) / 80)


def test_masking_zeros_leaves_them_out(choices):
    zeros = choices["zeros-masked"]
    assert zeros.detail == "1 of 79 true values are zero"
    assert zeros.scores["mae"] == pytest.approx((zeros.reference["mae"] * 79 - 1.0) / 78)
