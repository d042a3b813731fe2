"""Anomaly detection: faults planted into readings, and how well a predictor's residuals find them.

A reading is the more suspicious the further it lies from what a predictor says of it, in units of that place's usual
residual on the training part. Thresholds come from there alone, and no hit is spread over its event (no point
adjustment: Kim et al., AAAI 2022, show that it makes random scores look good).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64
from sklearn.metrics import average_precision_score

from st2llm.data.windows import boundaries
from st2llm.errors import DataError
from st2llm.predict import Predictor
from st2llm.types import Sample, SensorGraph

Kind = Literal["spike", "stuck", "drift", "noise", "zero"]
KINDS: tuple[Kind, ...] = ("spike", "stuck", "drift", "noise", "zero")
"""One reading far off; the same reading again and again; a slow departure; a noisy spell; nothing at all."""
_LONGEST = {"spike": 1, "stuck": 12, "drift": 24, "noise": 12, "zero": 12}
_LEAST_SCALE = 1e-9


@dataclass(frozen=True)
class Fault:
    """Steps [start, stop) of one place."""

    kind: Kind
    node: int
    start: int
    stop: int


@dataclass(frozen=True)
class Detection:
    """How well faults were found.

    auprc: average precision over readings. f1, precision, recall: of events at the threshold; an alarm is a run of
    readings above it, a fault is found where an alarm touches it, an alarm is right where it touches a fault.
    base_rate: share of the readings that are faulty, which is the auprc of a guess. found: share found by kind.
    """

    auprc: float
    f1: float
    precision: float
    recall: float
    base_rate: float
    found: dict[str, float]


def plant_faults(data: SensorGraph, count: int, *, seed: int = 0) -> tuple[SensorGraph, tuple[Fault, ...]]:
    """The data with `count` faults in the test part alone, of all kinds in turn, none beside another of its place.

    Sizes are told by the place's own spread (standard deviation of the readings before the test part). Raises DataError
    where so many do not fit.
    """
    rng = np.random.default_rng(seed)
    begin = int(boundaries(data)[2])
    values, steps = data.values.copy(), len(data.time)
    taken = np.zeros(values.shape[:2], dtype=bool)
    spread = np.nanstd(values[:begin, :, 0], axis=0)
    found: list[Fault] = []
    for _ in range(100 * count):
        if len(found) == count:
            break
        kind = KINDS[len(found) % len(KINDS)]
        length = 1 if kind == "spike" else int(rng.integers(4, _LONGEST[kind] + 1))
        node = int(rng.integers(values.shape[1]))
        start = int(rng.integers(begin, max(begin + 1, steps - length)))
        span = slice(max(begin, start - 2), start + length + 2)
        before = values[start : start + length, node, 0]
        if (
            taken[span, node].any()
            or len(before) < length
            or not np.isfinite(before).all()
            or not spread[node]
        ):
            continue
        after = _broken(kind, before, spread[node], rng)
        if np.abs(after - before).max() < 0.25 * spread[node]:
            continue  # nobody could see it
        values[start : start + length, node, 0] = after
        taken[span, node] = True
        found.append(Fault(kind, node, start, start + length))
    if len(found) < count:
        raise DataError(
            f"{data.name}: {count} faults do not fit into the {steps - begin} steps of its test part, {len(found)} do. "
            f"Ask for fewer."
        )
    return replace(data, name=f"{data.name}-faults", values=values), tuple(found)


def _broken(
    kind: Kind, before: Float64[np.ndarray, " step"], spread: float, rng: np.random.Generator
) -> Float64[np.ndarray, " step"]:
    length, sign = len(before), float(rng.choice([-1.0, 1.0]))
    if kind == "spike":
        return np.asarray(before + sign * rng.uniform(2.0, 4.0) * spread)
    if kind == "stuck":
        return np.full(length, before[0])
    if kind == "drift":
        return np.asarray(before + sign * np.linspace(0.2, 2.0, length) * spread)
    if kind == "noise":
        return np.asarray(before + rng.normal(0.0, 1.5 * spread, length))
    return np.zeros(length)


def residuals(
    predictor: Predictor, samples: Sequence[Sample], data: SensorGraph
) -> Float64[np.ndarray, "time node"]:
    """How far readings lie from what the predictor says of them, NaN where nothing was asked or known.

    samples: windows of `data` whose asked steps do not overlap.
    """
    at = {int(t): i for i, t in enumerate(data.time)}
    found = np.full(data.values.shape[:2], np.nan)
    answers = predictor.predict([sample.without_truth() for sample in samples])
    for sample, answer in zip(samples, answers, strict=True):
        if answer.value is None or sample.truth is None:
            continue
        away = np.where(sample.wanted, np.abs(sample.truth - answer.value), np.nan)[:, :, 0]
        rows = np.array([at[int(t)] for t in sample.time])
        asked = sample.wanted.any(axis=(1, 2))
        found[rows[asked]] = away[asked]
    return found


def suspicion(
    away: Float64[np.ndarray, "time node"], usual: Float64[np.ndarray, "time node"]
) -> Float64[np.ndarray, "time node"]:
    """Residuals in units of the median residual of each place on the training part."""
    return np.asarray(away / np.maximum(np.nanmedian(usual, axis=0), _LEAST_SCALE))


def detect(score: Float64[np.ndarray, "time node"], threshold: float, faults: Sequence[Fault]) -> Detection:
    """Marks scores against faults; readings without a score count nowhere. Raises DataError without a fault."""
    faulty = np.zeros(score.shape, dtype=bool)
    for fault in faults:
        faulty[fault.start : fault.stop, fault.node] = True
    known = np.isfinite(score)
    seen = [f for f in faults if known[f.start : f.stop, f.node].any()]
    if not seen:
        raise DataError(
            "No fault lies where the predictor was asked. Ask about the test part that holds them."
        )
    alarm = known & (np.nan_to_num(score) > threshold)
    right, alarms = _touching(alarm, faulty)
    found = {f: bool(alarm[f.start : f.stop, f.node].any()) for f in seen}
    precision, recall = right / max(alarms, 1), float(np.mean(list(found.values())))
    by_kind: dict[str, float] = {
        kind: float(np.mean([hit for f, hit in found.items() if f.kind == kind]))
        for kind in KINDS
        if any(f.kind == kind for f in seen)
    }
    return Detection(
        auprc=float(average_precision_score(faulty[known], score[known])),
        f1=2 * precision * recall / max(precision + recall, 1e-12),
        precision=precision,
        recall=recall,
        base_rate=float(faulty[known].mean()),
        found=by_kind,
    )


def _touching(alarm: Bool[np.ndarray, "time node"], faulty: Bool[np.ndarray, "time node"]) -> tuple[int, int]:
    """How many runs of alarms touch a fault, and how many runs there are."""
    right = total = 0
    for node in range(alarm.shape[1]):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], alarm[:, node].astype(np.int8), [0]])))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            total += 1
            right += bool(faulty[begin:end, node].any())
    return right, total
