"""From predictions to scores to result records: everything here can be computed again from the run folder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from st2llm import metrics
from st2llm.config.suite import Suite
from st2llm.errors import ConfigError
from st2llm.evaluate.controls.faults import detected_by_kind
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.evaluate.scoring.gain import Gain, Scores
from st2llm.evaluate.scoring.score_table import (
    ANSWERED,
    ENTRY,
    mean_draws,
    score,
    totals_by_sample,
    with_all_columns,
)
from st2llm.predict.answer_counts import sum_counts


class PredictionTables(Mapping[str, pd.DataFrame]):
    """What finished arms predicted, by key: read when asked for, and the latest few kept, since there may be millions
    of entries an arm."""

    def __init__(self, store: RunStore, keep: int = 3) -> None:
        self.store, self.keep = store, keep
        self._kept: dict[str, pd.DataFrame] = {}

    def __getitem__(self, key: str) -> pd.DataFrame:
        if key not in self._kept:
            if len(self._kept) >= self.keep:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = self.store.predictions(key)
        return self._kept[key]

    def __iter__(self) -> Iterator[str]:
        return (facts["key"] for facts in self.store.arms())

    def __len__(self) -> int:
        return len(self.store.arms())


@dataclass(frozen=True)
class FinishedArms:
    """The finished arms of one task: their facts, by key, and what they predicted. task: its name."""

    suite: Suite
    timezone: str
    facts: list[dict[str, Any]]
    predictions: Mapping[str, pd.DataFrame]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the task, whether or not an arm has them all."""
        name = self.facts[0]["task"]
        task = next((task for task in self.suite.tasks if task.name == name), self.suite.tasks[0])
        return self.suite.metrics_of(task)

    def of(self, predictor: str) -> list[dict[str, Any]]:
        return [f for f in self.facts if f["predictor"] == predictor]

    @property
    def predictors(self) -> list[str]:
        """In the suite's order, those that have finished."""
        return [p.name for p in self.suite.predictors if self.of(p.name)]


def load_arms(store: RunStore, suite: Suite, task: str, timezone: str) -> FinishedArms:
    facts = [f for f in store.arms() if f["task"] == task]
    return FinishedArms(suite, timezone, facts, PredictionTables(store))


def score_arms(arms: FinishedArms, rule: str = "penalised") -> pd.DataFrame:
    """Totals by predictor, seed and sample. rule: what stands for unreadable entries (see `resolve_unread`)."""
    tables = []
    for facts in arms.facts:
        frame = resolve_unread(arms, facts, rule)
        totals = totals_by_sample(frame)
        blocks = block_of_samples(frame, str(arms.suite.bootstrap.block), arms.timezone)
        totals.insert(0, "task", facts["task"])
        totals.insert(0, "seed", facts["seed"])
        totals.insert(0, "predictor", facts["predictor"])
        totals["block"] = totals["sample"].map(blocks)
        tables.append(totals)
    return pd.concat(tables, ignore_index=True)


def resolve_unread(arms: FinishedArms, facts: dict[str, Any], rule: str) -> pd.DataFrame:
    """Predictions in which no unread entry is left undecided.

    dropped: unread entries do not count. penalised: they take the prediction of the null rule that is worst on the
    primary metric. imputed: they take what the simplest rule says (the last value, the last position, the place
    visited most, the median gap, the commonest class).
    """
    frame = arms.predictions[facts["key"]]
    if not frame["unread"].any():
        return frame
    if rule == "dropped":
        return frame[~frame["unread"]]
    frame, source = with_all_columns(frame), with_all_columns(_stand_in(arms, rule))
    other = (
        frame[ENTRY]
        .astype({"sample": str, "place": str})
        .merge(
            source[[*ENTRY, *ANSWERED]].astype({"sample": str, "place": str}),
            on=ENTRY,
            how="left",
            validate="one_to_one",
        )
    )
    lost = frame["unread"].to_numpy()
    taken = {name: np.where(lost, other[name].to_numpy(), frame[name].to_numpy()) for name in ANSWERED}
    return frame.assign(**taken, draws=np.where(lost, 0, frame["draws"].to_numpy()))


