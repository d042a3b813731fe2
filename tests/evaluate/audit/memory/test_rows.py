"""Rows of files and of readings as text, and copies with other numbers."""

import numpy as np
import pytest

from st2llm import load_data
from st2llm.evaluate.audit.memory.rows import FIELDS, rows_of_file, rows_of_readings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A card whose file counts its rows, tells the year and holds two measurements and a text."""
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    stamps = [f"2024-01-{day:02d}T{hour:02d}:00:00Z" for day in range(1, 11) for hour in range(24)]
    lines = [
        f"{i},2024,{stamp},{rng.normal(10, 2):.2f},{rng.integers(0, 50)},{i % 7},{i % 5}"
        for i, stamp in enumerate(stamps)
    ]
    (folder / "values.csv").write_text("\n".join(["no,year,time,east,west,south,north", *lines]) + "\n")
    (folder / "card.yaml").write_text(
        "{name: rows, kind: graph, values: values.csv, time: time, channels: [value], freq: 1h, timezone: UTC, "
        "unit: m, split: {train: 0.6, validation: 0.2, test: 0.2}}"
    )
    return folder


def test_rows_are_those_of_the_file_and_only_measurements_change(folder):
    table = rows_of_file(folder / "card.yaml")
    assert table.source == "values.csv"
    assert table.names[:4] == ("no", "year", "time", "east")
    assert [len(row) for row in table.rows[:2]] == [FIELDS, FIELDS]
    assert set(table.changed) == {3, 4}


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_copy_has_other_numbers_of_the_same_form_and_the_same_spread(folder, sign):
    table = rows_of_file(folder / "card.yaml")
    copied = table.copy(table.rows, sign)
    for column in table.changed:
        true, other = ([row[column] for row in rows] for rows in (table.rows, copied))
        assert all(a != b for a, b in zip(true, other, strict=True))
        assert [len(a.partition(".")[2]) for a in true] == [len(b.partition(".")[2]) for b in other]
        before, after = np.array(true, dtype=float), np.array(other, dtype=float)
        assert len(set((after - before).round(6))) == 1
        assert abs((after - before)[0]) == pytest.approx(0.2 * before.std(), abs=0.5)
        assert after.min() >= 0
    assert [row[:3] for row in copied] == [row[:3] for row in table.rows]


def test_ids_above_fractions_are_names(tmp_path):
    (tmp_path / "values.csv").write_text(
        "773869,767541\n" + "".join(f"{60 + i % 5}.5,{i % 3}.25\n" for i in range(60))
    )
    (tmp_path / "card.yaml").write_text(
        "{name: ids, kind: graph, values: values.csv, freq: 1h, start: 2024-01-01T00:00:00, timezone: UTC, unit: m, "
        "channels: [value], split: {train: 0.6, validation: 0.2, test: 0.2}}"
    )
    assert rows_of_file(tmp_path / "card.yaml").names == ("773869", "767541")


def test_readings_are_written_with_their_local_time(card):
    table = rows_of_readings(load_data(card))
    assert table.names == ("time", "queen-st", "high-st", "quay-st")
    assert table.rows[25][0] == "2024-01-02 01:00"
    assert set(table.changed) == {1, 2, 3}
    assert any("" in row for row in table.rows)  # a gap stays one
