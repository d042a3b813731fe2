"""Predictions from a file: a table in the layout that `st2llm compare` writes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from st2llm.data import fetch, safe_open
from st2llm.data.read.table_format import TableFormat
from st2llm.data.read.whole_table import read_table
from st2llm.data.windows.fitted_on import FITTED_ON_KEY, NOT_FITTED, FittedOn, fitted_on_parts
from st2llm.errors import DataError, nearest
from st2llm.files import write_text
from st2llm.types import Prediction, Provenance, Sample

KEY_COLUMNS = ("sample", "place", "step", "channel")
QUANTILE_COLUMNS = {"q05": 0.05, "q50": 0.5, "q95": 0.95}
_NUMBER_COLUMNS = ("step", "channel", "value", *QUANTILE_COLUMNS)
_CSV = TableFormat(missing=("NaN", "nan", "NA"))
"""A csv file may hold an index without a name, and NaN for a missing value, as pandas writes them."""


@dataclass(frozen=True, eq=False)
class PredictionsFilePredictor:
    """Predicts from a table with a row for each wanted entry: sample, place, step, channel, value, perhaps q05 q50 q95.

    step counts from the first wanted step of the sample, channel from 0. A sample without any value counts as unread.
    fitted_on: of the model that made the table, as a parquet file that st2llm wrote says, or the file beside the table
    (`fitted_on_path`). Made by `read_predictions`.
    """

    name: str
    path: Path
    sha256: str
    tables: dict[str, pd.DataFrame]
    fitted_on: FittedOn

    def knows(self, samples: Sequence[Sample]) -> bool:
        """Whether the table has a row of any of these samples."""
        return any(sample.id in self.tables for sample in samples)

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """Raises DataError for a sample without rows, or an entry that is missing, twice in the table or not wanted."""
        missing = [sample.id for sample in samples if sample.id not in self.tables]
        if missing:
            hint = nearest(missing[0], self.tables) if self.tables else ""
            raise DataError(
                f"{self.path.name} has no rows of {len(missing)} of {len(samples)} samples, the first {missing[0]!r}. "
                f"{hint} `predictions/*.parquet` of any run of the suite shows which are asked for."
            )
        return [self._prediction(sample, self.tables[sample.id]) for sample in samples]

    def _prediction(self, sample: Sample, rows: pd.DataFrame) -> Prediction:
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
            rows_found = "no row" if not count[i, node, c] else f"{count[i, node, c]} rows"
            raise DataError(
                f"{self.path.name} has {rows_found} for {sample.id}, place {sample.place[node]!r}, "
                f"step {i - sample.first_wanted_step}, channel {c}, and so for {len(wrong)} entries. Each wanted entry "
                f"needs one."
            )
        at = (step, place, channel)
        value = _fill(sample, at, rows["value"])
        if not np.isfinite(value[sample.wanted]).any():
            return Prediction(None, unread_reason="no value in the file")
        quantiles = {
            level: _fill(sample, at, rows[name]) for name, level in QUANTILE_COLUMNS.items() if name in rows
        }
        complete = {level: q for level, q in quantiles.items() if np.isfinite(q[sample.wanted]).all()}
        return Prediction(value, quantiles=complete or None)


def read_predictions(path: Path, *, name: str) -> PredictionsFilePredictor:
    """A table in parquet or csv. Raises DataError for one that cannot be read or lacks a column."""
    table = (
        safe_open.parquet(path)
        if path.suffix == ".parquet"
        else read_table(path, _CSV, is_number=_NUMBER_COLUMNS.__contains__, ignored=("Unnamed: 0",))
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
    for key in ("step", "channel"):
        if (fraction := np.flatnonzero(table[key] % 1 != 0)).size:
            raise DataError(
                f"{path}: the column {key!r} should hold whole numbers, but row {int(fraction[0]) + 1} holds "
                f"{table[key].iloc[int(fraction[0])]}."
            )
        table[key] = table[key].astype(np.int64)
    groups = table.assign(sample=table["sample"].astype(str)).groupby("sample", sort=False)
    tables = {str(sample): rows for sample, rows in groups}
    return PredictionsFilePredictor(name, path, fetch.sha256_of(path), tables, _fitted_on(path))


def fitted_on_path(path: Path) -> Path:
    """The file beside a table of predictions that says what the model behind it was fitted on."""
    return path.with_name(f"{path.name}.fitted_on.json")


def write_fitted_on(path: Path, samples: Sequence[Sample]) -> None:
    """Writes beside a table of predictions what the model behind it was fitted on: these samples, [] for none.

    Validation samples that chose its state count. Raises StorageError where the file cannot be written.
    """
    content = json.dumps(fitted_on_parts({"": samples}, Provenance()).to_json(), indent=1)
    write_text(fitted_on_path(path), content + "\n")


def _fitted_on(path: Path) -> FittedOn:
    """What the model behind a table was fitted on. Raises DataError for a damaged record."""
    texts = {}
    if (
        path.suffix == ".parquet"
        and (text := safe_open.parquet_metadata(path).get(FITTED_ON_KEY)) is not None
    ):
        texts[f"{path}: its metadata {FITTED_ON_KEY}"] = text
    if (beside := fitted_on_path(path)).is_file():
        texts[str(beside)] = beside.read_text(encoding="utf-8", errors="replace")
    stated = [_read_fitted_on(text, where) for where, text in texts.items()]
    return sum(stated, NOT_FITTED) if stated else FittedOn(unknown=(f"the model behind {path.name}",))


def _read_fitted_on(text: str, where: str) -> FittedOn:
    try:
        return FittedOn.from_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON ({error}). Write the file again.") from error
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _fill(sample: Sample, at: tuple[np.ndarray, np.ndarray, np.ndarray], column: pd.Series) -> np.ndarray:
    values = np.full(sample.values.shape, np.nan)
    values[at] = column.to_numpy(dtype=np.float64)
    return values
