import gzip
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st2llm.data.read import columns, table_blocks, table_format
from st2llm.data.read.table_format import TableFormat
from st2llm.errors import DataError

TEXT = "id,when,x,kind\na,2024-01-01 00:00:00,1.5,NA\nb,2024-01-02T03:04:05,,EP\na,2024-01-03,-2e3,\n"
WANTED: dict[str, columns.ColumnType] = {
    "id": "category",
    "when": "timestamp",
    "x": "number",
    "kind": "category",
}


def write(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_cells_are_of_the_sort_that_is_asked_for(tmp_path: Path) -> None:
    table = columns.read(write(tmp_path, TEXT), WANTED)
    assert table.rows == 3
    assert table.categories("id").codes.tolist() == [0, 1, 0]
    assert table.categories("id").names == ("a", "b")
    np.testing.assert_array_equal(table.numbers("x"), [1.5, np.nan, -2000.0])
    stamps = pd.to_datetime(table.timestamps("when").microseconds, unit="us")
    assert [str(first) for first in stamps] == [
        "2024-01-01 00:00:00",
        "2024-01-02 03:04:05",
        "2024-01-03 00:00:00",
    ]


def test_a_word_that_looks_like_a_missing_value_stays_a_word(tmp_path: Path) -> None:
    kind = columns.read(write(tmp_path, TEXT), WANTED, TableFormat(missing=("NA",))).categories("kind")
    assert kind.names[kind.codes[0]] == "NA"
    assert kind.codes[2] == -1


def test_a_gzip_a_zip_and_a_plain_file_hold_the_same_whatever_their_names(tmp_path: Path) -> None:
    write(tmp_path, gzip.compress(TEXT.encode()), "a.txt")
    with zipfile.ZipFile(tmp_path / "b.dat", "w") as bundle:
        bundle.writestr("inner/t.csv", TEXT)
    plain = columns.read(write(tmp_path, TEXT), WANTED)
    for path, member in (
        (tmp_path / "a.txt", None),
        (tmp_path / "b.dat", "inner/t.csv"),
        (tmp_path / "b.dat", None),
    ):
        result = columns.read(path, WANTED, member=member)
        np.testing.assert_array_equal(result.numbers("x"), plain.numbers("x"))
        assert result.categories("id").names == plain.categories("id").names


def test_parquet_reads_as_csv_does(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"id": [7, 8, 7], "when": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"]), "x": [1, 2, 3]}
    )
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    wanted: dict[str, columns.ColumnType] = {"id": "category", "when": "timestamp", "x": "number"}
    first, second = (columns.read(tmp_path / name, wanted) for name in ("t.parquet", "t.csv"))
    assert first.categories("id").names == second.categories("id").names == ("7", "8")
    np.testing.assert_array_equal(
        first.timestamps("when").microseconds, second.timestamps("when").microseconds
    )
    np.testing.assert_array_equal(first.numbers("x"), second.numbers("x"))


def test_stamps_of_a_parquet_file_may_have_a_zone(tmp_path: Path) -> None:
    stamps = pd.to_datetime(["2024-01-01T12:00:00+13:00"]).tz_convert("Pacific/Auckland")
    pd.DataFrame({"when": stamps}).to_parquet(tmp_path / "t.parquet")
    result = columns.read(tmp_path / "t.parquet", {"when": "timestamp"}).timestamps("when")
    assert result.has_offset
    assert result.microseconds[0] // 1_000_000 == pd.Timestamp("2023-12-31T23:00:00Z").timestamp()


def test_columns_may_stand_apart_by_any_blanks_and_have_no_head(tmp_path: Path) -> None:
    path = write(tmp_path, "  780\t1.0   8.46 3.59 \n790 1.0\t\t9.57 3.79\n")
    form = TableFormat(False, ("frame", "who", "x", "y"), "whitespace")
    table = columns.read(path, {"frame": "number", "who": "category", "y": "number"}, form)
    assert table.numbers("frame").tolist() == [780, 790]
    assert table.categories("who").names == ("1",)
    assert table.numbers("y").tolist() == [3.59, 3.79]


def test_a_head_may_have_a_byte_order_mark_and_quotes(tmp_path: Path) -> None:
    table = columns.read(
        write(tmp_path, '\ufeff"id, of whom",x\n"a,b",1\n'), {"id, of whom": "category", "x": "number"}
    )
    assert table.categories("id, of whom").names == ("a,b",)


def test_stamps_with_offsets_are_instants(tmp_path: Path) -> None:
    path = write(tmp_path, "when\n2024-01-01T00:00:00Z\n2024-01-01T05:00:00+05:00\n")
    result = columns.read(path, {"when": "timestamp"}).timestamps("when")
    assert result.has_offset
    assert result.microseconds[0] == result.microseconds[1]


def test_stamps_may_have_a_format_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path, "when\n10/02/2015 12:11:00 PM\n10/02/2015 12:11:00 AM\n")
    result = columns.read(
        path, {"when": "timestamp"}, TableFormat(formats={"when": "%m/%d/%Y %I:%M:%S %p"})
    ).timestamps("when")
    assert (np.diff(result.microseconds) == -12 * 3600 * 1_000_000).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("id,when,x,kind\n", "has no rows"),
        ("id,when,y,kind\na,2024-01-01,1,b\n", "has no column 'x'"),
        ("id,when,x,kind,x\na,2024-01-01,1,b,1\n", "two columns 'x'"),
        ("id,when,x,kind\na,2024-01-01,one,b\n", "column 'x' should hold numbers, but row 1 holds 'one'"),
        (
            "id,when,x,kind\na,2024-01-01,1,b\nb,2024-01",
            "row 2 has 2 cells, but 4 columns are expected: column 'x' has no cell",
        ),
        ("id,when,x,kind\na,yesterday,1,b\n", "row 1 holds 'yesterday'"),
        ("id,when,x,kind\na,,1,b\n", "'when' is empty in row 1"),
        ("id,when,x,kind\na,2024-01-01T00:00:00Z,1,b\nb,2024-01-01T00:00:00,1,b\n", "mixes timestamps"),
        ("id,when,x,kind\na,2024-01-01T00:00:00,1,b\nb,2024-01-01T00:00:00+02:00,1,b\n", "mixes timestamps"),
        (b"id,when,x,kind\na,2024-01-01,1,b\xff\xfe\n", "row 1 is not UTF-8 (byte 0xff). Set `encoding`"),
    ],
)
def test_a_faulty_table_gives_one_message(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        columns.read(write(tmp_path, text), WANTED)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_zones_that_only_some_blocks_have_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_blocks, "BLOCK_BYTES", 64)
    rows = ["2024-01-01T00:00:00"] * 20 + ["2024-01-01T00:00:00Z"] * 20
    with pytest.raises(DataError, match="mixes timestamps"):
        columns.read(write(tmp_path, "\n".join(["when", *rows]) + "\n"), {"when": "timestamp"})


