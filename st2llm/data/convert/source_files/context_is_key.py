"""Context is Key: each of its instances as a graph of one place with its texts as documents, and a card for it."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from st2llm.data import safe_open
from st2llm.errors import DataError
from st2llm.types import slug

_CITATION = (
    "Williams et al., Context is Key: A Benchmark for Forecasting with Essential Textual Information, 2025."
)
_LISTED = (
    "name",
    "history",
    "horizon",
    "region_of_interest",
    "metric_scaling",
    "weight",
    "lower",
    "upper",
    "upper_at",
)
"""The columns of `instances.csv`; `upper_at` holds `step:limit` pairs."""
_TEXTS = ("background", "scenario", "constraints")


@dataclass(frozen=True)
class Instance:
    """One instance.

    past, future: values by timestamp. texts: by name, without empty ones. region_of_interest: steps of the future that
    the text is about, from 0; empty for all. metric_scaling: the factor of the benchmark's CRPS. lower, upper: limits
    of all values of the future that the text states. upper_at: those of single steps, from 0.
    """

    name: str
    past: Mapping[str, float]
    future: Mapping[str, float]
    texts: Mapping[str, str]
    region_of_interest: tuple[int, ...]
    metric_scaling: float
    weight: float
    lower: float | None = None
    upper: float | None = None
    upper_at: Mapping[int, float] = field(default_factory=dict)


def read_instances(path: Path) -> Iterator[Instance]:
    """The instances of `tasks.jsonl`. Raises DataError for a line that holds none."""
    with safe_open.unpacked_stream(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                try:
                    yield _instance(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise DataError(
                        f"{path.name}: line {number} holds no instance of Context is Key "
                        f"({type(error).__name__}: {error}). Get the file again."
                    ) from error


def _instance(row: Mapping[str, Any]) -> Instance:
    region = row["region_of_interest"]
    return Instance(
        name=f"{slug(_words(row['name']))}-{row['seed']}",
        past=_series(row["past_time"]),
        future=_series(row["future_time"]),
        texts={name: str(row[name]) for name in _TEXTS if str(row[name] or "").strip()},
        region_of_interest=tuple(int(step) for step in region) if isinstance(region, list) else (),
        metric_scaling=float(row["metric_scaling"]),
        weight=_fraction(str(row["weight"])),
        lower=_limit(row.get("constraint_min")),
        upper=_limit(row.get("constraint_max")),
        upper_at={
            int(step): float(value)
            for step, value in zip(
                row.get("constraint_variable_max_index") or [],
                row.get("constraint_variable_max_values") or [],
                strict=True,
            )
        },
    )


def _limit(value: float | None) -> float | None:
    return None if value is None else float(value)


def _words(name: str) -> str:
    """`ATMBuildingClosedTask` as `ATM Building Closed Task`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)


def _fraction(text: str) -> float:
    upper, _, lower = text.partition("/")
    return float(upper) / float(lower or 1)


def _series(text: str) -> dict[str, float]:
    """The last column of a table, which is the one to forecast."""
    columns = json.loads(text)
    values = columns[list(columns)[-1]]
    return {
        str(timestamp): float("nan") if value is None else float(value) for timestamp, value in values.items()
    }


def convert(sources: Mapping[str, Path]) -> Mapping[str, str]:
    """For each instance a card, a csv of its series and a jsonl of its texts, and `instances.csv`, which lists them.

    The texts count as published at the last known step. Raises DataError for another file.
    """
    (path,) = sources.values()
    files: dict[str, str] = {}
    listed = [list(_LISTED)]
    for instance in read_instances(path):
        files |= _files(instance)
        listed.append(
            [
                instance.name,
                str(len(instance.past)),
                str(len(instance.future)),
                " ".join(map(str, instance.region_of_interest)),
                repr(instance.metric_scaling),
                repr(instance.weight),
                *("" if limit is None else repr(limit) for limit in (instance.lower, instance.upper)),
                " ".join(f"{step}:{value!r}" for step, value in instance.upper_at.items()),
            ]
        )
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(listed)
    return {**files, "instances.csv": text.getvalue()}


def _files(instance: Instance) -> dict[str, str]:
    name, history, horizon = instance.name, len(instance.past), len(instance.future)
    timestamps = [*instance.past, *instance.future]
    table = [["time", "series"]]
    table += [
        [timestamp, repr(value)]
        for series in (instance.past, instance.future)
        for timestamp, value in series.items()
    ]
    values = io.StringIO()
    csv.writer(values, lineterminator="\n").writerows(table)
    at = timestamps[history - 1]
    texts = list(instance.texts.values())[::-1]  # of one time, the last document of a table is shown first
    rows = [{"text": text, "published": _exact(at)} for text in texts]
    card = {
        "name": name,
        "kind": "graph",
        "values": f"{name}.csv",
        "time": "time",
        "freq": _freq(timestamps),
        "missing": ["nan"],
        "unit": "units",
        "side": {
            "documents": {
                "table": f"{name}.jsonl",
                "text": "text",
                "published": "published",
                "source": "context",
                "characters": 20_000,
            }
        },
        "split": {"train": 1.0},
        "default_task": {"forecast": {"history": history, "horizon": horizon}},
        "licence": "Apache-2.0",
        "citation": _CITATION,
        "leakage": "A public benchmark since 2024; language models may have seen series and texts.",
    }
    return {
        f"{name}.yaml": yaml.safe_dump(card, sort_keys=False, allow_unicode=True),
        f"{name}.csv": values.getvalue(),
        f"{name}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
    }


def _exact(timestamp: str) -> str:
    """The timestamp with a time of day, so that it is no whole day."""
    return pd.Timestamp(timestamp).isoformat()


def _freq(timestamps: list[str]) -> str:
    """The step as a card writes it: calendar months, or seconds."""
    seconds = np.diff(
        pd.to_datetime(timestamps, format="ISO8601").to_numpy().astype("datetime64[s]").astype(np.int64)
    )
    return f"{seconds[0]}s" if (seconds == seconds[0]).all() else "month"
