"""A caption of the visible part of a sample, computed from its values."""

import numpy as np

from st2llm.serialize.questions import generate_questions
from st2llm.types import DAY_S, Sample, seed_from

_MAX_CLAUSES = 8
_TOLERANCE = 0.02
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def caption(sample: Sample, *, seed: int = 0) -> str:
    """The caption of a sample, one clause for each question with an exact answer: `peak hour: 15:00; ...`.

    It has at most eight clauses of different topics, drawn by `seed` and the id of the sample, so that a sample always
    has the same caption. They follow the day of the week, for data with times of day, and the overall trend, for fields
    of several places. The caption does not depend on target entries.
    """
    questions = generate_questions(sample.without_truth(), seed=seed)
    order = np.random.default_rng(seed_from(f"{seed}\n{sample.id}")).permutation(len(questions))
    clauses: dict[str, str] = {}
    parts = _overall_clauses(sample)
    for i in order.tolist():
        question = questions[i]
        if question.topic in clauses or len(clauses) == _MAX_CLAUSES:
            continue
        where = ", ".join(sample.side.labels[node] for node in question.places[:2])
        unit = f" {question.unit}" if question.unit else ""
        clauses[question.topic] = (
            f"{question.topic.replace('-', ' ')}{f' ({where})' if where else ''}: {question.answer}{unit}"
        )
    parts += [clauses[topic] for topic in sorted(clauses)]
    return "; ".join(parts or ["nothing that could be told exactly"]) + "."


def _overall_clauses(sample: Sample) -> list[str]:
    """The day of the last visible step, the trend over all places, and the highest place."""
    visible = sample.visible & ~sample.wanted
    steps = np.flatnonzero(visible.any(axis=(1, 2)))
    if not len(steps):
        return []
    clauses = []
    if 0 < sample.side.freq_s <= DAY_S:
        clauses.append(f"last day: {_DAYS[int(sample.side.calendar.day_of_week[steps[-1]])]}")
    if len(sample.place) < 2 or sample.kind not in ("graph", "grid", "video"):
        return clauses
    values = np.where(visible, sample.values, np.nan)[steps, :, 0]
    half = len(steps) // 2
    comparable = np.isfinite(values[:half]).any(axis=0) & np.isfinite(values[half:]).any(axis=0)
    if half and comparable.any():
        before, after = (float(np.nanmean(part[:, comparable])) for part in (values[:half], values[half:]))
        change = abs(after - before)
        word = (
            "about the same"
            if change == 0 or change < _TOLERANCE * abs(before)
            else ("higher" if after > before else "lower")
        )
        clauses.append(f"all places, later half against earlier: {word}")
        clauses.append(f"highest place of all: {sample.side.labels[int(np.argmax(_place_means(values)))]}")
    return clauses


def _place_means(values: np.ndarray) -> np.ndarray:
    """The mean of the known values of each place, -inf where none is known."""
    finite = np.isfinite(values)
    total = np.where(finite, values, 0.0).sum(axis=0)
    return np.asarray(np.where(finite.any(axis=0), total / np.maximum(finite.sum(axis=0), 1), -np.inf))
