from pathlib import Path

import pytest
from support import csv_files

import st2llm
from st2llm.data import load_data
from st2llm.data.load.side.event_texts import mask_pattern
from st2llm.errors import ConfigError, DataError

ROWS = "when,effect,bird,words\n" + "".join(
    f"2024-03-{day:02d}T06:00,{'None' if day % 3 else 'Aborted'},gull {day},A/C retd to gate day {day}\n"
    for day in range(1, 20)
)
CARD = {
    **csv_files.EVENT,
    "x": None,
    "y": None,
    "mark": "effect",
    "marks": {"undisturbed": ["None"], "disturbed": ["Aborted"]},
    "missing": ["NA"],
    "split": {"train": 1.0},
}
TEXT = {"columns": ["bird", "words"], "source": "strike", "known": True, "past": 1, "mask": ["retd", "GATE"]}


def samples(folder: Path, rows: str = ROWS, **text):
    card = csv_files.write(folder, rows, CARD, text={**TEXT, **text})
    return st2llm.split(load_data(card), st2llm.tasks.next_event(history=3, asked=("mark",))).train


def test_the_known_text_of_the_event_comes_first_with_the_outcome_masked(tmp_path: Path):
    sample = samples(tmp_path)[0]
    assert [(each.source, each.text) for each in sample.side.documents] == [
        ("strike of the next event", "bird: gull 4; words: A/C ... to ... day 4"),
        ("strike", "bird: gull 3; words: A/C ... to ... day 3"),
    ]
    assert all(each.published <= sample.last_known_time for each in sample.side.documents)


def test_the_text_of_the_event_to_predict_is_not_shown_unless_it_is_known(tmp_path: Path):
    for sample in samples(tmp_path, known=False, past=10):
        row = int(sample.id.rpartition("-")[2]) + 1
        texts = " ".join(each.text for each in sample.side.documents)
        assert f"gull {row};" not in texts and f"gull {row - 1};" in texts


def test_marks_are_grouped_and_rows_of_no_group_are_left_out_and_told(tmp_path: Path):
    rows = ROWS + "2024-03-20T06:00,NA,x,y\n2024-03-21T06:00,Other,x,y\n"
    data = load_data(csv_files.write(tmp_path, rows, CARD, text=TEXT))
    assert data.marks == ("undisturbed", "disturbed") and len(data.time) == 19
    assert data.mark[:4].tolist() == [0, 0, 1, 0]
    assert "left out 2 rows whose effect is empty or in no group" in data.provenance.steps
    assert any("in 19 of them words of a list of 2" in step for step in data.provenance.steps)


def test_a_mask_may_be_a_file_with_comments(tmp_path: Path):
    (tmp_path / "words.txt").write_text("# outcomes\nret*  # returned\n\nto  gate\n", encoding="utf-8")
    assert samples(tmp_path, mask="words.txt")[0].side.documents[0].text.endswith("A/C ... ... day 4")
    (tmp_path / "words.txt").write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(DataError, match="no word to mask"):
        samples(tmp_path, mask="words.txt")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("RETD.", "..."),
        ("RETURNED", "..."),
        ("GARNETD", "GARNETD"),
        ("SHUT DOWN", "..."),
        ("shut  down", "..."),
        ("T/O ABORTED", "..."),
    ],
)
def test_words_are_masked_as_wholes_in_any_case(text: str, masked: str):
    pattern = mask_pattern(["RETD", "RETURN*", "SHUT DOWN", "T/O ABORT*"])
    assert pattern.sub("...", text).rstrip(".") == masked.rstrip(".")


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"a": ["Nine"]}, "`marks` holds 'Nine', but column 'effect' does not"),
        ({"a": ["None"], "b": ["None"]}, "holds 'None' in two groups"),
    ],
)
def test_groups_that_do_not_fit_the_column_are_refused(tmp_path: Path, marks, message):
    with pytest.raises((DataError, ConfigError), match=message):
        load_data(csv_files.write(tmp_path, ROWS, CARD, marks=marks))
