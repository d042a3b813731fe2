"""Unread answers: the three rules under which they are scored (dropped, penalised, imputed)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from st2llm import metrics
from st2llm.errors import ConfigError
from st2llm.evaluate.scoring.arms import FinishedArms
from st2llm.evaluate.scoring.score_table import ENTRY, PREDICTED, with_all_columns
from st2llm.evaluate.scoring.totals import score


def resolve_unread(arms: FinishedArms, result: dict[str, Any], rule: str) -> pd.DataFrame:
    """The predictions of an arm with its unread entries resolved by a rule.

    dropped: unread entries do not count. penalised: they take the prediction of the null rule that is worst on the
    primary metric. imputed: they take the prediction of the simplest rule (the last value, the last position, the most
    visited place, the median gap, the majority class).
    """
    frame = arms.predictions[result["key"]]
    if not frame["unread"].any():
        return frame
    if rule == "dropped":
        return frame[~frame["unread"]]
    frame, source = with_all_columns(frame), with_all_columns(_replacement(arms, rule))
    replacement = (
        frame[ENTRY]
        .astype({"sample": str, "place": str})
        .merge(
            source[[*ENTRY, *PREDICTED]].astype({"sample": str, "place": str}),
            on=ENTRY,
            how="left",
            validate="one_to_one",
        )
    )
    unread = frame["unread"].to_numpy()
    resolved = {
        name: np.where(unread, replacement[name].to_numpy(), frame[name].to_numpy()) for name in PREDICTED
    }
    return frame.assign(**resolved, draws=np.where(unread, 0, frame["draws"].to_numpy()))


def metrics_by_rule(
    arms: FinishedArms, results: Sequence[dict[str, Any]]
) -> dict[str, dict[str, float | None]]:
    """The metrics of an arm under each rule; None where a rule leaves nothing to measure."""
    by_rule = {}
    names: Sequence[str] = arms.metrics
    for rule in ("penalised", "imputed", "dropped"):
        values = score(
            pd.concat([resolve_unread(arms, result, rule) for result in results]), names, arms.channels
        )
        names = names if rule == "dropped" else tuple(values)
        by_rule[rule] = {n: values[n] if np.isfinite(values.get(n, np.nan)) else None for n in names}
    return {rule: by_rule[rule] for rule in ("dropped", "penalised", "imputed")}


def _replacement(arms: FinishedArms, rule: str) -> pd.DataFrame:
    """The predictions of the null rule that replace unread entries."""
    keys = {result["predictor"]: result["key"] for result in arms.results if result["family"] == "baseline"}
    name = arms.suite.fallback_rule if rule == "imputed" else _worst_rule(arms) if keys else ""
    if name not in keys:
        raise ConfigError(
            f"{arms.suite.id} has unreadable answers, but no finished {name or 'baseline'!r} to replace them. "
            f"Continue with `st2llm compare ... --resume`."
        )
    return arms.predictions[keys[name]]


def _worst_rule(arms: FinishedArms) -> str:
    metric = arms.suite.primary_metric
    errors = {}
    for result in arms.results:
        if result["family"] == "baseline":
            value = score(arms.predictions[result["key"]], (metric,), arms.channels).get(metric, np.nan)
            if np.isfinite(value):
                errors[result["predictor"]] = value
    if not errors:
        raise ConfigError(
            f"{arms.suite.id} has no rule whose {metric} could be measured, so there is no worst one."
        )
    higher = metrics.is_higher_better(metric)
    return str((min if higher else max)(errors, key=lambda name: errors[name]))