def build_records(arms: FinishedArms, scores: pd.DataFrame) -> list[dict[str, Any]]:
    """A record for each predictor pooled over seeds, and one for each seed where there are several."""
    table = Scores(scores, arms.suite.bootstrap.draws)
    found = []
    for name in arms.predictors:
        facts = arms.of(name)
        found.append(_record(arms, table, name, None))
        found += [_record(arms, table, name, int(f["seed"])) for f in facts]
    return found


def best_reference(arms: FinishedArms) -> str | None:
    """The arm without pretrained LLM weights that is best on validation, mean over seeds."""
    candidates = {}
    for name in arms.predictors:
        facts = arms.of(name)
        if not facts[0]["pretrained"] and all(f["validation"] is not None for f in facts):
            candidates[name] = float(np.mean([f["validation"] for f in facts]))
    if not candidates:
        return None
    higher = arms.suite.selection_metric in metrics.HIGHER_IS_BETTER
    return (max if higher else min)(candidates, key=lambda name: candidates[name])


def random_twin(arms: FinishedArms, name: str) -> str | None:
    """The arm with a random-weights LLM and the same trained parts, or None where the suite has none."""
    ours = arms.of(name)[0]
    for other in arms.predictors:
        theirs = arms.of(other)[0]
        same = all(theirs[key] == ours[key] for key in ("family", "lora"))
        if same and theirs["backbone"] == "llm-random" and other != name:
            return other
    return None


def gains(
    arms: FinishedArms, table: Scores, name: str, seed: int | None = None
) -> tuple[Gain | None, Gain | None]:
    """gain_best and gain_pretraining of an arm with pretrained LLM weights; None where there is no reference."""
    if not arms.of(name)[0]["pretrained"]:
        return None, None
    metric = arms.suite.primary_metric
    found = [
        table.gain(metric, name, reference, seed) if reference else None
        for reference in (best_reference(arms), random_twin(arms, name))
    ]
    return found[0], found[1]


def _record(arms: FinishedArms, table: Scores, name: str, seed: int | None) -> dict[str, Any]:
    suite = arms.suite
    facts = [f for f in arms.of(name) if seed is None or f["seed"] == seed]
    frames = [arms.predictions[f["key"]] for f in facts]
    asked = [frame.groupby(["sample", "place"], observed=True)["unread"].any() for frame in frames]
    best, pretraining = gains(arms, table, name, seed)
    known = [f["converged"] for f in facts if f["converged"] is not None]
    validation = [f["validation"] for f in facts if f["validation"] is not None]
    ledger = sum_counts(f["ledger"] for f in facts) if all(f.get("ledger") for f in facts) else None
    n, unread = int(sum(len(a) for a in asked)), int(sum(a.sum() for a in asked))
    if ledger is not None:  # several draws of a place are several answers
        n, unread = sum(ledger.values()), sum(ledger.values()) - ledger["readable"]
    return {
        "suite": suite.id,
        "data": suite.data,
        "kind": suite.kind,
        "task": facts[0]["task"],
        "predictor": name,
        "family": facts[0]["family"],
        "backbone": facts[0]["backbone"],
        "llm": facts[0]["llm"],
        "seed": seed,
        "seeds": [f["seed"] for f in facts],
        "n": n,
        "unread": unread,
        "converged": all(known) if known else None,
        "lr": facts[0].get("lr"),
        "metrics": {
            m: table.estimate(m, name, seed).to_json() for m in arms.metrics if table.measures(m, name)
        },
        "validation": float(np.mean(validation)) if validation else None,
        "gain_best": best.to_json() if best else None,
        "gain_pretraining": pretraining.to_json() if pretraining else None,
        "cost": _mean_cost([f["cost"] for f in facts]),
        "unread_rules": _unread_rules(arms, facts) if facts[0]["family"] == "text" else None,
        "ledger": ledger,
        "decoding": facts[0].get("decoding"),
        **_of_draws(frames),
        **({"found": detected_by_kind(pd.concat(frames))} if suite.faults is not None else {}),
        **{key: facts[0][key] for key in ("examples", "budget", "answer_set") if facts[0].get(key)},
    }


