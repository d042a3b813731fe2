"""Rules and the ridge of an audit: what they score on the windows of the predictions."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64

from st2llm import metrics
from st2llm.data.windows.splits import evenly_spaced
from st2llm.errors import DataError
from st2llm.evaluate.audit.problem import Problem, Valid, Values
from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.scoring.gains.gain import paired_gain
from st2llm.evaluate.scoring.gains.influence import BlockTotals
from st2llm.predict.baselines import BaselinePredictor, fit_baseline
from st2llm.types import DAY_S, MONTH_S, TrainingWindows

TRAINING_WINDOWS = 1000
"""Rules are fitted on at most so many training windows, evenly spaced."""
TEST_WINDOWS = 1000
"""They are compared on at most so many test windows, evenly spaced."""
_CHUNK = 64


@dataclass(frozen=True, eq=False)
class FittedRule:
    """A rule that was fitted on training windows with a history of that many steps."""

    name: str
    history: int
    predictor: BaselinePredictor

    def predict(self, problem: Problem, origins: Int64[np.ndarray, " window"]) -> Values:
        """Its forecasts of these windows. Raises DataError where its history begins before the data."""
        windows = problem.samples(origins, self.history)
        rows = []
        for start in range(0, len(windows), _CHUNK):
            samples = [sample.without_truth() for sample in windows[start : start + _CHUNK]]
            rows += [
                prediction.value[self.history :][:, problem.asked]
                for prediction in self.predictor.predict(samples)
                if prediction.value is not None
            ]
        return np.stack(rows)


@dataclass(frozen=True)
class RuleScore:
    """What a rule scores on the windows of the predictions, and the gain of the predictions over it."""

    name: str
    metrics: dict[str, float]
    windows: int
    gain: Gain | None


def fit_rule(problem: Problem, name: str, history: int) -> FittedRule:
    """Fits a rule on training windows. Raises DataError where training is too short for that history."""
    train = evenly_spaced(TrainingWindows(problem.training_windows(history)), TRAINING_WINDOWS)
    return FittedRule(name, history, fit_baseline(name, train))


def rules_of(problem: Problem) -> list[tuple[str, int]]:
    """The null rules and the ridge that suit the step of the data, each with the history that it needs."""
    freq, history = problem.data.freq_s, problem.task.history
    rules = [("last-value", history)]
    if freq == MONTH_S:
        return [*rules, ("last-year", max(history, 12)), ("month-of-year", history), ("ridge", history)]
    if freq < DAY_S and DAY_S % freq == 0:
        rules.append(("yesterday", max(history, DAY_S // freq)))
    elif 7 * DAY_S % freq == 0 and freq <= 7 * DAY_S:
        rules.append(("last-week", max(history, 7 * DAY_S // freq)))
    return [*rules, ("hour-of-week", history), ("ridge", history)]


def score_rules(
    problem: Problem, origins: Int64[np.ndarray, " window"], value: Values, truth: Values
) -> tuple[list[RuleScore], dict[str, str]]:
    """The score of each rule on these windows, and by name why a rule has none."""
    kept = np.unique(np.linspace(0, len(origins) - 1, min(len(origins), TEST_WINDOWS)).round().astype(int))
    origins, value, truth = origins[kept], value[kept], truth[kept]
    valid = np.isfinite(truth) & np.isfinite(value)
    scores, refused = [], {}
    for name, history in rules_of(problem):
        try:
            forecast = fit_rule(problem, name, history).predict(problem, origins)
        except DataError as error:
            refused[name] = str(error)
            continue
        gain = _gain(problem, origins, (value, forecast, truth), valid)
        scores.append(RuleScore(name, metrics.score(forecast, truth, valid), len(origins), gain))
    return scores, refused


def _gain(
    problem: Problem, origins: np.ndarray, arrays: tuple[Values, Values, Values], valid: Valid
) -> Gain | None:
    """The gain of the predictions over a rule on the MAE, with an interval over days of windows."""
    value, forecast, truth = arrays
    middle = problem.data.time[origins + problem.task.horizon // 2]
    local = (
        pd.DatetimeIndex(middle.astype("datetime64[s]")).tz_localize("UTC").tz_convert(problem.data.timezone)
    )
    block = pd.factorize(local.strftime("%Y-%m-%d"))[0]
    totals = [_totals(each, truth, valid, block) for each in (value, forecast)]
    return paired_gain("mae", totals[0], totals[1], block="day", n_seeds=None)


def _totals(value: Values, truth: Values, valid: Valid, block: np.ndarray) -> BlockTotals:
    error = np.where(valid, np.abs(value - truth), 0.0).sum(axis=(1, 2))
    count = valid.sum(axis=(1, 2))
    return BlockTotals(
        {"abs_error": np.bincount(block, error)[None]},
        {"abs_error": np.bincount(block, count)[None].astype(np.float64)},
    )
