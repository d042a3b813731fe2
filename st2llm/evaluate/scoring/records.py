"""From the predictions of finished arms to scores and records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from st2llm import metrics
from st2llm.evaluate.run_folder.record import Gain, Record
from st2llm.evaluate.scoring.anomaly import detected_by_kind
from st2llm.evaluate.scoring.arms import FinishedArms
from st2llm.evaluate.scoring.blocks import block_of_samples
from st2llm.evaluate.scoring.gain import Scores
from st2llm.evaluate.scoring.totals import mean_draws, totals_by_sample
from st2llm.evaluate.scoring.unread import metrics_by_rule, resolve_unread
from st2llm.predict.answer_counts import AnswerCategory, sum_counts

VALIDATION_COLUMNS = ("predictor", "seed", "sample", "place", "metric", "sum", "count")
_NO_VALIDATION = pd.DataFrame(columns=[*VALIDATION_COLUMNS])


def score_arms(arms: FinishedArms, rule: str = "penalised") -> pd.DataFrame:
    """Metric totals by predictor, seed and sample. rule: how unread entries are scored (see `resolve_unread`)."""
    tables = []
    for result in arms.results:
        frame = resolve_unread(arms, result, rule)
        totals = totals_by_sample(frame)
        blocks = block_of_samples(frame, str(arms.suite.bootstrap.block), arms.timezone)
        totals.insert(0, "task", result["task"])
        totals.insert(0, "seed", result["seed"])
        totals.insert(0, "predictor", result["predictor"])
        totals["block"] = totals["sample"].map(blocks)
        tables.append(totals)
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class EntryFacts:
    """What a record states about single predicted entries, which score totals do not hold (see `Record`)."""

    n: int
    unread: int
    unread_rules: Mapping[str, Mapping[str, float | None]] | None
    crps: Mapping[str, Any] | None
    detected: Mapping[str, float] | None


RecordedFacts = Mapping[tuple[str, int | None], EntryFacts]
"""Facts of earlier records, by predictor and seed."""


def build_records(
    arms: FinishedArms, scores: pd.DataFrame, recorded: RecordedFacts | None = None
) -> list[Record]:
    """A record for each predictor pooled over seeds, and one for each seed where there are several.

    recorded: facts about single entries to keep, where the predictions are not there; None computes them.
    """
    if arms.validation_totals is None:
        arms = replace(arms, validation_totals=score_validation(arms))
    table = Scores(scores, arms.suite.bootstrap.draws)
    records = []
    for name in arms.predictors:
        for seed in (None, *(int(result["seed"]) for result in arms.of(name))):
            facts = _entry_facts(arms, name, seed) if recorded is None else recorded[name, seed]
            records.append(_record(arms, table, facts, name, seed))
    pretrained = [name for name in arms.predictors if arms.of(name)[0]["pretrained"]]
    best = {best_reference(arms), best_on_validation(arms, pretrained)}
    return [
        record if record.validation is None else replace(record, best_on_validation=record.predictor in best)
        for record in records
    ]


def _results(arms: FinishedArms, name: str, seed: int | None) -> list[dict[str, Any]]:
    return [result for result in arms.of(name) if seed is None or result["seed"] == seed]


def _entry_facts(arms: FinishedArms, name: str, seed: int | None) -> EntryFacts:
    results = _results(arms, name, seed)
    frames = [arms.predictions[result["key"]] for result in results]
    n, unread = _answers(frames, _answer_counts(results))
    rules = metrics_by_rule(arms, results) if results[0]["family"] == "text" else None
    detected = detected_by_kind(pd.concat(frames)) if arms.suite.faults is not None else None
    return EntryFacts(n, unread, rules, _crps_estimator(frames), detected)


def _answer_counts(results: Sequence[Mapping[str, Any]]) -> Mapping[AnswerCategory, int] | None:
    return sum_counts(r["ledger"] for r in results) if all(r.get("ledger") for r in results) else None


def best_reference(arms: FinishedArms) -> str | None:
    """The arm without pretrained LLM weights that is best on validation, mean over seeds."""
    return best_on_validation(arms, [name for name in arms.predictors if not arms.of(name)[0]["pretrained"]])


def best_on_validation(arms: FinishedArms, names: Sequence[str]) -> str | None:
    """The predictor that is best on validation, mean over seeds; None where no one has a validation score.

    Scores are compared on identical windows and places: first of the predictors that answered the most, then of the
    best one and those that answered fewer (text), on what all of these answered.
    """
    choose = max if arms.suite.selection_metric in metrics.HIGHER_IS_BETTER else min
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
    metric = arms.suite.selection_metric
    value = metrics.metrics_from_totals(totals, (metric,)).get(metric, np.nan)
    return float(value) if np.isfinite(value) else None


def score_validation(arms: FinishedArms) -> pd.DataFrame:
    """Metric totals of validation windows by predictor, seed, sample and place; unread answers are penalised.

    An arm with unread answers has none where no rule of the run has predictions to replace them by, because an earlier
    version finished it.
    """
    validated = [result for result in arms.results if result.get("validation_windows")]
    on_validation = FinishedArms(arms.suite, arms.timezone, validated, arms.validation)
    has_rules = any(result["family"] == "baseline" for result in validated)
    tables = [_NO_VALIDATION]
    for result in validated:
        if has_rules or not arms.validation[result["key"]]["unread"].any():
            totals = _totals_by_pair(resolve_unread(on_validation, result, "penalised"))
            tables.append(totals.assign(predictor=result["predictor"], seed=result["seed"]))
    filled = [table for table in tables if len(table)] or tables
    return pd.concat(filled, ignore_index=True)[[*VALIDATION_COLUMNS]]


def _totals_by_pair(frame: pd.DataFrame) -> pd.DataFrame:
    """Metric totals of each pair of sample and place."""
    names = frame["sample"].astype(str) + "\n" + frame["place"].astype(str)
    totals = totals_by_sample(frame.assign(sample=names))
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


def best_llm_arm(rows: Sequence[Record], *, lower: bool) -> Record | None:
    """The arm with pretrained weights that was best on validation; None where no such arm has a validation score.

    lower: whether lower is better. Records of earlier versions do not say which arm was the best one of several on
    shared windows; their validation scores, all of the same windows, are compared.
    """
    scored = [row for row in rows if row.pretrained and row.validation is not None]
    marked = [row for row in scored if row.best_on_validation]
    sign = 1 if lower else -1
    return min(marked or scored, key=lambda row: sign * (row.validation or 0.0), default=None)


def random_twin(arms: FinishedArms, name: str) -> str | None:
    """The arm with a random-weights LLM and the same trained parts, or None where the suite has none."""
    result = arms.of(name)[0]
    for other in arms.predictors:
        other_result = arms.of(other)[0]
        same = all(other_result[key] == result[key] for key in ("family", "lora"))
        if same and other_result["backbone"] == "llm-random" and other != name:
            return other
    return None


def gains(
    arms: FinishedArms, table: Scores, name: str, seed: int | None = None
) -> tuple[Gain | None, Gain | None]:
    """gain_best and gain_pretraining of an arm with pretrained weights; None where there is no reference."""
    if not arms.of(name)[0]["pretrained"]:
        return None, None
    metric = arms.suite.primary_metric
    both = [
        table.gain(metric, name, reference, seed) if reference else None
        for reference in (best_reference(arms), random_twin(arms, name))
    ]
    return both[0], both[1]


def _record(arms: FinishedArms, table: Scores, facts: EntryFacts, name: str, seed: int | None) -> Record:
    suite = arms.suite
    results = _results(arms, name, seed)
    first = results[0]
    best, pretraining = gains(arms, table, name, seed)
    converged = [r["converged"] for r in results if r["converged"] is not None]
    validation = [value for r in results if (value := validation_score(arms, r)) is not None]
    return Record(
        suite=suite.id,
        data=suite.data,
        kind=suite.kind,
        task=first["task"],
        predictor=name,
        family=first["family"],
        backbone=first["backbone"],
        llm=first["llm"],
        seed=seed,
        seeds=tuple(r["seed"] for r in results),
        n=facts.n,
        unread=facts.unread,
        converged=all(converged) if converged else None,
        lr=first.get("lr"),
        metrics={m: table.estimate(m, name, seed) for m in arms.metrics if table.measures(m, name)},
        validation=float(np.mean(validation)) if validation else None,
        validation_n=(first.get("validation_windows") or {}).get("n"),
        validation_cost=first.get("validation_cost"),
        gain_best=best,
        gain_pretraining=pretraining,
        cost=_mean_cost([r["cost"] for r in results]),
        unread_rules=facts.unread_rules,
        answer_counts=_answer_counts(results),
        decoding=first.get("decoding"),
        crps=facts.crps,
        detected=facts.detected,
        prompt_settings={key: first[key] for key in ("examples", "budget", "answer_set") if first.get(key)},
    )


def _answers(frames: Sequence[pd.DataFrame], counts: Mapping[AnswerCategory, int] | None) -> tuple[int, int]:
    """The number of answers and of unreadable ones: of samples and places, or of draws where these were counted."""
    if counts is not None:  # several draws of a place are several answers
        return sum(counts.values()), sum(counts.values()) - counts["readable"]
    unread = [frame.groupby(["sample", "place"], observed=True)["unread"].any() for frame in frames]
    return int(sum(len(u) for u in unread)), int(sum(u.sum() for u in unread))


def _crps_estimator(frames: Sequence[pd.DataFrame]) -> dict[str, Any] | None:
    """The estimator of CRPS and the mean number of draws; None where no predictor drew."""
    drawn = [frame[["draws"]] for frame in frames if "draws" in frame]
    draws = mean_draws(pd.concat(drawn)) if drawn else None
    return None if draws is None else {"estimator": "fair", "draws": draws}


def _mean_cost(costs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean over seeds; peak memory is the highest. Counts stay whole."""
    mean_cost: dict[str, Any] = {}
    for key in costs[0]:
        values = [c[key] for c in costs if c[key] is not None]
        if not values:
            mean_cost[key] = None
        elif key == "peak_mb":
            mean_cost[key] = max(values)
        else:
            mean = float(np.mean(values))
            mean_cost[key] = round(mean) if key.startswith(("params", "tokens")) else mean
    return mean_cost