def test_a_packed_file_that_is_cut_short_is_damaged(tmp_path: Path) -> None:
    whole = gzip.compress(TEXT.encode() * 50)
    with pytest.raises(DataError, match="is damaged"):
        columns.read(write(tmp_path, whole[: len(whole) // 2], "t.gz"), WANTED)


def test_a_parquet_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"x": range(100)}).to_parquet(tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    with pytest.raises(DataError, match="cannot be read as parquet"):
        columns.read(write(tmp_path, whole[: len(whole) // 2], "t.parquet"), {"x": "number"})


def test_a_gzip_that_swells_beyond_the_limit_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("st2llm.data.safe_open.limits.FREE_BYTES", 1 << 20)
    path = write(tmp_path, gzip.compress(b"x\n" + b"1\n" * 4_000_000), "t.csv.gz")
    with pytest.raises(DataError, match="unpacks to more than"):
        columns.read(path, {"x": "number"})


def test_a_member_that_an_archive_does_not_hold_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as bundle:
        bundle.writestr("t.csv", TEXT)
    with pytest.raises(DataError, match="holds no 'u.csv'. Did you mean 't.csv'?"):
        columns.read(tmp_path / "t.zip", WANTED, member="u.csv")


@given(cut=st.integers(0, len(TEXT) - 1), byte=st.integers(0, 255))
def test_mutated_bytes_are_read_or_refused_and_never_break(
    cut: int, byte: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mutated = bytearray(TEXT.encode())
    mutated[cut] = byte
    path = write(tmp_path_factory.mktemp("m"), bytes(mutated))
    try:
        assert columns.read(path, WANTED).rows >= 1
    except DataError as error:
        assert str(error)


@given(data=st.data())
def test_mutated_packed_bytes_are_read_or_refused_and_never_break(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("m")
    frame = pd.DataFrame({"x": np.arange(50.0), "id": ["a", "b"] * 25})
    frame.to_parquet(folder / "t.parquet")
    with zipfile.ZipFile(folder / "t.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("t.csv", frame.to_csv(index=False))
    write(folder, gzip.compress(frame.to_csv(index=False).encode()), "t.gz")
    name = data.draw(st.sampled_from(["t.parquet", "t.zip", "t.gz"]))
    whole = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = write(folder, bytes(whole), name)
    try:
        columns.read(path, {"x": "number", "id": "category"})
    except DataError as error:
        assert str(error)


def test_tables_join_with_one_set_of_codes(tmp_path: Path) -> None:
    tables = [
        columns.read(write(tmp_path, text, name), {"id": "category", "x": "number"})
        for name, text in (("a.csv", "id,x\nq,1\nr,2\n"), ("b.csv", "id,x\nr,3\ns,4\n"))
    ]
    result = columns.concatenate(tables)
    assert result.categories("id").names == ("q", "r", "s")
    assert result.categories("id").codes.tolist() == [0, 1, 1, 2]
    assert result.numbers("x").tolist() == [1, 2, 3, 4]


def test_a_path_that_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        columns.read(tmp_path / "t.csv", WANTED)


def test_a_parquet_file_that_claims_more_than_fits_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd.DataFrame({"x": np.zeros(100_000)}).to_parquet(tmp_path / "t.parquet")
    monkeypatch.setattr(table_blocks, "MAX_TABLE_BYTES", 1000)
    with pytest.raises(DataError, match="100,000 rows"):
        columns.read(tmp_path / "t.parquet", {"x": "number"})


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("last", ["", "end"])
def test_blocks_are_cut_between_lines_wherever_they_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int, end: str, last: str
) -> None:
    """A line cut in two, a lost last line, or a head taken for a row would change the numbers."""
    monkeypatch.setattr(table_blocks, "BLOCK_BYTES", block_bytes)
    rows = [f"{i},{'x' * (i % 9)}é" for i in range(40)]
    text = end.join(["# written by hand", "n,name", *rows]) + (end if last else "")
    path = write(tmp_path, text.encode())
    read = columns.read(path, {"n": "number", "name": "category"}, TableFormat(skip=1))
    assert read.numbers("n").tolist() == list(range(40))
    names = read.categories("name")
    assert [names.names[code] for code in names.codes] == ["x" * (i % 9) + "é" for i in range(40)]


def test_a_faulty_row_of_a_later_block_is_named_by_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_blocks, "BLOCK_BYTES", 32)
    rows = [f"{i},{i}" for i in range(30)]
    rows[20] = "20"
    with pytest.raises(
        DataError, match="row 21 has 1 cells, but 2 columns are expected: column '.*' has no cell"
    ):  # the head is the first line
        columns.read(write(tmp_path, "\n".join(["a,b", *rows]) + "\n"), {"a": "number"})


def test_a_line_without_an_end_and_too_many_columns_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_blocks, "BLOCK_BYTES", 64)
    monkeypatch.setattr(table_blocks, "MAX_LINE_BYTES", 256)
    with pytest.raises(DataError, match="a line of over 256 bytes"):
        columns.read(write(tmp_path, "a\n" + "1" * 1000), {"a": "number"})
    monkeypatch.setattr(table_format, "MAX_COLUMNS", 3)
    with pytest.raises(DataError, match="over 3 columns.*long form"):
        columns.read(write(tmp_path, "a,b,c,d\n1,2,3,4\n"), {"a": "number"})


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_process_that_stops_reading_early_ends(tmp_path: Path) -> None:
    """Arrow's streaming reader read ahead in a thread; a process that ended in between hung, often on busy machines."""
    path = write(tmp_path, "a,b\none,1\n" + "1,1\n" * 12_000_000)
    code = (
        "import sys\nfrom pathlib import Path\nfrom st2llm.data.read import columns\n"
        "columns.read(Path(sys.argv[1]), {'a': 'number'})"
    )
    command = [sys.executable, "-c", code, str(path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in running:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 1 and "row 1 holds 'one'" in errors
