"""Large power outages in the United States: an Excel sheet with two cells for each time, as a csv of events."""

import csv
import io
import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

from st2llm.data import safe_open
from st2llm.errors import DataError

_SPREADSHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_SHEET, _STRINGS = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"
_EPOCH = datetime(1899, 12, 30)
_TEXTS = {
    "cause": "CAUSE.CATEGORY",
    "detail": "CAUSE.CATEGORY.DETAIL",
    "hurricane": "HURRICANE.NAMES",
    "state": "U.S._STATE",
    "climate_region": "CLIMATE.REGION",
    "climate": "CLIMATE.CATEGORY",
}
_HEADER = ["start", *_TEXTS, "hours", "log10_hours", "customers"]
_SHORTEST_H = 1 / 60
"""An outage of 0 minutes counts as one minute, since its logarithm is the magnitude."""

Row = dict[str, str]


def convert(sources: Mapping[str, Path]) -> Mapping[str, str]:
    """`outages.csv`: an outage a row, in order of its start, without those whose start or duration is missing.

    start: ISO, on the local clock of the state. hours: of the outage; log10_hours: their logarithm. Raises DataError
    for another file.
    """
    (path,) = sources.values()
    rows = sorted(_events(path), key=lambda row: row[0])
    if not rows:
        raise DataError(f"{path.name} holds no outage with a start and a duration. Get the file again.")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows(rows)
    return {"outages.csv": text.getvalue()}


def _events(path: Path) -> Iterator[list[str]]:
    for row in _table(path):
        day, clock = row.get("OUTAGE.START.DATE", ""), row.get("OUTAGE.START.TIME", "")
        minutes = row.get("OUTAGE.DURATION", "")
        if not all(_is_number(cell) for cell in (day, clock, minutes)):
            continue
        start = _EPOCH + timedelta(minutes=round((float(day) + float(clock) % 1) * 24 * 60))
        hours = float(minutes) / 60
        texts = ["" if (cell := row.get(name, "").strip()) == "NA" else cell for name in _TEXTS.values()]
        customers = row.get("CUSTOMERS.AFFECTED", "")
        yield [
            start.isoformat(timespec="minutes"),
            *texts,
            f"{hours:.4f}",
            f"{math.log10(max(hours, _SHORTEST_H)):.4f}",
            customers if _is_number(customers) else "",
        ]


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _table(path: Path) -> Iterator[Row]:
    """The rows of the first sheet below the row that begins with `variables`, by the names in that row."""
    strings = [
        "".join(text.text or "" for text in item.iter(f"{_SPREADSHEET}t")) for item in _xml(path, _STRINGS)
    ]
    names: dict[str, str] = {}
    for row in _xml(path, _SHEET).iter(f"{_SPREADSHEET}row"):
        cells = {_column(cell): _text(cell, strings) for cell in row}
        if cells.get("A") == "variables":
            names = {column: name.strip() for column, name in cells.items()}
        elif names and cells.get("A") != "Units":
            yield {names[column]: text for column, text in cells.items() if column in names}


def _column(cell: ElementTree.Element) -> str:
    return str(cell.get("r", "")).rstrip("0123456789")


def _text(cell: ElementTree.Element, strings: list[str]) -> str:
    value = cell.find(f"{_SPREADSHEET}v")
    text = "" if value is None or value.text is None else value.text
    return strings[int(text)] if cell.get("t") == "s" and text else text


def _xml(path: Path, member: str) -> ElementTree.Element:
    with safe_open.unpacked_stream(path, member) as stream:
        content = stream.read()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise DataError(
            f"{path.name} declares a document type, which a sheet has no use for. Get the file again."
        )
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise DataError(f"{path.name} is no Excel sheet: {error}. Get the file again.") from error
