"""Scores of all points side by side: gains between points, and of one predictor over another at every point."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float64

from st2llm.config.suite import Suite
from st2llm.evaluate.curve.points import Point
from st2llm.evaluate.run_folder.reading import read_record, read_table
from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.scoring.gains.gain import UNORDERED_BLOCKS, Scores
from st2llm.evaluate.scoring.gains.influence import gain_influence, relative_gain
from st2llm.metrics import is_higher_better


@dataclass(frozen=True)
class PairedScores:
    """The scores of one task at all points of a curve; `name` at point i is `name@i` in the table.

    suites: of the points, as their runs hold them, with the primary metric of the data.
    """

    suites: tuple[Suite, ...]
    table: Scores

    @property
    def metric(self) -> str:
        return self.suites[0].primary_metric

    @property
    def is_ordered(self) -> bool:
        """Whether blocks are in the order of time."""
        return self.table.block not in UNORDERED_BLOCKS

    def change(self, name: str, point: int) -> Gain | None:
        """The gain of a predictor at a point over itself at the first one; None on other test windows."""
        return self.gain((name, point), (name, 0))

    def change_of_windows(self, name: str, point: int) -> Gain | None:
        """The gain of a predictor on the test windows of a point over itself on those of the first one.

        The two have no windows in common, so their errors count as independent: the interval is that of a ratio (of a
        difference of scores), by the delta method from the half widths of both. That both share training
        runs is left out of account. None where a point has no error.
        """
        arms, higher = [f"{name}@{i}" for i in (point, 0)], is_higher_better(self.metric)
        now, first = (self.table.estimate(self.metric, arm) for arm in arms)
        if now.value is None or first.value is None or (first.value == 0 and not higher):
            return None
        value = relative_gain(now.value, first.value, higher=higher)
        halves = [
            None if each.low is None or each.high is None else (each.high - each.low) / 2
            for each in (now, first)
        ]
        low = high = None
        if halves[0] is not None and halves[1] is not None:
            ratio = 1.0 if higher else now.value / first.value
            scale = 1.0 if higher else 1 / first.value
            half = scale * float(np.hypot(halves[0], ratio * halves[1]))
            low, high = value - half, value + half
        blocks = min(self.table.totals(arm, sorted(self.table.samples(arm))).shape[1] for arm in arms)
        return Gain(arms[1], value, low, high, blocks, None)

    def gain(self, one: tuple[str, int], other: tuple[str, int]) -> Gain | None:
        """The gain of one predictor at a point over another; None where they answered other windows."""
        better, reference = (f"{name}@{point}" for name, point in (one, other))
        if not self._same_windows([better, reference]):
            return None
        return self.table.gain(self.metric, better, reference)

    def influence(self, name: str, reference: str, point: int) -> Float64[np.ndarray, "seed block"] | None:
        """Influence values of a gain at a point; None where the two share no windows or seeds."""
        one, other = f"{name}@{point}", f"{reference}@{point}"
        if not self._same_windows([one, other]):
            return None
        samples = sorted(self.table.samples(one))
        seeds = sorted({*self.table.seeds(one)} | {*self.table.seeds(other)})
        totals = [self.table.totals(arm, samples).repeated(max(len(seeds), 1)) for arm in (one, other)]
        return gain_influence(self.metric, *totals) if totals[0].shape == totals[1].shape else None

    def _same_windows(self, names: Sequence[str]) -> bool:
        samples = [self.table.samples(name) for name in names]
        return bool(samples[0]) and samples[0] == samples[1]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The predictors that every point has."""
        of_points = [{predictor.name for predictor in suite.predictors} for suite in self.suites]
        shared = set.intersection(*of_points)
        return tuple(p.name for p in self.suites[0].predictors if p.name in shared)


def read_paired(points: Sequence[Point], tasks: Sequence[str]) -> PairedScores:
    """The scores of a task from the run folders. tasks: its name at each point, which differs where the axis is one of
    its settings. Raises DataError where a folder is damaged.
    """
    suites, tables, trained = [], [], set()
    for i, (point, task) in enumerate(zip(points, tasks, strict=True)):
        suite = Suite.model_validate(read_record(point.folder / "run.json", ("config",))["config"])
        table = read_table(point.folder / "scores.parquet")
        table = table[table["task"] == task]
        tables.append(table.assign(predictor=table["predictor"].astype(str) + f"@{i}"))
        trained |= {f"{p.name}@{i}" for p in suite.predictors if suite.fitted_by_seed(p)}
        suites.append(suite)
    first = suites[0]
    scores = Scores(
        pd.concat(tables, ignore_index=True),
        frozenset(trained),
        str(first.bootstrap.block),
        first.equivalence_margin,
    )
    return PairedScores(tuple(suites), scores)
