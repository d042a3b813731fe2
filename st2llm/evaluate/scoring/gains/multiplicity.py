"""Corrections for several comparisons: of all LLM arms of a task, and of all suites of a list."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from statsmodels.stats.multitest import multipletests

from st2llm.evaluate.run_folder.record import Gain, Record

_GAINS: tuple[Literal["gain_best", "gain_pretraining"], ...] = ("gain_best", "gain_pretraining")


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values after Holm's correction (1979), which controls the family-wise error; None stays None."""
    known = [value for value in values if value is not None]
    adjusted = iter(multipletests(known, method="holm")[1] if known else ())
    return [None if value is None else float(next(adjusted)) for value in values]


def adjust_for_arms(records: Sequence[Record]) -> list[Record]:
    """The records with `p_adjusted` of their gains: over all LLM arms of their task, for each of the two gains.

    Records of single seeds have none.
    """
    adjusted = list(records)
    for key in _GAINS:
        for task in dict.fromkeys(record.task for record in adjusted):
            rows = [
                i
                for i, record in enumerate(adjusted)
                if record.task == task and record.seed is None and getattr(record, key) is not None
            ]
            gains: list[Gain] = [getattr(adjusted[i], key) for i in rows]
            for i, gain, p in zip(rows, gains, holm([gain.p for gain in gains]), strict=True):
                changed = replace(gain, p_adjusted=p)
                record = adjusted[i]
                adjusted[i] = (
                    replace(record, gain_best=changed)
                    if key == "gain_best"
                    else replace(record, gain_pretraining=changed)
                )
    return adjusted
