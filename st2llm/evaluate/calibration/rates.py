"""Counts of verdicts and of covered truths over many comparisons, with binomial intervals."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from scipy import stats

from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.scoring.gains.outcome import OUTCOMES, gain_outcome


@dataclass
class Rates:
    """What many comparisons of the same true gain gave. truth: the true gain."""

    truth: float
    trials: int = 0
    covered: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    width: float = 0.0

    def add(self, gain: Gain) -> None:
        """Counts one comparison. Raises ValueError for a gain without an interval."""
        if gain.low is None or gain.high is None:
            raise ValueError("a gain without an interval cannot be counted")
        self.trials += 1
        self.covered += gain.low <= self.truth <= gain.high
        self.outcomes[gain_outcome(gain)] += 1
        self.width += gain.high - gain.low

    def to_json(self) -> dict[str, Any]:
        """Coverage, the share of each outcome and the mean width; shares with their exact 95 % interval."""
        return {
            "truth": self.truth,
            "trials": self.trials,
            "coverage": share(self.covered, self.trials),
            **{outcome: share(self.outcomes[outcome], self.trials) for outcome in OUTCOMES},
            "mean_width": self.width / self.trials if self.trials else None,
        }


def share(hits: int, trials: int) -> dict[str, float]:
    """A share with the interval of Clopper and Pearson (1934)."""
    interval = stats.binomtest(hits, trials).proportion_ci(0.95)
    return {"value": hits / trials, "low": float(interval.low), "high": float(interval.high)}
