"""What the author of predictions claims, and which choice of protocol alone would produce it."""

from collections.abc import Sequence
from dataclasses import dataclass

from st2llm import metrics
from st2llm.errors import ConfigError, nearest
from st2llm.evaluate.audit.choices import Choice


@dataclass(frozen=True)
class Claim:
    """A claimed score. tolerance: half a unit of its last digit. rival: the score it is compared with, if any."""

    metric: str
    value: float
    tolerance: float
    rival: float | None = None

    @property
    def margin(self) -> float | None:
        """By how much the rival is beaten; negative where it is not."""
        if self.rival is None:
            return None
        return self.value - self.rival if metrics.is_higher_better(self.metric) else self.rival - self.value

    def matches(self, score: float) -> bool:
        """Whether a score rounds to the claim."""
        return abs(score - self.value) <= self.tolerance * (1 + 1e-6)

    def enough(self, choice: Choice) -> bool:
        """Whether a choice changes the score by the margin or more."""
        effect = choice.effect(self.metric)
        return effect is not None and self.margin is not None and abs(effect) >= abs(self.margin) > 0


def parse_claims(words: Sequence[str], rival: float | None) -> tuple[Claim, ...]:
    """Reads `MAE=3.11`, several also as `MAE=3.11,RMSE=6.20`; the rival is of the first.

    Raises ConfigError for anything else, a metric that audits do not have, and a rival without a claim.
    """
    claims = [_parse(word) for words_ in words for word in words_.split(",") if word.strip()]
    if rival is not None and not claims:
        raise ConfigError(
            "--rival is compared with a claimed score. Add --claims, such as --claims MAE=3.11."
        )
    if rival is not None:
        claims[0] = Claim(claims[0].metric, claims[0].value, claims[0].tolerance, rival)
    return tuple(claims)


def _parse(word: str) -> Claim:
    name, _, text = word.partition("=")
    metric = name.strip().lower()
    if metric not in metrics.VALUE_METRICS:
        raise ConfigError(
            f"--claims takes METRIC=VALUE, such as MAE=3.11, but {word!r} came. "
            f"{nearest(metric, metrics.VALUE_METRICS)}"
        )
    try:
        value = float(text)
    except ValueError as error:
        raise ConfigError(f"--claims takes METRIC=VALUE, such as MAE=3.11, but {word!r} came.") from error
    decimals = len(text.strip().partition(".")[2]) if "e" not in text.lower() else 6
    return Claim(metric, value, 0.5 * 10**-decimals)
