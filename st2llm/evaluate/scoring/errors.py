"""Mean errors of predictions, by step and by place."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from st2llm.evaluate.run_folder.reading import read_table
from st2llm.evaluate.scoring.channels import ONE_CHANNEL, ChannelScales

NEEDED_COLUMNS = ["sample", "place", "step", "channel", "time", "value", "truth", "valid", "unread"]
QUANTILE_COLUMNS = ["q05", "q95"]
LABEL_COLUMNS = ["part", "rank", "label", "answer"]


@dataclass(frozen=True)
class MeanErrors:
    """Mean errors of one predictor over all seeds and readable answers, in raw units; in spreads of their channel where
    the units of channels differ.

    The error of a value is its absolute error, that of a position its Euclidean distance from the truth.
    """

    by_step: pd.Series
    by_place: pd.Series


def read_predictions(path: Path) -> pd.DataFrame:
    """Reads one predictions file (long form): those columns of it that reports need."""
    table = read_table(path, (*NEEDED_COLUMNS, *QUANTILE_COLUMNS, *LABEL_COLUMNS))
    return table if "part" in table else table.assign(part="value")


def mean_errors(paths: Sequence[Path], channels: ChannelScales = ONE_CHANNEL) -> MeanErrors | None:
    """Mean errors over the prediction files of one predictor, one a seed; None without a readable prediction."""
    tables = []
    for path in paths:
        table = read_predictions(path)
        kept = entry_errors(table[table["valid"] & ~table["unread"]], channels)
        tables.append(kept[["place", "step", "error"]])
    if not tables or all(table.empty for table in tables):
        return None
    errors = pd.concat(tables)
    return MeanErrors(
        errors.groupby("step")["error"].mean(), errors.groupby("place", observed=True)["error"].mean()
    )


def entry_errors(table: pd.DataFrame, channels: ChannelScales) -> pd.DataFrame:
    """The error of each entry and the magnitude of its truth. x and y of a step are one entry; labels are left out.

    channels: those of the data; where the units of those in the table differ, both are in spreads of their channel.
    """
    values = channels.comparable(table[table["part"] == "value"])
    entries = values.assign(error=(values["value"] - values["truth"]).abs(), size=values["truth"].abs())
    steps = path_steps(table)
    if len(steps):
        distance = np.hypot(steps["x"] - steps["true_x"], steps["y"] - steps["true_y"])
        entries = steps.assign(error=distance, size=1.0)
    finite: pd.DataFrame = entries[np.isfinite(entries["error"])]
    return finite


def path_steps(table: pd.DataFrame) -> pd.DataFrame:
    """Positions, one row per step: sample, place, step, time, x, y, true_x, true_y. Empty where there are none."""
    sides = []
    for name in ("x", "y"):
        side = table[table["part"] == name].astype({"sample": str, "place": str})
        columns = {"value": name, "truth": f"true_{name}"}
        sides.append(side[["sample", "place", "step", "time", *columns]].rename(columns=columns))
    if sides[0].empty:
        return pd.DataFrame()
    return sides[0].merge(sides[1], on=["sample", "place", "step", "time"], validate="one_to_one")
