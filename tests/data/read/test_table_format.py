import io
from pathlib import Path

import pytest

from st2llm.data.read import table_format
from st2llm.data.read.table_format import Header, TableFormat
from st2llm.errors import DataError

TEXT = "place,value\nMünchen,1\n東京,2\n"


def _header(text: str, **keys: object) -> Header:
    form = TableFormat(**keys)  # type: ignore[arg-type]
    stream = table_format.utf8_stream(io.BytesIO(text.encode()), form, Path("t.csv"))
    return table_format.read_header(stream, form, Path("t.csv"), strict=True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_their_bytes_tell_are_detected(encoding: str) -> None:
    stream = table_format.utf8_stream(io.BytesIO(TEXT.encode(encoding)), TableFormat(), Path("t.csv"))
    assert stream.read().decode("utf-8-sig") == TEXT.encode().decode()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_gets_the_key_to_set(encoding: str) -> None:
    with pytest.raises(DataError, match=f"Set `encoding: {encoding}` in the card"):
        table_format.utf8_stream(io.BytesIO(TEXT.encode(encoding)), TableFormat(), Path("t.csv"))


def test_a_stream_in_a_stated_encoding_is_read_in_small_pieces() -> None:
    text = "place\n" + "Münster\n" * 1000
    form = TableFormat(encoding="latin-1")
    stream = table_format.utf8_stream(io.BytesIO(text.encode("latin-1")), form, Path("t.csv"))
    pieces = b"".join(iter(lambda: stream.read(7), b""))
    assert pieces.decode() == text


def test_bytes_that_do_not_fit_the_stated_encoding_are_an_error() -> None:
    with pytest.raises(DataError, match=r"t.csv is not ascii: .* Correct `encoding` in the card"):
        table_format.utf8_stream(io.BytesIO(TEXT.encode()), TableFormat(encoding="ascii"), Path("t.csv"))


@pytest.mark.parametrize(("line", "separator"), [("a,b", ","), ("a;b", ";"), ("a\tb", "\t"), ("a|b", "|")])
def test_a_separator_is_detected_where_it_is_the_only_one(line: str, separator: str) -> None:
    assert _header(line + "\n") == Header(["a", "b"], separator)


def test_a_header_with_two_candidates_keeps_the_separator_of_the_card() -> None:
    assert _header("stamp;a;b, km/h\n") == Header(["stamp;a;b", "km/h"], ",")
    assert _header("stamp;a;b, km/h\n", separator=";") == Header(["stamp", "a", "b, km/h"], ";")


def test_a_header_with_another_end_of_line_is_refused() -> None:
    with pytest.raises(DataError, match="the header cannot be read.*end all lines alike"):
        _header("a,b\r1,2\n3,4\n")


@pytest.mark.parametrize(
    "line", ['time,"Flow\n(veh/h)"\n', 'time,"Flow\r\n(veh/h)",speed\r\n', 'time,"Flow\n']
)
def test_a_header_with_a_line_break_in_quotes_is_refused(line: str) -> None:
    with pytest.raises(
        DataError, match=r"should be one line, but the quoted name 'Flow.*without line breaks"
    ):
        _header(line)


def test_a_table_without_a_header_numbers_its_columns() -> None:
    assert _header("5;6;7\n", header=False) == Header(["0", "1", "2"], ";")


def test_a_header_of_many_names_is_read_whole() -> None:
    names = [f"detector-{i:06d}" for i in range(20_000)]
    assert _header(",".join(names) + "\n").names == names
