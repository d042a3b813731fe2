"""Planted gains on simulated errors: coverage of the interval and rates of verdicts, beside the earlier interval."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float64

from st2llm.evaluate.calibration.percentile_bootstrap import percentile_interval
from st2llm.evaluate.calibration.rates import Rates, share
from st2llm.evaluate.scoring.gains.choice import expected_optimism
from st2llm.evaluate.scoring.gains.gain import paired_gain, with_interval
from st2llm.evaluate.scoring.gains.influence import BlockTotals

BLOCKS, SEEDS = (20, 40, 100), (1, 3, 5, 10)
AUTOCORRELATIONS, SEED_SDS = (0.0, 0.3, 0.6), (0.0, 0.01, 0.02)
PLANTED = (0.005, 0.01, 0.02, 0.05)
MARGIN = 0.02
_BLOCK_SD, _INTERACTION_SD = 0.042, 0.01
"""Standard deviations of the gain from block to block, and of what is left of a seed in a block."""
_RESAMPLES = 200


@dataclass(frozen=True)
class Setting:
    """How errors are simulated. seed_sd: standard deviation of the gain from one training run to another.

    candidates: LLM arms and references of equal error, from which validation chooses one each.
    """

    blocks: int
    seeds: int
    autocorrelation: float = 0.0
    seed_sd: float = 0.01
    gain: float = 0.0
    candidates: tuple[int, int] = (1, 1)


def coverage_settings() -> Iterator[Setting]:
    """Every number of blocks, seeds, autocorrelation and seed effect, without a true gain."""
    for blocks, seeds, autocorrelation, seed_sd in product(BLOCKS, SEEDS, AUTOCORRELATIONS, SEED_SDS):
        yield Setting(blocks, seeds, autocorrelation, seed_sd)


def choice_settings() -> Iterator[Setting]:
    """Arms and references of equal error, chosen on validation."""
    for seeds, candidates in product(SEEDS[1:], ((2, 3), (3, 6))):
        yield Setting(100, seeds, 0.0, 0.01, candidates=candidates)


def power_settings() -> Iterator[Setting]:
    """True gains of several sizes, and both ends of the margin of equivalence."""
    for seeds, gain in product(SEEDS[1:], PLANTED):
        yield Setting(100, seeds, 0.3, 0.01, gain)
    for seeds, gain in product(SEEDS[1:], (MARGIN, -MARGIN)):
        yield Setting(200, seeds, 0.0, 0.002, gain)


def simulate(setting: Setting, *, trials: int, draws: int, seed: int = 0) -> dict[str, Any]:
    """The rates of one setting under both intervals. draws: of the earlier bootstrap; 0 leaves it out."""
    rng = np.random.default_rng([seed, *_key(setting)])
    rates, covered, false = Rates(setting.gain), 0, 0
    for _ in range(trials):
        llm, reference, optimism = _draw(setting, rng)
        gain = paired_gain("mae", llm, reference, block="day", n_seeds=setting.seeds)
        if gain is None:
            continue
        rates.add(
            replace(
                with_interval(gain, optimism_llm=optimism[0], optimism_reference=optimism[1]), margin=MARGIN
            )
        )
        if draws:
            low, high = percentile_interval(llm, reference, "abs_error", draws=draws, rng=rng)
            covered += low <= setting.gain <= high
            false += low > 0 or high < 0
    earlier = {"coverage": share(covered, trials), "excludes_zero": share(false, trials)} if draws else None
    return {"setting": setting.__dict__, **rates.to_json(), "earlier": earlier}


def simulate_all(
    *, trials: int, draws: int, progress: Callable[[int, int], None] = lambda done, of: None
) -> dict[str, list[dict[str, Any]]]:
    """All settings, by name of the experiment. progress: called with the settings done and their number."""
    experiments = {
        "coverage": [*coverage_settings()],
        "choice": [*choice_settings()],
        "power": [*power_settings()],
    }
    total, done = sum(map(len, experiments.values())), 0
    results: dict[str, list[dict[str, Any]]] = {}
    for name, settings in experiments.items():
        results[name] = []
        for setting in settings:
            results[name].append(simulate(setting, trials=trials, draws=draws if name == "coverage" else 0))
            done += 1
            progress(done, total)
    return results


def _key(setting: Setting) -> tuple[int, ...]:
    floats = (setting.autocorrelation, setting.seed_sd, setting.gain + 1)
    return (setting.blocks, setting.seeds, *(round(1e6 * x) for x in floats), *setting.candidates)


def _draw(setting: Setting, rng: np.random.Generator) -> tuple[BlockTotals, BlockTotals, tuple[float, float]]:
    """Errors of the chosen LLM arm and reference, and the optimism of each choice.

    Blocks differ in difficulty, which both arms share. Each arm has effects of its own of blocks (correlated in time),
    of training runs and of both; those of the difference of two arms have the standard deviations of the setting.
    """
    count = sum(setting.candidates)
    shape = (count, setting.seeds, setting.blocks)
    runs = rng.standard_normal((count, setting.seeds)) * setting.seed_sd / np.sqrt(2)
    effects = (
        _series(count, setting, rng)[:, None] * _BLOCK_SD / np.sqrt(2)
        + runs[:, :, None]
        + rng.standard_normal(shape) * _INTERACTION_SD / np.sqrt(2)
    )
    hard = rng.gamma(4.0, 0.25, setting.blocks)
    relative = 1 + effects
    relative[: setting.candidates[0]] -= setting.gain
    # Validation windows are the same for all arms and as many as test blocks.
    noise = _BLOCK_SD / np.sqrt(2 * setting.blocks)
    validation = -(runs + noise * rng.standard_normal((count, 1)))
    first = setting.candidates[0]
    chosen = (
        int(validation[:first].mean(axis=1).argmax()),
        first + int(validation[first:].mean(axis=1).argmax()),
    )
    errors = hard * relative
    llm, reference = (_totals(errors[arm]) for arm in chosen)
    score = -errors.mean(axis=2)
    optimism = tuple(
        expected_optimism(validation[part], score[part], resamples=_RESAMPLES)
        if setting.seeds > 1 and part.stop - part.start > 1
        else 0.0
        for part in (slice(0, first), slice(first, count))
    )
    return llm, reference, (optimism[0], optimism[1])


def _series(count: int, setting: Setting, rng: np.random.Generator) -> Float64[np.ndarray, "arm block"]:
    """Autoregressive series of variance 1, one an arm."""
    noise = rng.standard_normal((count, setting.blocks))
    if setting.autocorrelation == 0:
        return noise
    series = noise.copy()
    for block in range(1, setting.blocks):
        series[:, block] = (
            setting.autocorrelation * series[:, block - 1]
            + np.sqrt(1 - setting.autocorrelation**2) * noise[:, block]
        )
    return series


def _totals(errors: Float64[np.ndarray, "seed block"]) -> BlockTotals:
    return BlockTotals({"abs_error": errors}, {"abs_error": np.ones_like(errors)})
