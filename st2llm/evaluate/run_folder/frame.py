"""Records as a flat table."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from st2llm.evaluate.run_folder.record import Estimate, Gain, Record

_LEADING = (
    "suite", "data", "kind", "task", "predictor", "family", "backbone", "seed", "n", "unread", "training_state", "lr",
)  # fmt: skip
_GAINS = ("gain_best", "gain_pretraining", "gain_trained")


def records_frame(records: Sequence[Record], *, by_seed: bool) -> pd.DataFrame:
    """A row for each record that is pooled over seeds, or for each record of one seed.

    Columns: suite, data, kind, task, predictor, family, backbone, llm (its name), seed (by seed alone), n, unread,
    training_state, lr; of each metric `mae`, `mae_low` and `mae_high`; of each gain `gain_best`, `gain_best_low`,
    `gain_best_high`, `gain_best_vs` and `gain_best_n_blocks`; and each cost as `cost_train_s`. Missing where a record
    has none.
    """
    rows = [_row(record) for record in records if (record.seed is not None) == by_seed]
    frame = pd.DataFrame(rows, columns=None if rows else [*_LEADING])
    return frame if by_seed else frame.drop(columns="seed")


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(record, name) for name in _LEADING}
    row["llm"] = (record.llm or {}).get("name")
    for name, estimate in record.metrics.items():
        row |= _interval(name, estimate)
    for name in _GAINS:
        gain: Gain | None = getattr(record, name)
        if gain is not None:
            row |= {**_interval(name, gain), f"{name}_vs": gain.vs, f"{name}_n_blocks": gain.n_blocks}
    return row | {f"cost_{name}": value for name, value in _numbers(record.cost).items()}


def _interval(name: str, of: Estimate | Gain) -> dict[str, float | None]:
    return {name: of.value, f"{name}_low": of.low, f"{name}_high": of.high}


def _numbers(cost: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in cost.items() if not isinstance(value, Mapping)}
