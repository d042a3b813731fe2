"""Users' files: csv, parquet and npz, with sample ids or times, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from st2llm.errors import DataError
from st2llm.evaluate.audit.prediction_table import read_audited

_ROWS = pd.DataFrame(
    {"origin": [1705968000, 1705978800], "place": ["a", "b"], "step": [0, 1], "value": [1.5, 2.0]}
)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_all_formats_hold_the_same_table(tmp_path, suffix):
    path = tmp_path / f"theirs{suffix}"
    if suffix == ".csv":
        _ROWS.to_csv(path)  # with the index, as pandas writes it by default
    elif suffix == ".parquet":
        _ROWS.to_parquet(path)
    else:
        np.savez(
            path,
            **{
                name: column.to_numpy().astype("U" if name == "place" else None)
                for name, column in _ROWS.items()
            },
        )
    pd.testing.assert_frame_equal(read_audited(path, "UTC"), _ROWS, check_dtype=False)


@pytest.mark.parametrize(
    ("column", "first", "timezone"),
    [
        ("origin", "2024-07-01T00:00:00", "Pacific/Auckland"),
        ("origin", "2024-07-01 00:00:00+12:00", "UTC"),
        ("origin", "2024-06-30T12:00:00Z", "Pacific/Auckland"),
        ("sample", "town/2024-07-01T00:00:00+12:00", "UTC"),
    ],
)
def test_a_time_is_local_to_the_zone_unless_it_has_an_offset(tmp_path, column, first, timezone):
    table = _ROWS.rename(columns={"origin": column}).assign(**{column: first})
    table.to_csv(tmp_path / "theirs.csv", index=False)
    assert set(read_audited(tmp_path / "theirs.csv", timezone)["origin"]) == {1719748800}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": None}, "has no column 'value'"),
        ({"origin": None}, "no column 'sample' and no 'origin'"),
        ({"step": [0.5, 1]}, "whole numbers, but row 1 holds 0.5"),
        ({"value": ["a", "b"]}, "should hold numbers"),
        ({"origin": ["soon", "later"]}, "should be a timestamp"),
        ({"origin": [1705968000000, 1705978800000]}, "as milliseconds or nanoseconds"),
        ({"origin": [0.5, 1.0]}, "whole seconds since 1970"),
        ({"origin": ["2024-01-01T00:00Z", "2024-01-01T00:00"]}, "has no offset, others have"),
    ],
)
def test_a_table_that_is_none_of_predictions_is_refused(tmp_path, change, message):
    table = _ROWS.drop(columns=[name for name, value in change.items() if value is None])
    table = table.assign(**{name: value for name, value in change.items() if value is not None})
    table.to_parquet(tmp_path / "theirs.parquet")
    with pytest.raises(DataError, match=message):
        read_audited(tmp_path / "theirs.parquet", "UTC")


def test_arrays_of_other_shapes_and_folders_without_a_run_are_refused(tmp_path):
    np.savez(tmp_path / "cube.npz", value=np.zeros((3, 2)), step=np.zeros(3))
    with pytest.raises(DataError, match="one dimension and equal length"):
        read_audited(tmp_path / "cube.npz", "UTC")
    with pytest.raises(DataError, match="is a folder without a run"):
        read_audited(tmp_path, "UTC")
    with pytest.raises(DataError, match="does not exist"):
        read_audited(tmp_path / "none.csv", "UTC")
