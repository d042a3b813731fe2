"""Simulated errors: the present interval covers planted gains where the earlier one does not."""

import pytest

from st2llm.evaluate.calibration.simulation import Setting, coverage_settings, simulate


def test_the_present_interval_covers_where_the_earlier_one_does_not():
    """Three seeds that vary and blocks that correlate: what a single bootstrap over blocks leaves out."""
    rates = simulate(Setting(40, 3, 0.6, 0.02), trials=300, draws=100)
    assert rates["coverage"]["value"] > 0.9
    assert rates["earlier"]["coverage"]["value"] < 0.85
    assert rates["helped"]["value"] + rates["hurt"]["value"] == pytest.approx(1 - rates["coverage"]["value"])


def test_one_seed_never_gives_a_verdict():
    rates = simulate(Setting(40, 1, 0.0, 0.02), trials=20, draws=0)
    assert rates["no-verdict"]["value"] == 1.0


def test_a_large_planted_gain_is_found_and_covered():
    rates = simulate(Setting(100, 5, 0.0, 0.002, 0.05), trials=60, draws=0)
    assert rates["helped"]["value"] > 0.9 < rates["coverage"]["value"]


def test_the_grid_holds_every_number_of_blocks_and_seeds_that_reports_use():
    settings = [*coverage_settings()]
    assert {(s.blocks, s.seeds) for s in settings} == {(b, n) for b in (20, 40, 100) for n in (1, 3, 5, 10)}
    assert {s.autocorrelation for s in settings} == {0.0, 0.3, 0.6}
