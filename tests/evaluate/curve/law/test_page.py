"""A law is told with its numbers, intervals, range and cost; what does not fit is called so."""

import json
from dataclasses import replace

import numpy as np
import pytest

from st2llm.errors import DataError
from st2llm.evaluate.curve.law.fit import ScalingLaw, fit_scaling_law
from st2llm.evaluate.curve.law.grid import read_grid
from st2llm.evaluate.curve.law.page import law_sentence, write_law
from st2llm.evaluate.run_folder.record import Estimate, Record
from st2llm.evaluate.run_folder.results import RunResults

PLANTED = ScalingLaw(floor=0.3, a=0.1, alpha=0.4, b=0.15, beta=0.5, n0=8e3, d0=260.0)
CARD = {"suite": {"primary_metric": "mae"}}


def runs(tmp_path, *, loss=PLANTED.predict, **changes):
    made = []
    for size in (1e3, 4e3, 1.6e4):
        for amount in (50.0, 150.0, 450.0):
            value = float(loss(np.array([size]), np.array([amount]))[0])
            of_seeds = [
                Record(
                    predictor="none", task="forecast-4-2", family="primitive", n=9, seed=seed, seeds=(0, 1),
                    metrics={"mae": Estimate(value * (1 + 0.002 * (seed or 0)), None, None)},
                    cost={"params_trained": int(size), "flops": 2 * size, "train_s": size / 100},
                    train_windows=int(amount), training={"samples_seen": 3200},
                )
                for seed in (None, 0, 1)
            ]  # fmt: skip
            made.append(RunResults(tmp_path, CARD, tuple(replace(r, **changes) for r in of_seeds)))
    return made


def test_a_law_is_told_with_intervals_range_and_the_cost_of_going_on(tmp_path):
    grid = read_grid(runs(tmp_path), "none")
    fitted = fit_scaling_law(grid.losses)
    sentence = law_sentence(fitted, grid, "none", "mae")
    assert fitted.fits and "follows MAE = 0.3" in sentence and "-0.40 [" in sentence and "-0.50 [" in sentence
    assert "9 points, 2 seeds" in sentence and "nothing is said beyond it" in sentence
    assert (
        "27 min, where the longest here took 3 min" in sentence
    )  # operations grow tenfold, as parameters do
    np.testing.assert_allclose(grid.compute, 3 * 2 * grid.losses.parameters * 3200)


def test_its_numbers_and_the_figure_are_written(tmp_path):
    grid = read_grid(runs(tmp_path), "none")
    write_law(tmp_path, fit_scaling_law(grid.losses), grid, "An answer.")
    content = json.loads((tmp_path / "scaling.json").read_text())
    assert content["answer"] == "An answer." and len(content["points"]) == 9
    assert content["law"]["alpha"] == pytest.approx(0.4, rel=0.05)
    assert (tmp_path / "isoflop.svg").read_text().count("<path") > 10
    assert (tmp_path / "isoflop.png").read_bytes().startswith(b"\x89PNG")


def test_an_error_that_grows_with_the_model_is_said_to_follow_no_law(tmp_path):
    grid = read_grid(runs(tmp_path, loss=lambda n, d: 0.3 + 0.05 * (n / 8e3) ** 0.3 + 0.1 * d**-0.5), "none")
    sentence = law_sentence(fit_scaling_law(grid.losses), grid, "none", "mae")
    assert "follows no law of parameters and data here: " in sentence and "parameters is 0" in sentence


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"predictor": "other"}, "no result of 'none'"),
        ({"train_windows": None}, "trained by gradient descent"),
        ({"cost": {}}, "trained by gradient descent"),
    ],
)
def test_records_that_lack_what_a_law_needs_are_refused(tmp_path, changes, says):
    with pytest.raises(DataError, match=says):
        read_grid(runs(tmp_path, **changes), "none")
