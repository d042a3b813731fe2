"""The table of predictors that read texts: which readers it shows, and which gains it marks."""

import json

import pytest
from support import fake_run

from st2llm.evaluate.publication.committed import read_report
from st2llm.evaluate.publication.text_tables import texts
from st2llm.evaluate.run_folder.store import write_json

READERS = {
    "none": ("tfidf", 3.0),
    "matched": ("minilm", 2.0),
    "llm-frozen": ("states", 5.0),
    "llm-lora": ("states", 4.0),
}


@pytest.fixture
def report(tmp_path):
    """Two tasks of readers: in the first, MiniLM gains with p = 0.03, in the second with p = 0.001."""
    for task, p in (("first", 0.03), ("second", 0.001)):
        folder = fake_run.write(
            tmp_path / "2026-05-01-words" / task, fake_run.Plan(leave_out=("predictions", "answers"))
        )
        rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
        llm = next(row["gain_best"] for row in rows if row["predictor"] == "llm-lora")
        for row in rows:
            if row["predictor"] in READERS:
                row["text_features"], row["validation"] = READERS[row["predictor"]]
                row["gain_text"] = llm | {"vs": "ridge", "value": 0.2, "p": p}
                if row["text_features"] == "states":
                    row["gain_embeddings"] = llm | {"vs": "matched", "value": -0.1, "p": 0.5}
        (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        card = json.loads((folder / "run.json").read_text())
        shuffled = [{"name": "llm-lora", "set": {"documents": "shuffled"}}] if task == "second" else []
        write_json(folder / "run.json", card | {"config": {"predictors": shuffled}})
    return tmp_path


def test_readers_are_the_best_on_validation_and_no_control_is_among_them(report):
    rows = texts(read_report(report, "words")).splitlines()[2:]
    readers = [[row.split(" | ")[1], row.split(" | ")[3]] for row in rows]
    assert readers == [["matched", "llm-lora"], ["matched", "llm-frozen"]]


def test_gains_are_marked_after_the_correction_over_tasks(report):
    """0.03 is below 0.05, and below it after Holm's method as well: the second smallest of two is not multiplied."""
    rows = texts(read_report(report, "words")).splitlines()[2:]
    assert ["over ridge*" in row for row in rows] == [True, True]
    assert not any("over matched*" in row for row in rows)


def test_one_suite_of_a_list_is_shown_alone(report):
    assert len(texts(read_report(report, "words/second")).splitlines()) == 3
