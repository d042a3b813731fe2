"""Predictions that somebody made elsewhere, read from a table in the layout that a comparison writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from st2llm.data import fetch, safe_open
from st2llm.errors import DataError, nearest
from st2llm.types import Prediction, Sample

KEY_COLUMNS = ("sample", "place", "step", "channel")
QUANTILE_COLUMNS = {"q05": 0.05, "q50": 0.5, "q95": 0.95}


@dataclass(frozen=True, eq=False)
class PredictionsFilePredictor:
    """Answers from a table with a row for each asked entry: sample, place, step, channel, value, perhaps q05 q50 q95.

    step counts from the first asked step of the sample, channel from 0. A value that is not there is an answer that
    could not be read. Made by `read`.
    """

    name: str
    path: Path
    sha256: str
    tables: dict[str, pd.DataFrame]

    def knows(self, samples: Sequence[Sample]) -> bool:
        """Whether there is a row of any of these samples."""
        return any(sample.id in self.tables for sample in samples)

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """Raises DataError for a sample without rows, or an entry that is missing, twice there or not asked for."""
        lost = [sample.id for sample in samples if sample.id not in self.tables]
        if lost:
            hint = nearest(lost[0], self.tables) if self.tables else ""
            raise DataError(
                f"{self.path.name} has no rows of {len(lost)} of {len(samples)} samples, the first {lost[0]!r}. {hint} "
                f"`predictions/*.parquet` of any run of the suite shows which are asked for."
            )
        return [self._answer(sample, self.tables[sample.id]) for sample in samples]

    def _answer(self, sample: Sample, rows: pd.DataFrame) -> Prediction:
        place = pd.Index(sample.place).get_indexer(pd.Index(rows["place"].astype(str)))
        step = rows["step"].to_numpy(dtype=np.int64) + sample.first_wanted_step
        channel = rows["channel"].to_numpy(dtype=np.int64)
        steps, _, channels = sample.values.shape
        count = np.zeros(sample.values.shape, dtype=np.int64)
        inside = (place >= 0) & (step >= 0) & (step < steps) & (channel >= 0) & (channel < channels)
        inside[inside] = sample.wanted[step[inside], place[inside], channel[inside]]
        if not inside.all():
            row = rows.iloc[int(np.flatnonzero(~inside)[0])]
            raise DataError(
                f"{self.path.name}: nothing is asked of {sample.id} at place {row['place']!r}, step {row['step']}, "
                f"channel {row['channel']}. Leave that row out, or correct it."
            )
        np.add.at(count, (step, place, channel), 1)
        if (wrong := np.argwhere((count != 1) & sample.wanted)).size:
            i, node, c = wrong[0].tolist()
            said = "no row" if not count[i, node, c] else f"{count[i, node, c]} rows"
            raise DataError(
                f"{self.path.name} has {said} for {sample.id}, place {sample.place[node]!r}, "
                f"step {i - sample.first_wanted_step}, channel {c}, and so for {len(wrong)} entries. Each asked entry "
                f"needs one."
            )
        at = (step, place, channel)
        value = _filled(sample, at, rows["value"])
        if not np.isfinite(value[sample.wanted]).any():
            return Prediction(None, unread_reason="no value in the file")
        found = {
            share: _filled(sample, at, rows[name]) for name, share in QUANTILE_COLUMNS.items() if name in rows
        }
        known = {share: one for share, one in found.items() if np.isfinite(one[sample.wanted]).all()}
        return Prediction(value, quantiles=known or None)


def read_predictions(path: Path, *, name: str) -> PredictionsFilePredictor:
    """A table in parquet or csv. Raises DataError for one that cannot be read or lacks a column."""
    table = (
        safe_open.parquet(path)
        if path.suffix == ".parquet"
        else safe_open.csv(path, text=("sample", "place"))
    )
    for key in (*KEY_COLUMNS, "value"):
        if key not in table:
            raise DataError(
                f"{path} has no column {key!r}, but {', '.join(map(str, table.columns))}. A table of predictions has "
                f"{', '.join(KEY_COLUMNS)}, value."
            )
    for key in ("step", "channel", "value"):
        if not pd.api.types.is_numeric_dtype(table[key]) or (key != "value" and table[key].isna().any()):
            raise DataError(f"{path}: the column {key!r} should hold numbers in every row, but it does not.")
    groups = table.assign(sample=table["sample"].astype(str)).groupby("sample", sort=False)
    return PredictionsFilePredictor(
        name, path, fetch.sha256_of(path), {str(sample): rows for sample, rows in groups}
    )


def _filled(sample: Sample, at: tuple[np.ndarray, np.ndarray, np.ndarray], column: pd.Series) -> np.ndarray:
    whole = np.full(sample.values.shape, np.nan)
    whole[at] = column.to_numpy(dtype=np.float64)
    return whole
