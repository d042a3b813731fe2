"""The outcome of a gain: one of four, or the reason why there is none."""

from typing import Literal, get_args

from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.scoring.gains.interval import MIN_BLOCKS, MIN_SEEDS

Outcome = Literal["helped", "hurt", "equivalent", "unclear", "no-verdict"]
"""unclear: the data cannot tell. no-verdict: too few blocks or seeds."""
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def gain_outcome(gain: Gain) -> Outcome:
    """helped or hurt where the 95 % interval excludes zero; equivalent where the 90 % interval lies within the margin.

    The second is the two one-sided tests of Schuirmann (1987) at 5 % each. A gain that is both is helped or hurt.
    """
    if gain.low is None or gain.high is None or shortage(gain):
        return "no-verdict"
    if gain.low > 0:
        return "helped"
    if gain.high < 0:
        return "hurt"
    if gain.low90 is not None and gain.high90 is not None and within_margin(gain):
        return "equivalent"
    return "unclear"


def within_margin(gain: Gain) -> bool:
    """Whether the 90 % interval lies within the margin of equivalence."""
    return (
        None not in (gain.low90, gain.high90, gain.margin)
        and -float(gain.margin or 0) < float(gain.low90 or 0)
        and float(gain.high90 or 0) < float(gain.margin or 0)
    )


def shortage(gain: Gain) -> str:
    """What is missing for a verdict, as a clause; '' where nothing is."""
    if gain.n_blocks < MIN_BLOCKS:
        plural = "block" if gain.n_blocks == 1 else "blocks"
        return f"{gain.n_blocks} {plural} where {MIN_BLOCKS} are needed"
    if gain.n_seeds == 1:
        return "one seed: the noise of training is not measured"
    if gain.n_seeds is not None and gain.n_seeds < MIN_SEEDS:
        return f"{gain.n_seeds} seeds where {MIN_SEEDS} are needed"
    return ""
