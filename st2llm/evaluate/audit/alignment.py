"""Lays audited predictions beside the true values, and refuses what cannot be one prediction for each entry."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64

from st2llm.data.calendar import local_iso
from st2llm.errors import DataError, nearest
from st2llm.evaluate.audit.problem import Problem, Valid, Values, positions


@dataclass(frozen=True, eq=False)
class Aligned:
    """Predictions in raw units beside the truth, windows oldest first.

    origins: the first predicted step of each window, as an index of time. value: NaN where the file has no row. truth:
    NaN where the reading is missing. own_truth: as the file has it, if it has any. padded: how often the last window is
    repeated. missing: the number of entries with a truth that the windows of the file lack.
    """

    origins: Int64[np.ndarray, " window"]
    value: Values
    truth: Values
    own_truth: Values | None
    padded: int

    @property
    def valid(self) -> Valid:
        """The entries that are scored."""
        return np.asarray(np.isfinite(self.truth) & np.isfinite(self.value))

    @property
    def missing(self) -> int:
        return int((np.isfinite(self.truth) & ~np.isfinite(self.value)).sum())

    def at(self, origins: Int64[np.ndarray, " window"]) -> "Aligned":
        """The windows among these origins."""
        keep = np.flatnonzero(positions(self.origins, origins) >= 0)
        own = None if self.own_truth is None else self.own_truth[keep]
        return Aligned(self.origins[keep], self.value[keep], self.truth[keep], own, self.padded)


def align(table: pd.DataFrame, problem: Problem) -> Aligned:
    """The predictions of a table (`read_audited`) beside the truth.

    Raises DataError for times, places, steps and channels that the problem does not have, for values that are not
    finite where there is a truth, and for entries that occur twice, unless they are copies of the last window.
    """
    origin = _origin_steps(table, problem)
    origins, window = np.unique(origin, return_inverse=True)
    shape = (len(origins), problem.task.horizon, int(problem.asked.sum()))
    entry = np.ravel_multi_index((window, _steps(table, problem), _series(table, problem)), shape)
    padded = _padding(table, problem, entry, origins[window], shape[1] * shape[2])
    truth = problem.truth(origins)
    value = _filled(entry, table["value"], shape)
    _check_finite(table, problem, entry, truth)
    own = _filled(entry, table["truth"], shape) if "truth" in table else None
    return Aligned(origins, value, truth, own, padded)


def _filled(entry: np.ndarray, column: pd.Series, shape: tuple[int, int, int]) -> Values:
    values = np.full(int(np.prod(shape)), np.nan)
    values[entry] = column.to_numpy(dtype=np.float64)
    return np.asarray(values.reshape(shape), dtype=np.float64)


def _origin_steps(table: pd.DataFrame, problem: Problem) -> Int64[np.ndarray, " row"]:
    data = problem.data
    step = positions(table["origin"].to_numpy(), data.time)
    last = len(data.time) - problem.task.horizon
    wrong = (step < 0) | (step > last)
    if wrong.any():
        shown = local_iso(int(table["origin"].iloc[int(np.flatnonzero(wrong)[0])]), data.timezone)
        ends = [local_iso(int(data.time[i]), data.timezone) for i in (0, last)]
        raise DataError(
            f"{len(np.unique(table['origin'][wrong])):,} windows begin at a time at which {data.name} has no forecast "
            f"of {problem.task.horizon} steps, the first {shown}. Forecasts begin from {ends[0]} to {ends[1]}, every "
            f"{data.freq_s} s. `origin` is the time of the first predicted step; another time zone is named with "
            f"--timezone."
        )
    return np.asarray(step, dtype=np.int64)


def _steps(table: pd.DataFrame, problem: Problem) -> Int64[np.ndarray, " row"]:
    step, horizon = table["step"].to_numpy(), problem.task.horizon
    if step.min() < 0 or step.max() >= horizon:
        hint = " Subtract 1." if step.min() == 1 and step.max() == horizon else ""
        raise DataError(
            f"Steps should be from 0 to {horizon - 1} in {problem.task.name}, but the file has {step.min()} to "
            f"{step.max()}.{hint} Or name another --task."
        )
    return np.asarray(step, dtype=np.int64)


def _series(table: pd.DataFrame, problem: Problem) -> Int64[np.ndarray, " row"]:
    """The number of the series that each row is of."""
    codes, names = pd.factorize(table["place"])
    nodes = pd.Index(problem.places).get_indexer(pd.Index(names))
    if (nodes < 0).any():
        unknown = [str(name) for name, node in zip(names, nodes, strict=True) if node < 0]
        raise DataError(
            f"{problem.data.name} has no place {unknown[0]!r}, and so for {len(unknown)} of {len(names)} places of the "
            f"file. {nearest(unknown[0], problem.places)} `st2llm data show {problem.data.name}` lists them."
        )
    number = np.full(problem.asked.shape, -1)
    number[problem.asked] = np.arange(problem.asked.sum())
    channel = _channels(table, problem)
    series = number[nodes[codes], channel]
    if (series < 0).any():
        row = table.iloc[int(np.flatnonzero(series < 0)[0])]
        raise DataError(
            f"{problem.task.name} of {problem.data.name} does not ask for place {row['place']!r}"
            f"{', channel ' + str(row['channel']) if 'channel' in table else ''}: it has no reading in training, or it "
            f"is an input alone. Leave such rows out."
        )
    return np.asarray(series, dtype=np.int64)


def _channels(table: pd.DataFrame, problem: Problem) -> Int64[np.ndarray, " row"]:
    asked = np.flatnonzero(problem.asked.any(axis=0))
    if "channel" not in table:
        if len(asked) > 1:
            names = ", ".join(f"{i} {problem.data.channels[i]}" for i in asked)
            raise DataError(
                f"{problem.data.name} has several channels ({names}), so the file needs a column `channel`."
            )
        return np.full(len(table), asked[0], dtype=np.int64)
    channel = table["channel"].to_numpy(dtype=np.int64)
    if channel.min() < 0 or channel.max() >= problem.asked.shape[1]:
        raise DataError(
            f"Channels are numbered from 0 to {problem.asked.shape[1] - 1} in {problem.data.name}, but the file has "
            f"{channel.min()} to {channel.max()}."
        )
    return channel


def _padding(
    table: pd.DataFrame, problem: Problem, entry: np.ndarray, origin: np.ndarray, entries: int
) -> int:
    """How often the last window is repeated, as padding does. Raises DataError for any other repeated entry."""
    repeated = pd.Series(entry).duplicated(keep=False).to_numpy()
    if not repeated.any():
        return 0
    last = origin == origin.max()
    copies = pd.Series(table["value"].to_numpy()[last]).groupby(entry[last])
    counts = copies.size()
    is_padding = (
        not repeated[~last].any() and counts.nunique() == 1 and (copies.nunique(dropna=False) == 1).all()
    )
    if not is_padding:
        row = table.iloc[int(np.flatnonzero(repeated)[0])]
        raise DataError(
            f"{len(np.unique(entry[repeated])):,} entries occur twice or more, the first at "
            f"{local_iso(int(row['origin']), problem.data.timezone)}, place {row['place']!r}, step {row['step']}. Each "
            f"window, place, step and channel needs one row; copies of the last window alone are read as padding."
        )
    return int(counts.iloc[0]) - 1


def _check_finite(table: pd.DataFrame, problem: Problem, entry: np.ndarray, truth: Values) -> None:
    wrong = ~np.isfinite(table["value"].to_numpy(dtype=np.float64)) & np.isfinite(truth.ravel()[entry])
    if wrong.any():
        row = table.iloc[int(np.flatnonzero(wrong)[0])]
        raise DataError(
            f"{int(wrong.sum()):,} of {len(table):,} predictions are not finite though there is a true value, the "
            f"first at {local_iso(int(row['origin']), problem.data.timezone)}, place {row['place']!r}, step "
            f"{row['step']}. Predict them; or leave those rows out, and the audit counts them as missing."
        )
