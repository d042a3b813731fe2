"""The finished arms of a task: results and predictions, as the run folder holds them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from st2llm.config.suite import Suite
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.evaluate.scoring.channels import ChannelScales, selection_metric
from st2llm.metrics import with_channels


class PredictionTables(Mapping[str, pd.DataFrame]):
    """The predictions of finished arms by key, read on access; the latest `keep` stay in memory.

    read: reads the table of a key. One table may have millions of rows.
    """

    def __init__(self, keys: Sequence[str], read: Callable[[str], pd.DataFrame], keep: int = 3) -> None:
        self.keys_of_arms, self.read, self.keep = tuple(keys), read, keep
        self._kept: dict[str, pd.DataFrame] = {}

    def __getitem__(self, key: str) -> pd.DataFrame:
        if key not in self._kept:
            if len(self._kept) >= self.keep:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = self.read(key)
        return self._kept[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_of_arms)

    def __len__(self) -> int:
        return len(self.keys_of_arms)


@dataclass(frozen=True)
class FinishedArms:
    """The finished arms of one task.

    results: the files of arms/, one per predictor and seed. predictions: their prediction tables by key. validation:
    the same for validation windows, of the arms whose `validation_windows` is not None. validation_totals: metric
    totals of each predictor, seed, sample and place on validation; None where they are not computed yet. cut_from: the
    whole object of each object that is a part of one (a trip), by id. channels: what is measured, where there are
    several.
    """

    suite: Suite
    timezone: str
    results: list[dict[str, Any]]
    predictions: Mapping[str, pd.DataFrame]
    validation: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    validation_totals: pd.DataFrame | None = None
    cut_from: Mapping[str, str] = field(default_factory=dict)
    channels: ChannelScales = field(default_factory=ChannelScales)

    @property
    def selection_metric(self) -> str:
        """The metric on validation that predictors and references are selected by."""
        return selection_metric(self.suite, self.channels)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the task; an arm may lack some of them."""
        name = self.results[0]["task"]
        task = next((task for task in self.suite.tasks if task.name == name), self.suite.tasks[0])
        return with_channels(self.suite.metrics_of(task), self.channels.names)

    def of(self, predictor: str) -> list[dict[str, Any]]:
        """The results of one predictor, one per seed."""
        return [result for result in self.results if result["predictor"] == predictor]

    @property
    def predictors(self) -> list[str]:
        """The predictors with a finished arm, in the order of the suite."""
        return [p.name for p in self.suite.predictors if self.of(p.name)]


def load_arms(store: RunStore, suite: Suite, task: str, data: Mapping[str, Any]) -> FinishedArms:
    """The finished arms of a run on one task. data: the summary of the data in the run card."""
    results = [result for result in store.arms() if result["task"] == task]
    predictions = PredictionTables([result["key"] for result in results], store.predictions)
    validated = [result["key"] for result in results if result.get("validation_windows")]
    return FinishedArms(
        suite,
        data["timezone"],
        results,
        predictions,
        PredictionTables(validated, store.validation),
        cut_from=data.get("cut_from", {}),
        channels=ChannelScales.from_json(data),
    )
