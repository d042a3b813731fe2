"""Predictions boiled down to what a page shows: errors by step and by place, and a few telling examples."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from st2llm.evaluate.scoring.run_folder import Facts, answers
from st2llm.evaluate.scoring.score_table import complete

EXAMPLES = (("a good one", 0.1), ("a typical one", 0.5), ("a bad one", 0.9))
"""Which samples are shown, as quantiles of their relative error: chosen by rule, not by eye."""
UNREADABLE = "unreadable"
"""The rank of an example that is shown because it could not be read."""
_NEEDED = ["sample", "place", "step", "channel", "time", "value", "truth", "valid", "unread"]
_QUANTILES = ["q05", "q95"]
_LABELS = ["part", "rank", "label", "answer"]


@dataclass(frozen=True)
class Errors:
    """Mean errors of one predictor, over all seeds and readable answers, in raw units: absolute ones of values,
    distances of positions."""

    by_step: pd.Series
    by_place: pd.Series


@dataclass(frozen=True)
class Example:
    """One answer beside the truth.

    lines: a row for each predictor and step: predictor, step, time, value, truth, q05, q95; of a path x, y, true_x,
    true_y as well; of a label, label and answer.
    answer: what the language model said, where one was asked: prompt, answer, unread_reason, tokens, seconds.
    draws: how many answers it gave to that question.
    """

    rank: str
    sample: str
    place: str
    lines: pd.DataFrame
    answer: dict[str, object] | None
    draws: int = 1


def load(path: Path) -> pd.DataFrame:
    """One predictions file, in long form: the columns that pages need, as far as it has them."""
    held = pq.read_schema(path).names
    table = pd.read_parquet(path, columns=[n for n in (*_NEEDED, *_QUANTILES, *_LABELS) if n in held])
    return table if "part" in table else table.assign(part="value")


def errors(paths: Sequence[Path]) -> Errors | None:
    """Errors over the files of one predictor; None where there is no readable prediction."""
    tables = []
    for path in paths:
        table = load(path)
        kept = _entry_errors(table[table["valid"] & ~table["unread"]])
        tables.append(kept[["place", "step", "error"]])
    if not tables or all(table.empty for table in tables):
        return None
    whole = pd.concat(tables)
    return Errors(
        whole.groupby("step")["error"].mean(), whole.groupby("place", observed=True)["error"].mean()
    )


def _entry_errors(table: pd.DataFrame) -> pd.DataFrame:
    """The error of each entry and the size of its truth; x and y of a step are one entry, a label has none."""
    values = table[table["part"] == "value"]
    found = values.assign(error=(values["value"] - values["truth"]).abs(), size=values["truth"].abs())
    steps = path_steps(table)
    if len(steps):
        away = np.hypot(steps["x"] - steps["true_x"], steps["y"] - steps["true_y"])
        found = steps.assign(error=away, size=1.0)
    kept: pd.DataFrame = found[np.isfinite(found["error"])]
    return kept


def path_steps(table: pd.DataFrame) -> pd.DataFrame:
    """Positions, one row a step: sample, place, step, time, x, y, true_x, true_y. Empty where there are none."""
    sides = []
    for name in ("x", "y"):
        side = table[table["part"] == name].astype({"sample": str, "place": str})
        columns = {"value": name, "truth": f"true_{name}"}
        sides.append(side[["sample", "place", "step", "time", *columns]].rename(columns=columns))
    if sides[0].empty:
        return pd.DataFrame()
    return sides[0].merge(sides[1], on=["sample", "place", "step", "time"], validate="one_to_one")


def examples(facts: Facts, task: str, *, predictors: Sequence[str], quoted: str | None) -> list[Example]:
    """A good, a typical and a bad answer of the first predictor, by relative error, and one that was unreadable.

    quoted: the text predictor whose words go with them; then only what it was asked is chosen from.
    """
    files = {name: facts.files("predictions", name, task, suffix=".parquet")[:1] for name in predictors}
    tables = {name: load(paths[0]) for name, paths in files.items() if paths}
    lead = next((name for name in predictors if name in tables), None)
    if lead is None:
        return []
    words = pd.DataFrame()
    if quoted in tables:
        seed = _seed(files[str(quoted)][0], str(quoted))
        paths = facts.files("answers", str(quoted), task, suffix=".jsonl")
        words = answers([path for path in paths if _seed(path, str(quoted)) == seed])
    chosen = _choose(tables[lead], words)
    return [
        _example(rank, sample, place, _lines(tables, sample, place), _said(words, sample, place))
        for rank, sample, place in chosen
    ]


def _seed(path: Path, predictor: str) -> str:
    return re.sub(r"\..*", "", path.name[len(predictor) + 1 :])


def _choose(table: pd.DataFrame, words: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Ranks, samples and places of the examples."""
    relative = _relative_errors(table)
    unread: list[tuple[str, str, str]] = []
    if not words.empty:
        known = table[["sample", "place"]].astype(str).drop_duplicates()
        # An answer about several places at once stands for each of them.
        asked = pd.MultiIndex.from_frame(
            pd.concat([words[["sample", "place"]].astype(str), _spread(words, known)])
        )
        lost = words[words["unread_reason"].notna()].head(1)
        unread = [(UNREADABLE, str(s), str(p)) for s, p in _spread(lost, known, alone=True)]
        keys = pd.MultiIndex.from_tuples(
            [(str(s), str(p)) for s, p in relative.index], names=["sample", "place"]
        )
        relative = relative[keys.isin(asked)]
    if relative.empty:
        return unread
    at = [(rank, round(share * (len(relative) - 1))) for rank, share in EXAMPLES]
    picked = [(rank, *(str(part) for part in relative.index[i])) for rank, i in at]
    return [(rank, sample, place) for rank, sample, place in picked] + unread