def _of_draws(frames: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """By which estimator and from how many draws crps was computed, where it was."""
    drawn = [frame[["draws"]] for frame in frames if "draws" in frame]
    draws = mean_draws(pd.concat(drawn)) if drawn else None
    return {} if draws is None else {"crps": {"estimator": "fair", "draws": draws}}


def _unread_rules(arms: FinishedArms, facts: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Metrics under the three rules; None where a rule leaves nothing to measure."""
    found = {}
    names: Sequence[str] = arms.metrics
    for rule in ("penalised", "imputed", "dropped"):
        values = score(pd.concat([resolve_unread(arms, f, rule) for f in facts]), names)
        names = names if rule == "dropped" else tuple(values)
        found[rule] = {n: values[n] if np.isfinite(values.get(n, np.nan)) else None for n in names}
    return {rule: found[rule] for rule in ("dropped", "penalised", "imputed")}


def _stand_in(arms: FinishedArms, rule: str) -> pd.DataFrame:
    """What the null rule predicted that answers for unreadable entries."""
    known = {f["predictor"]: f["key"] for f in arms.facts if f["family"] == "baseline"}
    name = arms.suite.fallback_rule if rule == "imputed" else _worst_rule(arms) if known else ""
    if name not in known:
        raise ConfigError(
            f"{arms.suite.id} has unreadable answers, but no finished {name or 'baseline'!r} to stand in for them. "
            f"Go on with `st2llm compare ... --resume`."
        )
    return arms.predictions[known[name]]


def _worst_rule(arms: FinishedArms) -> str:
    metric = arms.suite.primary_metric
    errors = {}
    for f in arms.facts:
        if f["family"] == "baseline":
            got = score(arms.predictions[f["key"]], (metric,)).get(metric, np.nan)
            if np.isfinite(got):
                errors[f["predictor"]] = got
    if not errors:
        raise ConfigError(
            f"{arms.suite.id} has no rule whose {metric} could be measured, so none is the worst."
        )
    higher = metric in metrics.HIGHER_IS_BETTER
    return str((min if higher else max)(errors, key=lambda name: errors[name]))


def _mean_cost(costs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean over seeds; peak memory is the highest. Counts stay whole."""
    found: dict[str, Any] = {}
    for key in costs[0]:
        values = [c[key] for c in costs if c[key] is not None]
        if not values:
            found[key] = None
        elif key == "peak_mb":
            found[key] = max(values)
        else:
            mean = float(np.mean(values))
            found[key] = round(mean) if key.startswith(("params", "tokens")) else mean
    return found


def block_of_samples(frame: pd.DataFrame, block: str, timezone: str) -> dict[str, str]:
    """The block of each sample: what is resampled as one.

    day, week: the local day, or Monday, of its asked span (of its middle step). object: what moves. clip: the clip it
    is cut from. sample: itself.
    """
    names = frame["sample"].astype(str)
    if block == "sample":
        return {name: name for name in names.unique()}
    if block == "clip":
        return {name: name.split("/", 1)[-1].rsplit("/", 1)[0] for name in names.unique()}
    if block == "object":
        return {str(s): str(p) for s, p in frame["place"].astype(str).groupby(names).first().items()}
    middle = frame.groupby(names)["time"].median()
    local = pd.to_datetime(middle.astype("int64"), unit="s", utc=True).dt.tz_convert(timezone)
    if block == "week":
        local = local.dt.tz_localize(None)  # a Monday's date, whatever the clocks did since
        local = local - pd.to_timedelta(local.dt.day_of_week, unit="D")
    return {str(sample): str(day) for sample, day in local.dt.strftime("%Y-%m-%d").items()}
