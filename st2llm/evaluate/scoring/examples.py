"""Samples that a report shows as examples, chosen by the quantile of their error."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from st2llm.evaluate.run_folder.results import RunResults, read_answers
from st2llm.evaluate.scoring.channels import ChannelScales
from st2llm.evaluate.scoring.errors import (
    LABEL_COLUMNS,
    NEEDED_COLUMNS,
    QUANTILE_COLUMNS,
    entry_errors,
    path_steps,
    read_predictions,
)
from st2llm.evaluate.scoring.score_table import with_all_columns

EXAMPLES = (("a good one", 0.1), ("a typical one", 0.5), ("a bad one", 0.9))
"""Names of the examples and the quantiles of relative error at which they are taken."""
UNREADABLE = "unreadable"
"""The rank of an example whose answer could not be parsed."""


@dataclass(frozen=True)
class Example:
    """The predictions for one sample and place beside the truth.

    lines: one row per predictor and step with predictor, step, time, value, truth, q05, q95; for paths also x, y,
    true_x, true_y; for labels also label and answer.
    answer: the row of the answers file where a language model was prompted: prompt, answer, unread_reason, tokens,
    seconds. draws: the number of answers drawn for that prompt.
    """

    rank: str
    sample: str
    place: str
    lines: pd.DataFrame
    answer: dict[str, object] | None
    draws: int = 1


def choose_examples(
    results: RunResults, task: str, *, predictors: Sequence[str], quoted: str | None
) -> list[Example]:
    """A good, a typical and a bad prediction of the first predictor by relative error, and one unreadable answer.

    quoted: the text predictor whose answers are attached; examples are then taken from the samples that it answered.
    """
    files = {name: results.files("predictions", name, task, suffix=".parquet")[:1] for name in predictors}
    tables = {name: read_predictions(paths[0]) for name, paths in files.items() if paths}
    lead = next((name for name in predictors if name in tables), None)
    if lead is None:
        return []
    answers = pd.DataFrame()
    if quoted in tables:
        seed = _seed(files[str(quoted)][0], str(quoted))
        paths = results.files("answers", str(quoted), task, suffix=".jsonl")
        answers = read_answers([path for path in paths if _seed(path, str(quoted)) == seed])
    chosen = _choose(tables[lead], answers, ChannelScales.from_json(results.data))
    return [
        _example(rank, sample, place, _lines(tables, sample, place), _answers_for(answers, sample, place))
        for rank, sample, place in chosen
    ]


def _seed(path: Path, predictor: str) -> str:
    return re.sub(r"\..*", "", path.name[len(predictor) + 1 :])


def _choose(
    table: pd.DataFrame, answers: pd.DataFrame, channels: ChannelScales
) -> list[tuple[str, str, str]]:
    """Ranks, samples and places of the examples."""
    relative = _relative_errors(table, channels)
    unread_examples: list[tuple[str, str, str]] = []
    if not answers.empty:
        entries = table[["sample", "place"]].astype(str).drop_duplicates()
        # An answer about several places at once counts for each of them.
        answered = pd.MultiIndex.from_frame(
            pd.concat([answers[["sample", "place"]].astype(str), _per_place(answers, entries)])
        )
        unreadable = answers[answers["unread_reason"].notna()].head(1)
        unread_examples = [
            (UNREADABLE, str(s), str(p)) for s, p in _per_place(unreadable, entries, alone=True)
        ]
        keys = pd.MultiIndex.from_tuples(
            [(str(s), str(p)) for s, p in relative.index], names=["sample", "place"]
        )
        relative = relative[keys.isin(answered)]
    if relative.empty:
        return unread_examples
    at = [(rank, round(share * (len(relative) - 1))) for rank, share in EXAMPLES]
    picked = [(rank, *(str(part) for part in relative.index[i])) for rank, i in at]
    return [(rank, sample, place) for rank, sample, place in picked] + unread_examples


def _relative_errors(table: pd.DataFrame, channels: ChannelScales) -> pd.Series:
    """By sample and place, the best first: error as a share of the truth's size, or the rank of the true label."""
    labels = table[(table["part"] == "label") & table["valid"]]
    labels = labels[labels["rank"].notna()] if len(labels) else labels
    if len(labels):
        return labels.groupby(["sample", "place"], observed=True)["rank"].max().sort_values(kind="stable")
    kept = entry_errors(table[table["valid"] & np.isfinite(table["value"])], channels)
    sums = kept.groupby(["sample", "place"], observed=True)[["error", "size"]].sum()
    return (sums["error"] / sums["size"]).fillna(0.0).sort_values(kind="stable")


def _per_place(answers: pd.DataFrame, entries: pd.DataFrame, *, alone: bool = False) -> Any:
    """(sample, place) pairs of answers about several places at once; with `alone`, one pair for each answer."""
    rows = answers[["sample", "place"]].astype(str)
    shared = rows[rows["place"] == ""][["sample"]].drop_duplicates().merge(entries, on="sample")
    if not alone:
        return shared
    pairs = pd.concat([rows[rows["place"] != ""], shared.drop_duplicates("sample")])
    return pairs.itertuples(index=False, name=None)


def _lines(tables: dict[str, pd.DataFrame], sample: str, place: str) -> pd.DataFrame:
    parts = []
    for name, table in tables.items():
        rows = table[(table["sample"] == sample) & (table["place"] == place)]
        rows = with_all_columns(rows)[[*NEEDED_COLUMNS, *QUANTILE_COLUMNS, *LABEL_COLUMNS]]
        path = path_steps(rows)
        if len(path):
            parts.append(path.assign(predictor=name).sort_values("step"))
            continue
        first = rows[rows["channel"] == rows["channel"].min()] if len(rows) else rows
        parts.append(first.assign(predictor=name).sort_values("step"))
    lines = pd.concat(parts, ignore_index=True)
    columns = [
        "predictor",
        "step",
        "channel",
        "time",
        "value",
        "truth",
        "valid",
        "unread",
        *QUANTILE_COLUMNS,
        *LABEL_COLUMNS,
    ]
    paths = ["x", "y", "true_x", "true_y"] if "true_x" in lines else []
    ordered: pd.DataFrame = lines.reindex(columns=[*columns, *paths])
    return ordered


def _answers_for(answers: pd.DataFrame, sample: str, place: str) -> pd.DataFrame:
    """All draws of one answer."""
    if answers.empty:
        return answers
    return answers[(answers["sample"].astype(str) == sample) & answers["place"].astype(str).isin([place, ""])]


def _example(rank: str, sample: str, place: str, lines: pd.DataFrame, draws: pd.DataFrame) -> Example:
    """An example with its first draw, or its first unreadable draw where an unreadable answer is shown."""
    candidates = draws[draws["unread_reason"].notna()] if rank == UNREADABLE else draws
    first = {str(key): value for key, value in candidates.iloc[0].items()} if len(candidates) else None
    return Example(rank, sample, place, lines, first, draws=len(draws))
