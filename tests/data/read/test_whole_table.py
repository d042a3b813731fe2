from pathlib import Path

import numpy as np
import pytest

from st2llm.data.read.table_format import TableFormat
from st2llm.data.read.whole_table import read_table
from st2llm.errors import DataError


def _write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "t.csv"
    path.write_bytes(text.encode(encoding))
    return path


def _numbers(name: str) -> bool:
    return name != "id"


AS_WRITTEN = ["007", "1e5", "NA", "None", "null", "nan", "1.0", "-1", "TRUE", "東京"]


def test_text_stays_as_written(tmp_path: Path) -> None:
    table = read_table(
        _write(tmp_path, "id,x\n" + "".join(f"{name},1\n" for name in AS_WRITTEN)), is_number=_numbers
    )
    assert table["id"].tolist() == AS_WRITTEN
    assert table["x"].tolist() == [1.0] * len(AS_WRITTEN)


def test_text_that_stands_for_a_missing_number_stays_text_among_ids(tmp_path: Path) -> None:
    path = _write(tmp_path, "id,x\nNA,NA\nb,2\n")
    table = read_table(path, TableFormat(missing=("NA",)), is_number=_numbers)
    assert table["id"].tolist() == ["NA", "b"]
    np.testing.assert_array_equal(table["x"], [np.nan, 2])


def test_blank_cells_are_missing(tmp_path: Path) -> None:
    table = read_table(_write(tmp_path, 'id,x,y\n,, \n"",2,3\n'), is_number=_numbers)
    assert table["id"].tolist() == [None, None]
    np.testing.assert_array_equal(table[["x", "y"]], [[np.nan, np.nan], [2, 3]])


@pytest.mark.parametrize("cell", ["NA", "NaN", "nan", "null", "None", "n/a", "-"])
def test_other_text_for_missing_is_an_error_that_proposes_the_key(tmp_path: Path, cell: str) -> None:
    with pytest.raises(
        DataError, match=f"t.csv: column 'x' should hold numbers, but row 2 holds '{cell}'"
    ) as caught:
        read_table(_write(tmp_path, f"id,x\na,1\nb,{cell}\n"), is_number=_numbers)
    assert f"set `missing: ['{cell}']` in the card" in str(caught.value)


@pytest.mark.parametrize("cell", ["TRUE", "1_000", "0x10", "12 km", "1 000"])
def test_text_among_numbers_is_an_error(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match="column 'x' should hold numbers, but row 1 holds"):
        read_table(_write(tmp_path, f"id,x\na,{cell}\n"), is_number=_numbers)


def test_numbers_in_every_notation_have_their_value(tmp_path: Path) -> None:
    table = read_table(_write(tmp_path, "x\n 1.5 \n+2\n-3e2\n.5\n12345678901234567\n"), is_number=_numbers)
    assert table["x"].tolist() == [1.5, 2, -300, 0.5, 12345678901234568]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,b\n1,2\n3,4,5\n",
            "row 2 has 3 cells, but 2 columns are expected: the cells after column 'b' have no column",
        ),
        ("a,b\n1\n", "row 1 has 1 cells, but 2 columns are expected: column 'b' has no cell"),
        ("a,b,a\n1,2,3\n", "two columns 'a': columns 1 and 3. Rename one"),
        (",a\n0,1\n", "column 1 of 2 has no name in the header.*`ignore: ..Unnamed: 0..`"),
        ("a,\n0,\n", "column 2 of 2 has no name"),
        ("", "is empty"),
    ],
)
def test_a_table_that_is_out_of_line_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=f"t.csv.*{message}"):
        read_table(_write(tmp_path, text), is_number=_numbers)


def test_a_column_without_a_name_is_left_alone_where_it_is_ignored(tmp_path: Path) -> None:
    table = read_table(
        _write(tmp_path, ",a\n0,1\n"), is_number=lambda name: name == "a", ignored=["Unnamed: 0"]
    )
    assert table["a"].tolist() == [1.0]


def test_a_blank_line_among_the_rows_of_a_single_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="t.csv: row 2 is a blank line, and column 'x' is the only one"):
        read_table(_write(tmp_path, "x\n1\n\n3\n"), is_number=_numbers)
    assert read_table(_write(tmp_path, "x\n1\n2\n\n"), is_number=_numbers)["x"].tolist() == [1, 2]
    table = read_table(_write(tmp_path, 'x\n1\n""\n3\n'), is_number=_numbers)
    np.testing.assert_array_equal(table["x"], [1, np.nan, 3])


def test_a_table_without_a_header_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    table = read_table(
        _write(tmp_path, "1,2\n3,4\n", "utf-8-sig"), TableFormat(header=False), is_number=_numbers
    )
    assert table.to_numpy().tolist() == [[1, 2], [3, 4]]


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    table = read_table(_write(tmp_path, "id,x\n"), is_number=_numbers)
    assert table.shape == (0, 2)
    assert table["x"].dtype == np.float64


def test_quoted_separators_and_names_with_pandas_suffix_are_kept(tmp_path: Path) -> None:
    table = read_table(_write(tmp_path, '"a, b",a.1\n"x, y",2\n'), is_number=lambda name: name == "a.1")
    assert table.to_dict("list") == {"a, b": ["x, y"], "a.1": [2.0]}


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_a_decimal_comma_is_read_where_the_card_states_it(tmp_path: Path, separator: str) -> None:
    path = _write(tmp_path, separator.join(["id", "x"]) + "\n" + separator.join(["007", '"1,5"']) + "\n")
    table = read_table(path, TableFormat(decimal=","), is_number=_numbers)
    assert table.to_dict("list") == {"id": ["007"], "x": [1.5]}


def test_a_decimal_comma_is_proposed_and_never_guessed(tmp_path: Path) -> None:
    path = _write(tmp_path, "id;x\na;1,5\n")
    with pytest.raises(DataError, match="row 1 holds '1,5'.*set `decimal: ','` in the card"):
        read_table(path, is_number=_numbers)
    path = _write(tmp_path, "id;x\na;1.5\n")
    with pytest.raises(DataError, match="row 1 holds '1.5'.*The card says `decimal: ','`"):
        read_table(path, TableFormat(decimal=","), is_number=_numbers)


def test_a_separator_is_proposed_where_it_cannot_be_detected(tmp_path: Path) -> None:
    path = _write(tmp_path, "id;x, km/h\na;1\n")
    with pytest.raises(DataError, match="row 1 has 1 cells, but 2 columns.*set `separator: ';'` in the card"):
        read_table(path, is_number=_numbers)
    assert read_table(path, TableFormat(separator=";"))["x, km/h"].tolist() == ["1"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_are_detected(tmp_path: Path, encoding: str) -> None:
    table = read_table(_write(tmp_path, "id,Zürich\n東京,1.5\n", encoding), is_number=_numbers)
    assert table.to_dict("list") == {"id": ["東京"], "Zürich": [1.5]}


@pytest.mark.parametrize(
    ("text", "where"), [("id,Zürich\na,1\n", "the header"), ("id,x\na,1\nZürich,2\n", "row 2")]
)
def test_latin_1_is_read_where_the_card_states_it_and_proposed_otherwise(
    tmp_path: Path, text: str, where: str
) -> None:
    path = _write(tmp_path, text, "latin-1")
    with pytest.raises(DataError, match=f"{where} is not UTF-8 .byte 0xfc.*`encoding: latin-1`"):
        read_table(path, is_number=_numbers)
    table = read_table(path, TableFormat(encoding="latin-1"), is_number=_numbers)
    assert "Zürich" in [*table.columns, *table["id"]]
