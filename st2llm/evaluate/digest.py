"""Predictions boiled down to what a page shows: errors by step and by place, and a few telling examples."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from st2llm.evaluate.facts import Facts, answers

EXAMPLES = (("a good one", 0.1), ("a typical one", 0.5), ("a bad one", 0.9))
"""Which samples are shown, as quantiles of their relative error: chosen by rule, not by eye."""
UNREADABLE = "unreadable"
"""The rank of an example that is shown because it could not be read."""
_NEEDED = ["sample", "place", "step", "channel", "time", "value", "truth", "valid", "unread"]
_QUANTILES = ["q05", "q95"]


@dataclass(frozen=True)
class Errors:
    """Mean absolute errors of one predictor, over all seeds and readable answers, in raw units."""

    by_step: pd.Series
    by_place: pd.Series


@dataclass(frozen=True)
class Example:
    """One answer beside the truth.

    lines: a row for each predictor and step: predictor, step, time, value, truth, q05, q95.
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
    """One predictions file, in long form."""
    table = pd.read_parquet(path)
    return table[[name for name in [*_NEEDED, *_QUANTILES] if name in table]]


def errors(paths: Sequence[Path]) -> Errors | None:
    """Errors over the files of one predictor; None where there is no readable prediction."""
    tables = []
    for path in paths:
        table = load(path)
        table["error"] = (table["value"] - table["truth"]).abs()
        kept = table[table["valid"] & ~table["unread"] & np.isfinite(table["error"])]
        tables.append(kept[["place", "step", "error"]])
    if not tables or all(table.empty for table in tables):
        return None
    whole = pd.concat(tables)
    return Errors(
        whole.groupby("step")["error"].mean(), whole.groupby("place", observed=True)["error"].mean()
    )


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
    kept = table[table["valid"] & np.isfinite(table["value"])]
    sums = kept.assign(error=(kept["value"] - kept["truth"]).abs(), size=kept["truth"].abs())
    sums = sums.groupby(["sample", "place"], observed=True)[["error", "size"]].sum()
    relative = (sums["error"] / sums["size"].clip(lower=1e-9)).sort_values(kind="stable")
    unread: list[tuple[str, str, str]] = []
    if not words.empty:
        asked = pd.MultiIndex.from_frame(words[["sample", "place"]].astype(str))
        lost = words[words["unread_reason"].notna()].head(1)
        unread = [(UNREADABLE, str(s), str(p)) for s, p in zip(lost["sample"], lost["place"], strict=True)]
        keys = pd.MultiIndex.from_tuples(
            [(str(s), str(p)) for s, p in relative.index], names=["sample", "place"]
        )
        relative = relative[keys.isin(asked)]
    if relative.empty:
        return unread
    at = [(rank, round(share * (len(relative) - 1))) for rank, share in EXAMPLES]
    picked = [(rank, *(str(part) for part in relative.index[i])) for rank, i in at]
    return [(rank, sample, place) for rank, sample, place in picked] + unread


def _lines(tables: dict[str, pd.DataFrame], sample: str, place: str) -> pd.DataFrame:
    parts = []
    for name, table in tables.items():
        rows = table[(table["sample"].astype(str) == sample) & (table["place"].astype(str) == place)]
        first = rows[rows["channel"] == rows["channel"].min()] if len(rows) else rows
        parts.append(first.assign(predictor=name).sort_values("step"))
    lines = pd.concat(parts, ignore_index=True)
    shown: pd.DataFrame = lines.reindex(
        columns=["predictor", "step", "time", "value", "truth", "valid", "unread", *_QUANTILES]
    )
    return shown


def _said(words: pd.DataFrame, sample: str, place: str) -> pd.DataFrame:
    """All draws of one answer."""
    if words.empty:
        return words
    return words[(words["sample"].astype(str) == sample) & (words["place"].astype(str) == place)]


def _example(rank: str, sample: str, place: str, lines: pd.DataFrame, said: pd.DataFrame) -> Example:
    """With the words of the first draw; where an unreadable one is to be shown, of the first that is."""
    shown = said[said["unread_reason"].notna()] if rank == UNREADABLE else said
    first = {str(key): value for key, value in shown.iloc[0].items()} if len(shown) else None
    return Example(rank, sample, place, lines, first, draws=len(said))
