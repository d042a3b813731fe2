import numpy as np
import pytest

from st2llm.data.read.infinite import require_finite_array, require_finite_column
from st2llm.errors import DataError


def test_a_missing_number_is_not_an_infinite_one() -> None:
    require_finite_column(np.array([1.0, np.nan]), "a", "t.csv")
    require_finite_array(np.array([[np.nan]]), {"step": range(1), "channel": ["x"]}, "t.npy")


def test_a_column_counts_its_rows_through_the_blocks_of_a_table() -> None:
    with pytest.raises(DataError, match="t.csv: column 'a' holds -inf in row 102 .2 such rows."):
        require_finite_column(np.array([1.0, -np.inf, np.inf]), "a", "t.csv", rows_before=100)


def test_an_array_names_the_first_infinite_number_by_its_coordinates() -> None:
    values = np.zeros((2, 3))
    values[1, 2] = values[1, 1] = np.inf
    with pytest.raises(DataError, match="t.npy holds inf at row 47.5, channel b .2 such"):
        require_finite_array(values, {"row": np.array([50.0, 47.5]), "channel": ["a", "b", "c"]}, "t.npy")
