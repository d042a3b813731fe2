import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import st2llm
from st2llm.data import load_data
from st2llm.data.card.side import SideRule
from st2llm.data.load.side.documents import DocumentPlaces, read_documents
from st2llm.errors import ConfigError, DataError

HEAD = "from,to,out,where,words\n"
PLACES = DocumentPlaces.of(("queen-st", "high-st"), ("Queen St", "High St"))
COLUMNS = {"table": "news.csv", "text": "words", "start": "from", "end": "to", "place": "where"}


def read(folder: Path, rows: str, zone: str = "UTC", places: DocumentPlaces = PLACES, **keys: Any):
    name = keys.get("table", "news.csv")
    (folder / name).write_text(rows, encoding="utf-8")
    named = {key: value for key, value in {**COLUMNS, **keys}.items() if value is not None}
    return read_documents(SideRule.model_validate({"documents": named}), {name: folder / name}, zone, places)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def test_a_text_counts_as_published_when_its_last_day_is_over_and_the_lag_has_passed(tmp_path: Path):
    (texts, steps) = read(tmp_path, HEAD + "2024-01-01,2024-01-07,,Queen St,Visits fell.\n", lag="2d")
    document = texts.items[0]
    assert (document.start, document.end) == (at("2024-01-01"), at("2024-01-08"))
    assert document.published == at("2024-01-10")
    assert (document.place, document.source) == ("queen-st", "news")
    assert steps == ("1 documents of news.csv",)


@pytest.mark.parametrize(
    ("cell", "zone", "published"),
    [
        ("2024-01-07T06:30", "UTC", "2024-01-07T06:30"),
        ("2024-01-07T06:30:00.2", "UTC", "2024-01-07T06:30:01"),
        ("2024-01-07", "Pacific/Auckland", "2024-01-07T11:00"),  # the end of the local day
        ("2024-01-07T06:30+02:00", "Pacific/Auckland", "2024-01-07T04:30"),
        ("2024-01", "UTC", "2024-02-01"),
        ("2024", "UTC", "2025-01-01"),
        ("2024-04-07T02:30", "Pacific/Auckland", "2024-04-06T14:30"),  # occurs twice: the second time
    ],
)
def test_what_a_stamp_leaves_open_is_set_late(tmp_path: Path, cell: str, zone: str, published: str):
    texts, _ = read(tmp_path, HEAD + f"2024-01-01,,{cell},,Rain.\n", zone, published="out", end=None)
    assert texts.items[0].published == at(published)


def test_a_format_without_a_time_of_day_is_a_whole_day(tmp_path: Path):
    texts, _ = read(tmp_path, HEAD + "01/02/2024,03/02/2024,,,Rain.\n", format="%d/%m/%Y")
    assert (texts.items[0].start, texts.items[0].published) == (at("2024-02-01"), at("2024-02-04"))


def test_rows_that_cannot_be_used_are_left_out_and_told_with_the_first_of_each(tmp_path: Path):
    rows = [
        "2024-01-01,2024-01-02,,,Rain.",
        "2024-01-01,2024-01-02,,,Rain.",
        ",,,,No date.",
        "2024-01-01,2024-01-02,,,",
        "2024-01-01,2024-01-02,,,NA (nothing found)",
        "2024-01-05,2024-01-02,,,Ends first.",
        "2024-01-01,2024-01-02,,Elsewhere,A fair.",
    ]
    texts, steps = read(tmp_path, HEAD + "\n".join(rows), missing=["NA*"])
    assert [each.text for each in texts.items] == ["Rain."]
    assert steps[0] == (
        "1 documents of news.csv; left out 2 that hold no text (first: row 4), 1 that have no time (first: row 3), "
        "1 that end before they start (first: row 6), 1 that are about a place that the data do not have (first: "
        "Elsewhere), 1 that repeat the text, the place and the time of another (first: row 2)"
    )


def test_html_long_and_foreign_texts_are_kept_in_part_or_as_written_and_told(tmp_path: Path):
    page = "<head><title>x</title></head><p>Tea &amp; cake</p><script>alert(1)</script><br>on <b>Monday</b>"
    french = "Les visites ont diminué de dix pour cent dans toutes les rues du centre cette semaine"
    rows = [page, "rain and wind " * 100_000, french]
    lines = "".join(f'2024-01-01,2024-01-02,,,"{row}"\n' for row in rows)
    texts, steps = read(tmp_path, HEAD + lines, characters=200)
    html, long, foreign = (each.text for each in texts.items)
    assert html == "Tea & cake\non Monday" and foreign == french
    assert len(long) <= 200 and long.endswith("wind")
    assert "1 had HTML tags, which were taken out (first: row 1)" in steps[0]
    assert "1 were cut to 200 characters (first: row 2)" in steps[0]
    assert "1 seem not to be in English and stay as written (first: row 3)" in steps[0]


