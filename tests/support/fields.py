"""Small windows of a made-up field: hourly values at a few places, with gaps and notes where asked."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from st2llm.data.calendar import calendar_of
from st2llm.types import Edges, Sample, Side

MONDAY = 1_704_067_200  # 2024-01-01 00:00 UTC
EDGES = Edges(np.array([0, 1, 1, 2]), np.array([1, 0, 2, 1]), np.array([1.0, 0.5, 0.25, 1.0]))


def series(steps: int, nodes: int = 3, *, seed: int = 0) -> np.ndarray:
    """Values [time, node, 1] with a daily wave, a level of each place's own and some noise."""
    hour = np.arange(steps)[:, None]
    level = 50 + 20 * np.arange(nodes)
    noise = np.random.default_rng(seed).normal(0, 3, (steps, nodes))
    return (level + 15 * np.sin(hour * 2 * np.pi / 24 + np.arange(nodes)) + noise)[:, :, None]


def windows(
    values: np.ndarray,
    *,
    history: int,
    horizon: int,
    stride: int = 1,
    first: int = MONDAY,
    freq_s: int = 3600,
) -> list[Sample]:
    """Forecast samples of all windows of the values [time, node, channel], oldest first; NaN is missing."""
    length = history + horizon
    starts = range(0, len(values) - length + 1, stride)
    return [_sample(values[s : s + length], history, first + s * freq_s, freq_s) for s in starts]


def noted(samples: Sequence[Sample], notes: Sequence[str]) -> list[Sample]:
    """The samples with one note each ('' for none)."""
    return [
        replace(sample, side=replace(sample.side, notes=(note,) if note else ()))
        for sample, note in zip(samples, notes, strict=True)
    ]


def with_truth(sample: Sample, truth: np.ndarray | float) -> Sample:
    """The sample with another answer at its asked entries."""
    return replace(sample, truth=np.where(sample.wanted, truth, np.nan))


def _sample(values: np.ndarray, history: int, first: int, freq_s: int) -> Sample:
    length, nodes, _ = values.shape
    time = first + freq_s * np.arange(length, dtype=np.int64)
    hidden = np.zeros(values.shape, dtype=bool)
    hidden[history:] = True
    visible = ~hidden & np.isfinite(values)
    return Sample(
        id=f"made-up/{first}",
        kind="graph",
        values=np.where(visible, values, np.nan),
        visible=visible,
        wanted=hidden,
        time=time,
        place=tuple(f"place-{node}" for node in range(nodes)),
        side=Side(
            dataset="made-up",
            unit="people",
            timezone="UTC",
            freq_s=freq_s,
            calendar=calendar_of(time, "UTC", freq_s=freq_s),
            labels=tuple(f"Place {node}" for node in range(nodes)),
            neighbours=tuple(() for _ in range(nodes)),
            quantity="people an hour",
        ),
        truth=np.where(hidden, values, np.nan),
    )
