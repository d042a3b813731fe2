"""Influence values are the derivative of the pooled statistic, by formula and by leaving a cell out."""

import numpy as np
import pytest

from st2llm.evaluate.scoring.gains.influence import BlockTotals, gain_influence, metric_influence, pooled


def totals(errors, counts):
    """Totals of absolute errors by seed and block."""
    return BlockTotals({"abs_error": np.asarray(errors, float)}, {"abs_error": np.asarray(counts, float)})


RNG = np.random.default_rng(0)
COUNTS = RNG.integers(1, 9, (3, 20)).astype(float)
LLM, REFERENCE = (totals(COUNTS * RNG.gamma(4, s, (3, 20)), COUNTS) for s in (0.9, 1.0))


def test_the_influence_on_a_ratio_is_its_linearised_residual():
    mean = pooled("mae", LLM)
    residual = (LLM.sums["abs_error"] - mean * COUNTS) / COUNTS.mean()
    assert metric_influence("mae", LLM) == pytest.approx(residual, rel=1e-5)
    assert metric_influence("mae", LLM).mean() == pytest.approx(0.0, abs=1e-9)


def test_the_influence_on_the_gain_is_what_leaving_a_block_out_changes():
    influence = gain_influence("mae", LLM, REFERENCE)
    whole = 1 - pooled("mae", LLM) / pooled("mae", REFERENCE)

    def without(seed, block):
        kept = np.ones((3, 20))
        kept[seed, block] = 0
        ours, theirs = (totals(arm.sums["abs_error"] * kept, COUNTS * kept) for arm in (LLM, REFERENCE))
        return 1 - pooled("mae", ours) / pooled("mae", theirs)

    for seed, block in ((0, 0), (1, 7), (2, 19)):
        assert -influence[seed, block] / 60 == pytest.approx(without(seed, block) - whole, abs=2e-4)


def test_merged_blocks_add_up():
    merged = LLM.merged(8)
    assert merged.shape == (3, 3)
    assert merged.sums["abs_error"][1, 2] == pytest.approx(LLM.sums["abs_error"][1, 16:].sum())
    assert pooled("mae", merged) == pytest.approx(pooled("mae", LLM))