def test_a_text_with_line_breaks_is_one_text(tmp_path: Path):
    texts, _ = read(tmp_path, HEAD + '2024-01-01,2024-01-02,,,"One.\nTwo, three."\n')
    assert [each.text for each in texts.items] == ["One.\nTwo, three."]


def test_json_lines_and_parquet_hold_the_same_documents_as_csv(tmp_path: Path):
    row = {"from": "2024-01-01", "to": "2024-01-02", "where": "High St", "words": "Rain."}
    lines, _ = read(tmp_path, json.dumps(row) + "\n\n", table="news.jsonl")
    csv, _ = read(tmp_path, HEAD + "2024-01-01,2024-01-02,,High St,Rain.\n")
    frame = pd.DataFrame([{**row, "from": pd.Timestamp(row["from"]), "to": pd.Timestamp(row["to"])}])
    frame.to_parquet(tmp_path / "news.parquet")
    rule = SideRule.model_validate({"documents": {**COLUMNS, "table": "news.parquet"}})
    parquet, _ = read_documents(rule, {"news.parquet": tmp_path / "news.parquet"}, "UTC", PLACES)
    assert lines.items == csv.items == parquet.items


@pytest.mark.parametrize(
    ("rows", "keys", "message"),
    [
        (HEAD + "2024-01-01,soon,,,Rain.\n", {}, "column 'to' should hold times .* but row 1 holds 'soon'"),
        (HEAD + "2024-01-01,31/01/2024,,,Rain.\n", {}, "set `format`"),
        (HEAD + "2024-01-01,2024-01-02,,,NA\n", {}, "No document is left .* hold no text"),
        (
            HEAD + "2024-01-01,2024-01-02,,Quen St,Rain.\n",
            {},
            "first is about 'Quen St'. Did you mean 'queen-st'",
        ),
        (HEAD + "2024-01-01,2024-01-02\n", {}, "row 1 has 2 cells, but 5 columns"),
        (HEAD, {"text": "word"}, "no column 'word'. Did you mean 'words'"),
        ('{"to": \n', {"table": "news.jsonl"}, "line 1 is no JSON"),
        ("[1]\n", {"table": "news.jsonl"}, "line 1 holds a list"),
        ("", {}, "is empty"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_what_to_do(tmp_path: Path, rows, keys, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, rows, **keys)


def test_texts_without_a_known_time_of_publication_are_refused_with_what_to_state():
    with pytest.raises(ValueError, match="name the column of `published`, or of `end`"):
        SideRule.model_validate({"documents": {"table": "a.csv", "text": "words", "start": "from"}})
    with pytest.raises(ValueError, match="such as 12h or 14d"):
        SideRule.model_validate({"documents": {**COLUMNS, "lag": "soon"}})


def test_several_tables_have_limits_of_their_own(make_card: Callable[..., Path], tmp_path: Path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("day,words\n2024-01-01,Rain and more.\n", encoding="utf-8")
    tables = [
        {"table": "a.csv", "text": "words", "published": "day", "limit": 1, "source": "weather"},
        {"table": "b.csv", "text": "words", "published": "day", "limit": 2, "window": "2d"},
    ]
    data = load_data(make_card(side={"documents": tables}))
    assert {name: (limit.window_s, limit.count) for name, limit in data.documents.limits.items()} == {
        "weather": (None, 1),
        "b": (172_800, 2),
    }
    samples = st2llm.split(data, st2llm.tasks.forecast(history=12, horizon=4), stride=4)
    for sample in samples.train:
        assert bool(sample.side.documents) == (sample.last_known_time >= data.documents.items[0].published)
    assert "1 documents of a.csv" in data.provenance.steps


def test_the_text_of_a_document_is_part_of_the_data_of_a_split(
    make_card: Callable[..., Path], tmp_path: Path
):
    hashes = set()
    for words in ("Rain.", "Sun."):
        (tmp_path / "a.csv").write_text(f"day,words\n2024-01-01,{words}\n", encoding="utf-8")
        data = load_data(
            make_card(side={"documents": {"table": "a.csv", "text": "words", "published": "day"}})
        )
        hashes.add(data.provenance.sha256)
    assert len(hashes) == 2


def test_a_card_names_the_key_that_is_wrong(make_card: Callable[..., Path]):
    with pytest.raises(ConfigError, match="publised"):
        load_data(make_card(side={"documents": {"table": "a.csv", "text": "w", "publised": "day"}}))
