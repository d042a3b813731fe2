import numpy as np
import pandas as pd

from st2llm.evaluate.scoring.errors import mean_errors


def rows(**columns):
    table = {"sample": "s0", "place": "a", "step": 0, "channel": 0, "time": 0}
    table |= {"value": 1.0, "truth": 0.0, "valid": True, "unread": False}
    return pd.DataFrame({**table, **columns})


def test_errors_pool_over_files_and_leave_out_what_is_invalid_unread_or_missing(tmp_path):
    values = {"value": [1.0, 3.0, 100.0, 100.0, np.nan], "step": [0, 1, 0, 0, 0]}
    rows(
        **values, valid=[True, True, False, True, True], unread=[False, False, False, True, False]
    ).to_parquet(tmp_path / "a.parquet")
    rows(value=[5.0], place="b").to_parquet(tmp_path / "b.parquet")
    found = mean_errors([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert found is not None
    assert found.by_step.to_dict() == {0: 3.0, 1: 3.0}
    assert found.by_place.to_dict() == {"a": 2.0, "b": 5.0}


def test_there_are_no_errors_without_files():
    assert mean_errors([]) is None
