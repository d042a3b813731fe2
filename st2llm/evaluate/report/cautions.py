"""Cautions below a verdict: what limits it, or how far it can be trusted."""

from collections.abc import Sequence

from st2llm.evaluate.report.formats import format_gain_size
from st2llm.evaluate.run_folder.record import Record
from st2llm.evaluate.run_folder.results import RunResults


def verdict_cautions(results: RunResults, rows: Sequence[Record], arm: Record | None) -> tuple[str, ...]:
    """The cautions of the verdict about an arm. rows: the pooled records of the task."""
    cautions = []
    if results.run["suite"].get("demo"):
        cautions.append("DEMO: a shortened run that shows the machinery. Do not quote it as a result.")
    compared = {arm.predictor, arm.gain_best.vs if arm.gain_best else ""} if arm else set()
    cautions += [
        f"{row.predictor} has not converged: with more steps its error may fall."
        for row in rows
        if row.predictor in compared and row.converged is False
    ]
    if arm is not None and arm.unread:
        cautions.append(f"{arm.unread:,} of {arm.n:,} answers of {arm.predictor} could not be read.")
    return (*cautions, *_interval_cautions(results, arm))


def _interval_cautions(results: RunResults, arm: Record | None) -> tuple[str, ...]:
    """What limits the interval of the gain."""
    gain = arm.gain_best if arm else None
    if gain is None or gain.low is None:
        return ()
    cautions = []
    if gain.correlated and gain.block_length is not None:
        cautions.append(
            f"Neighbouring blocks still correlate (autocorrelation {gain.autocorrelation or 0:.2f}, best block length "
            f"{gain.block_length:.1f}). The interval allows for it; longer blocks would be better."
        )
    if max(gain.optimism_llm, gain.optimism_reference) >= 0.0005:
        parts = [
            format_gain_size(x, relative=results.relative)
            for x in (gain.optimism_llm, gain.optimism_reference)
        ]
        cautions.append(
            f"The interval is longer by {parts[0]} below and {parts[1]} above, since the arm and its reference were "
            f"chosen on validation among several."
        )
    return tuple(cautions)
