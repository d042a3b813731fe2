"""Scores on validation windows, and which arm is best there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from st2llm import metrics
from st2llm.evaluate.scoring.arms import FinishedArms
from st2llm.evaluate.scoring.channels import ChannelScales
from st2llm.evaluate.scoring.totals import totals_by_sample
from st2llm.evaluate.scoring.unread import resolve_unread

VALIDATION_COLUMNS = ("predictor", "seed", "sample", "place", "metric", "sum", "count")
_NO_VALIDATION = pd.DataFrame(columns=[*VALIDATION_COLUMNS])


def best_on_validation(arms: FinishedArms, names: Sequence[str]) -> str | None:
    """The predictor that is best on validation, mean over seeds; None where no one has a validation score.

    Scores are compared on identical windows and places: first of the predictors that answered the most, then of the
    best one and those that answered fewer (text), on what all of these answered.
    """
    choose = max if metrics.is_higher_better(arms.selection_metric) else min
    best: list[str] = []
    for group in _by_validation_windows(arms, names):
        shared = _shared_pairs(arms, [*best, *group]) if best else None
        scores = {name: _mean_validation(arms, name, shared) for name in [*best, *group]}
        known = {name: value for name, value in scores.items() if value is not None}
        if known and (not best or best[0] in known):
            best = [choose(known, key=lambda name: known[name])]
    return best[0] if best else None


def validation_score(
    arms: FinishedArms, result: Mapping[str, Any], shared: pd.MultiIndex | None = None
) -> float | None:
    """The selection metric of a finished arm on its validation windows, or on the shared pairs of sample and place.

    None where the arm answered no validation window, or nothing can be measured.
    """
    if shared is None and result["validation"] is not None:
        return float(result["validation"])
    rows = _validation_rows(arms, result)
    if shared is not None:
        rows = rows[_pairs(rows).isin(shared)]
    sums = rows.groupby("metric")[["sum", "count"]].sum()
    totals = {str(name): (float(total), int(count)) for name, total, count in sums.itertuples()}
    metric = arms.selection_metric
    value = metrics.metrics_from_totals(totals, (metric,)).get(metric, np.nan)
    return float(value) if np.isfinite(value) else None


def score_validation(arms: FinishedArms) -> pd.DataFrame:
    """Totals of the selection metric on validation by predictor, seed, sample and place; unread answers are penalised.

    An arm with unread answers has none where no rule of the run has predictions to replace them by, because an earlier
    version finished it.
    """
    validated = [result for result in arms.results if result.get("validation_windows")]
    on_validation = replace(arms, results=validated, predictions=arms.validation, validation={})
    has_rules = any(result["family"] == "baseline" for result in validated)
    tables = [_NO_VALIDATION]
    for result in validated:
        if has_rules or not arms.validation[result["key"]]["unread"].any():
            totals = _totals_by_pair(resolve_unread(on_validation, result, "penalised"), arms.channels)
            tables.append(totals.assign(predictor=result["predictor"], seed=result["seed"]))
    filled = [table for table in tables if len(table)] or tables
    every = pd.concat(filled, ignore_index=True)[[*VALIDATION_COLUMNS]]
    is_needed = [metrics.needs_total(arms.selection_metric, str(name)) for name in every["metric"]]
    return every[np.array(is_needed, dtype=bool)].reset_index(drop=True)


def _totals_by_pair(frame: pd.DataFrame, channels: ChannelScales) -> pd.DataFrame:
    """Metric totals of each pair of sample and place."""
    names = frame["sample"].astype(str) + "\n" + frame["place"].astype(str)
    totals = totals_by_sample(frame.assign(sample=names), channels)
    pairs = totals["sample"].str.split("\n", n=1, expand=True)
    return totals.assign(sample=pairs[0], place=pairs[1])


def _validation_rows(arms: FinishedArms, result: Mapping[str, Any]) -> pd.DataFrame:
    """The validation totals of a finished arm; empty where there are none."""
    table = _NO_VALIDATION if arms.validation_totals is None else arms.validation_totals
    rows: pd.DataFrame = table[
        (table["predictor"] == result["predictor"]) & (table["seed"] == result["seed"])
    ]
    return rows


def _by_validation_windows(arms: FinishedArms, names: Sequence[str]) -> list[list[str]]:
    """The predictors with a validation score, grouped by their validation windows, the most windows first.

    Arms of earlier versions do not state these windows; they were validated on all those of the suite.
    """
    described = [
        r["validation_windows"] for r in arms.results if r["family"] != "text" and r.get("validation_windows")
    ]
    complete: Mapping[str, Any] = max(
        described, key=lambda windows: windows["n"], default={"n": np.inf, "sha256": ""}
    )
    groups: dict[tuple[float, str], list[str]] = {}
    for name in names:
        results = arms.of(name)
        if all(validation_score(arms, result) is not None for result in results):
            windows = results[0].get("validation_windows") or complete
            groups.setdefault((windows["n"], windows["sha256"]), []).append(name)
    return [groups[key] for key in sorted(groups, key=lambda key: -key[0])]


def _shared_pairs(arms: FinishedArms, names: Sequence[str]) -> pd.MultiIndex:
    """The pairs of sample and place that all of these predictors answered on validation."""
    pairs = [_pairs(_validation_rows(arms, arms.of(name)[0])).unique() for name in names]
    return reduce(lambda one, other: one.intersection(other), pairs)


def _pairs(table: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(table[["sample", "place"]].astype(str))


def _mean_validation(arms: FinishedArms, name: str, shared: pd.MultiIndex | None) -> float | None:
    """The mean validation score over seeds; None where a seed has none."""
    scores = [validation_score(arms, result, shared) for result in arms.of(name)]
    known = [value for value in scores if value is not None]
    return float(np.mean(known)) if len(known) == len(scores) else None