def _relative_errors(table: pd.DataFrame) -> pd.Series:
    """By sample and place, the best first: error as a share of the truth's size, or the rank of the true label."""
    labels = table[(table["part"] == "label") & table["valid"]]
    labels = labels[labels["rank"].notna()] if len(labels) else labels
    if len(labels):
        return labels.groupby(["sample", "place"], observed=True)["rank"].max().sort_values(kind="stable")
    kept = _entry_errors(table[table["valid"] & np.isfinite(table["value"])])
    sums = kept.groupby(["sample", "place"], observed=True)[["error", "size"]].sum()
    return (sums["error"] / sums["size"].clip(lower=1e-9)).sort_values(kind="stable")


def _spread(words: pd.DataFrame, known: pd.DataFrame, *, alone: bool = False) -> Any:
    """Samples and places of answers that are about several places at once; with `alone`, one pair an answer."""
    rows = words[["sample", "place"]].astype(str)
    whole = rows[rows["place"] == ""][["sample"]].drop_duplicates().merge(known, on="sample")
    if not alone:
        return whole
    pairs = pd.concat([rows[rows["place"] != ""], whole.drop_duplicates("sample")])
    return pairs.itertuples(index=False, name=None)


def _lines(tables: dict[str, pd.DataFrame], sample: str, place: str) -> pd.DataFrame:
    parts = []
    for name, table in tables.items():
        rows = table[(table["sample"] == sample) & (table["place"] == place)]
        rows = complete(rows)[[*_NEEDED, *_QUANTILES, *_LABELS]]
        path = path_steps(rows)
        if len(path):
            parts.append(path.assign(predictor=name).sort_values("step"))
            continue
        first = rows[rows["channel"] == rows["channel"].min()] if len(rows) else rows
        parts.append(first.assign(predictor=name).sort_values("step"))
    lines = pd.concat(parts, ignore_index=True)
    columns = ["predictor", "step", "time", "value", "truth", "valid", "unread", *_QUANTILES, *_LABELS]
    paths = ["x", "y", "true_x", "true_y"] if "true_x" in lines else []
    shown: pd.DataFrame = lines.reindex(columns=[*columns, *paths])
    return shown


def _said(words: pd.DataFrame, sample: str, place: str) -> pd.DataFrame:
    """All draws of one answer."""
    if words.empty:
        return words
    return words[(words["sample"].astype(str) == sample) & words["place"].astype(str).isin([place, ""])]


def _example(rank: str, sample: str, place: str, lines: pd.DataFrame, said: pd.DataFrame) -> Example:
    """With the words of the first draw; where an unreadable one is to be shown, of the first that is."""
    shown = said[said["unread_reason"].notna()] if rank == UNREADABLE else said
    first = {str(key): value for key, value in shown.iloc[0].items()} if len(shown) else None
    return Example(rank, sample, place, lines, first, draws=len(said))
