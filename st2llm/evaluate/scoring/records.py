"""From the predictions of finished arms to scores and records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from st2llm.evaluate.run_folder.record import TRAINING_STATES, Gain, Record
from st2llm.evaluate.scoring.arms import FinishedArms
from st2llm.evaluate.scoring.blocks import block_of_samples, middle_times
from st2llm.evaluate.scoring.gains.choice import (
    Choices,
    choice_optimism,
    make_choices,
    references,
    widened,
)
from st2llm.evaluate.scoring.gains.gain import Scores
from st2llm.evaluate.scoring.gains.groups import group_gain
from st2llm.evaluate.scoring.gains.multiplicity import adjust_for_arms
from st2llm.evaluate.scoring.gains.twins import random_twin, twin_without_texts
from st2llm.evaluate.scoring.gains.validation import (
    best_on_validation,
    score_validation,
    validation_score,
)
from st2llm.evaluate.scoring.tasks.anomaly import detected_by_kind
from st2llm.evaluate.scoring.totals import mean_draws, totals_by_sample
from st2llm.evaluate.scoring.unread import metrics_by_rule, resolve_unread
from st2llm.predict.answer_counts import AnswerCategory, sum_counts


def score_arms(arms: FinishedArms, rule: str = "penalised") -> pd.DataFrame:
    """Metric totals by predictor, seed and sample. rule: how unread entries are scored (see `resolve_unread`)."""
    tables = []
    for result in arms.results:
        frame = resolve_unread(arms, result, rule)
        totals = totals_by_sample(frame, arms.channels)
        blocks = block_of_samples(frame, str(arms.suite.bootstrap.block), arms.timezone, arms.cut_from)
        totals.insert(0, "task", result["task"])
        totals.insert(0, "seed", result["seed"])
        totals.insert(0, "predictor", result["predictor"])
        totals["block"] = totals["sample"].map(blocks)
        totals["time"] = totals["sample"].map(middle_times(frame))
        tables.append(totals)
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class EntryFacts:
    """What a record states about single predicted entries, which score totals do not hold (see `Record`)."""

    predictor: str
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
    table = score_table_of(arms, scores)
    choices = make_choices(arms, table)
    records = []
    for name in arms.predictors:
        for seed in (None, *(int(result["seed"]) for result in arms.of(name))):
            facts = _entry_facts(arms, name, seed) if recorded is None else recorded[name, seed]
            records.append(_record(arms, table, choices, facts, seed))
    best = {choices.llm, choices.reference}
    if (of_group := group_gain(arms, table)) is not None:
        records = [
            replace(record, gain_group=of_group[1])
            if record.seed is None and record.predictor == of_group[0]
            else record
            for record in records
        ]
    return adjust_for_arms(
        [
            record
            if record.validation is None
            else replace(record, best_on_validation=record.predictor in best)
            for record in records
        ]
    )


def score_table_of(arms: FinishedArms, scores: pd.DataFrame) -> Scores:
    """The totals of a task, with what the suite says about them."""
    suite = arms.suite
    trained = frozenset(p.name for p in suite.predictors if suite.fitted_by_seed(p))
    return Scores(scores, trained, str(suite.bootstrap.block), suite.equivalence_margin)


def _results(arms: FinishedArms, name: str, seed: int | None) -> list[dict[str, Any]]:
    return [result for result in arms.of(name) if seed is None or result["seed"] == seed]


def _entry_facts(arms: FinishedArms, name: str, seed: int | None) -> EntryFacts:
    results = _results(arms, name, seed)
    frames = [arms.predictions[result["key"]] for result in results]
    n, unread = _answers(frames, _answer_counts(results))
    rules = metrics_by_rule(arms, results) if results[0]["family"] == "text" else None
    detected = detected_by_kind(pd.concat(frames)) if arms.suite.faults is not None else None
    return EntryFacts(name, n, unread, rules, _crps_estimator(frames), detected)


def _answer_counts(results: Sequence[Mapping[str, Any]]) -> Mapping[AnswerCategory, int] | None:
    return sum_counts(r["ledger"] for r in results) if all(r.get("ledger") for r in results) else None


def best_llm_arm(rows: Sequence[Record], *, lower: bool) -> Record | None:
    """The arm with pretrained weights that was best on validation; None where no such arm has a validation score.

    lower: whether lower is better. Records of earlier versions do not say which arm was the best one of several on
    shared windows; their validation scores, all of the same windows, are compared.
    """
    scored = [row for row in rows if row.pretrained and row.validation is not None]
    marked = [row for row in scored if row.best_on_validation]
    sign = 1 if lower else -1
    return min(marked or scored, key=lambda row: sign * (row.validation or 0.0), default=None)


def best_text_arm(rows: Sequence[Record], *, lower: bool) -> Record | None:
    """Of several text arms the one that was best on validation, of those that answered the most windows there.

    lower: whether lower is better. None where there are not several, or where none has a validation score.
    """
    arms = [row for row in rows if row.family == "text"]
    scored = [row for row in arms if row.validation is not None]
    if len(arms) < 2 or not scored:
        return None
    most = max(row.validation_n or 0 for row in scored)
    sign = 1 if lower else -1
    return min(
        (row for row in scored if (row.validation_n or 0) == most),
        key=lambda row: sign * (row.validation or 0.0),
    )


def gains(
    arms: FinishedArms, table: Scores, choices: Choices, name: str, seed: int | None = None
) -> tuple[Gain | None, Gain | None]:
    """gain_best and gain_pretraining of an arm with pretrained weights; None where there is no reference.

    Intervals are widened by the optimism of the choices: that of the LLM arm for the arm that was chosen, that of the
    reference for gain_best. A single seed is not chosen from.
    """
    if not arms.of(name)[0]["pretrained"]:
        return None, None
    metric = arms.suite.primary_metric
    twin = random_twin(arms, name)
    best = table.gain(metric, name, choices.reference, seed) if choices.reference else None
    pretraining = table.gain(metric, name, twin, seed) if twin else None
    if seed is not None:
        return best, pretraining
    chosen = _choice_optimism(choices, name)
    return (
        best and widened(table, metric, best, chosen, choices.optimism_reference),
        pretraining and widened(table, metric, pretraining, chosen, 0.0),
    )


def gain_over_trained(
    arms: FinishedArms, table: Scores, choices: Choices, name: str, seed: int | None = None
) -> Gain | None:
    """The gain of an arm with pretrained weights over the best trained arm without them; None where that is the
    reference of gain_best, and where there is none.

    A rule may be the best on validation by chance, and worse on test than what an arm starts from. An LLM that helps is
    better than the same training without it, too.
    """
    if not arms.of(name)[0]["pretrained"] or choices.trained in (None, choices.reference):
        return None
    metric = arms.suite.primary_metric
    gain = table.gain(metric, name, str(choices.trained), seed)
    if gain is None or seed is not None:
        return gain
    return widened(table, metric, gain, _choice_optimism(choices, name), choices.optimism_trained)


def text_gains(
    arms: FinishedArms, table: Scores, choices: Choices, name: str, seed: int | None = None
) -> dict[str, Gain | None]:
    """gain_text and gain_embeddings of a predictor that reads texts; see `Record`."""
    first, metric = arms.of(name)[0], arms.suite.primary_metric
    rivals = [
        other
        for other in references(arms)
        if arms.of(other)[0].get("text_features") in ("tfidf", "minilm") and first["pretrained"]
    ]
    optimism = choice_optimism(arms, table, rivals) if rivals and seed is None else 0.0
    found: dict[str, Gain | None] = {}
    for key, reference, of_rival in (
        ("gain_text", twin_without_texts(arms, name), 0.0),
        ("gain_embeddings", best_on_validation(arms, rivals), optimism),
    ):
        gain = table.gain(metric, name, reference, seed) if reference in arms.predictors else None
        if gain is not None and seed is None:
            gain = widened(table, metric, gain, _choice_optimism(choices, name), of_rival)
        found[key] = gain
    return found


def _choice_optimism(choices: Choices, name: str) -> float:
    """How much being chosen among the LLM arms flatters an arm, in the unit of the primary metric; 0 for the others."""
    return choices.optimism_llm if name == choices.llm else 0.0


def _record(
    arms: FinishedArms, table: Scores, choices: Choices, facts: EntryFacts, seed: int | None
) -> Record:
    suite, name = arms.suite, facts.predictor
    results = _results(arms, name, seed)
    first = results[0]
    best, pretraining = gains(arms, table, choices, name, seed)
    converged = [r["converged"] for r in results if r["converged"] is not None]
    validation = [value for r in results if (value := validation_score(arms, r)) is not None]
    equals = _equal_rule(arms, table, name)
    states = [r.get("training_state") for r in results]
    of_text = text_gains(arms, table, choices, name, seed)
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
        converged=all(converged) and equals is None if converged else None,
        training_state="stuck"
        if equals and first.get("text_features") is None
        else next((s for s in TRAINING_STATES if s in states), None),
        equals=equals,
        fitted_on=_fitted_on(results),
        lr=first.get("lr"),
        metrics={m: table.estimate(m, name, seed) for m in arms.metrics if table.measures(m, name)},
        validation=float(np.mean(validation)) if validation else None,
        validation_n=(first.get("validation_windows") or {}).get("n"),
        validation_cost=first.get("validation_cost"),
        told=first.get("told"),
        training=_mean_training([r["training"] for r in results if r.get("training")]),
        train_windows=first.get("train_windows"),
        shift=suite.shift.model_dump(mode="json", exclude_none=True) if suite.shift else None,
        gain_best=best,
        gain_pretraining=pretraining,
        gain_trained=gain_over_trained(arms, table, choices, name, seed),
        text_features=first.get("text_features"),
        gain_text=of_text.get("gain_text"),
        gain_embeddings=of_text.get("gain_embeddings"),
        cost=_mean_cost([r["cost"] for r in results]),
        unread_rules=facts.unread_rules,
        answer_counts=_answer_counts(results),
        decoding=first.get("decoding"),
        crps=facts.crps,
        detected=facts.detected,
        prompt_settings={key: first[key] for key in ("examples", "budget", "answer_set") if first.get(key)},
    )


def _fitted_on(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """What the arms of all seeds were fitted on, each data set and part once."""
    rows = [row for result in results for row in result.get("fitted_on") or ()]
    if not any("fitted_on" in result for result in results):
        return None
    return [row for i, row in enumerate(rows) if row not in rows[:i]]


def _equal_rule(arms: FinishedArms, table: Scores, name: str) -> str | None:
    """The rule whose errors a native or soft arm has in every sample, up to 1e-6 of them: it learned nothing else."""
    if arms.of(name)[0]["family"] not in ("primitive", "soft"):
        return None
    own = _sample_totals(table, name)
    rules = (other for other in arms.predictors if arms.of(other)[0]["family"] == "baseline")
    for rule in rules:
        both = pd.concat([own, _sample_totals(table, rule)], axis=1, join="inner").to_numpy()
        if len(both) == len(own) and np.allclose(both[:, 0], both[:, 1], rtol=1e-6, atol=0):
            return rule
    return None


def _sample_totals(table: Scores, name: str) -> "pd.Series[float]":
    """The totals of a predictor by sample and metric, mean over seeds."""
    rows = table.frame[table.frame["predictor"] == name]
    return rows.groupby(["sample", "metric"], observed=True)["sum"].mean()


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


def _mean_training(trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The mean over seeds, which patience may stop at different steps; None for what was not trained."""
    if not trainings:
        return None
    means = {
        key: float(np.mean([training[key] for training in trainings]))
        for key in ("steps", "samples_seen", "epochs")
    }
    rounded = {key: round(value) if key != "epochs" else value for key, value in means.items()}
    of_terms = {
        key: {name: float(np.mean([t[key][name] for t in trainings])) for name in trainings[0][key]}
        for key in ("cosines", "weights")
        if key in trainings[0]
    }
    return {**trainings[0], **rounded, **of_terms}


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
