import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from st2llm.commands.instruct import shards as module
from st2llm.commands.instruct.rows import SCHEMA, InstructionRequest, parse_part
from st2llm.commands.instruct.shards import write_instructions
from st2llm.commands.marking import Mark, mark_answer
from st2llm.commands.prompt import task_for
from st2llm.data import load_data, split
from st2llm.errors import ConfigError, StorageError
from st2llm.serialize.template.template import load_prompt


@pytest.fixture
def card(tmp_path):
    """Twenty days of hourly counts at three places."""
    rows = [
        f"2024-01-{1 + h // 24:02d} {h % 24:02d}:00,{50 + h % 24 * 3},{100 + h % 24 * 2},{80 + h % 7}"
        for h in range(480)
    ]
    (tmp_path / "counts.csv").write_text("stamp,Queen St,High St,Quay St\n" + "\n".join(rows) + "\n")
    path = tmp_path / "tiny.yaml"
    keys = {
        "name": "tiny", "kind": "graph", "values": "counts.csv", "time": "stamp", "freq": "1h", "quantity": "people",
        "unit": "people", "licence": "CC0", "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
        "default_task": {"forecast": {"history": 24, "horizon": 6}},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(keys))
    return path


def _order(card, **keys):
    return InstructionRequest(
        str(card), **{"templates": ("forecast", "question-answer"), "count": 10, "shard": 4} | keys
    )


def _hashes(out):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("*.parquet")}


def _rows(out):
    return [row for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_a_set_is_read_by_datasets_as_it_was_written(card, tmp_path):
    done = write_instructions(_order(card), tmp_path / "set")
    assert (done.rows, done.shards, done.left_out) == (20, 5, 0)
    files = sorted(str(path) for path in (tmp_path / "set").glob("*.parquet"))
    read = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "hf"))
    assert read.num_rows == 20 and set(read.column_names) == set(SCHEMA.names)
    row = read[0]
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert row["messages"][-1]["content"] == row["truth"] != ""
    read.save_to_disk(str(tmp_path / "disk"))
    assert datasets.load_from_disk(str(tmp_path / "disk"))[3] == read[3]


def test_the_folder_itself_is_a_dataset_with_a_train_split_alone(card, tmp_path):
    write_instructions(_order(card), tmp_path / "set")
    read = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "hf"))
    assert {name: part.num_rows for name, part in read.items()} == {"train": 20}


def test_rows_carry_the_hashes_of_template_data_and_split(card, tmp_path):
    write_instructions(_order(card), tmp_path / "set")
    data, template = load_data(card), load_prompt("graph/forecast")
    parts = split(data, task_for("forecast", data), stride=6)
    row = _rows(tmp_path / "set")[0]
    assert (row["template"], row["template_sha256"]) == (template.id, template.sha256)
    assert (row["data_sha256"], row["split_sha256"]) == (data.provenance.sha256, parts.sha256)
    assert row["licence"] == "CC0" and "counts.csv" in row["provenance"]


def test_the_true_answer_of_a_row_is_that_of_its_sample(card, tmp_path):
    write_instructions(_order(card), tmp_path / "set")
    data, template = load_data(card), load_prompt("graph/forecast")
    train = {sample.id: sample for sample in split(data, task_for("forecast", data), stride=6).train}
    rows = [row for row in _rows(tmp_path / "set") if row["task"] == "forecast"]
    assert len(rows) == 10
    for row in rows:
        prompt = template.render(train[row["sample"]].at(row["place"]))
        assert row["truth"] == prompt.truth and row["messages"][0]["content"] == prompt.text


def test_no_row_of_train_is_of_a_sample_of_another_part(card, tmp_path):
    write_instructions(_order(card, count=60), tmp_path / "train")
    write_instructions(_order(card, count=10, part="test"), tmp_path / "test")
    data = load_data(card)
    for word in ("forecast", "question-answer"):
        parts = split(data, task_for(word, data), stride=6)
        known = {sample.id for sample in parts.train}
        mine = [row for row in _rows(tmp_path / "train") if row["task"] == word]
        assert mine and {row["split"] for row in mine} == {"train"}
        assert all(any(row["sample"].startswith(name) for name in known) for row in mine)
    assert {row["split"] for row in _rows(tmp_path / "test")} == {"test"}
    assert all(name.startswith("test-") for name in _hashes(tmp_path / "test"))
    both = {row["sample"] for row in _rows(tmp_path / "train")} & {
        row["sample"] for row in _rows(tmp_path / "test")
    }
    assert both == set()


def test_another_part_never_goes_into_the_same_folder(card, tmp_path):
    write_instructions(_order(card), tmp_path / "set")
    with pytest.raises(ConfigError, match="another order"):
        write_instructions(_order(card, part="test"), tmp_path / "set", resume=True)


def test_a_set_that_broke_off_goes_on_and_ends_as_if_it_had_not(card, tmp_path, monkeypatch):
    write_instructions(_order(card), tmp_path / "whole")
    real, calls = module.write_atomically, []

    def breaking(path, write):
        calls.append(path)
        if len(calls) == 3:
            raise StorageError("the disk is full")
        real(path, write)

    monkeypatch.setattr(module, "write_atomically", breaking)
    with pytest.raises(StorageError):
        write_instructions(_order(card), tmp_path / "broken")
    monkeypatch.setattr(module, "write_atomically", real)
    assert len(_hashes(tmp_path / "broken")) == 2
    done = write_instructions(_order(card), tmp_path / "broken", resume=True)
    assert (done.kept, done.rows) == (2, 20)
    assert _hashes(tmp_path / "broken") == _hashes(tmp_path / "whole")
    again = write_instructions(_order(card), tmp_path / "broken", resume=True)
    assert again.kept == again.shards == 5


@pytest.mark.slow
def test_two_workers_write_the_same_files_as_one(card, tmp_path):
    write_instructions(_order(card), tmp_path / "one")
    finished = []
    done = write_instructions(
        _order(card), tmp_path / "two", workers=2, on_shard=lambda at, of: finished.append((at, of))
    )
    assert (done.rows, done.shards, done.left_out) == (20, 5, 0)
    assert finished == [(at, 5) for at in range(1, 6)]
    assert _hashes(tmp_path / "two") == _hashes(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_run_leaves_whole_shards_and_goes_on(card, tmp_path, workers):
    out = tmp_path / "set"
    code = "import sys; from st2llm.cli import main; main(sys.argv[1:])"
    order = ["--task", "question-answer", "--count", "600", "--shard", "20", "--workers", workers]
    command = [sys.executable, "-c", code, "data", "instruct", str(card), "--out", str(out), *order]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(list(out.glob("train-*.parquet"))) < 2 and time.monotonic() < until and running.poll() is None:
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    kept = {name: digest for name, digest in _hashes(out).items() if not name.startswith(".")}
    assert 2 <= len(kept) < 30
    assert all(pq.read_table(out / name).num_rows == 20 for name in kept)
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "600 rows in 30 shards" in done.stdout
    after = _hashes(out)
    assert {name: after[name] for name in kept} == kept
    assert not list(out.glob(".*"))


def test_a_folder_with_a_set_is_not_written_over(card, tmp_path):
    write_instructions(_order(card), tmp_path / "set")
    with pytest.raises(ConfigError, match="already holds an instruction set"):
        write_instructions(_order(card), tmp_path / "set")
    with pytest.raises(ConfigError, match="another order"):
        write_instructions(_order(card, seed=1), tmp_path / "set", resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        write_instructions(_order(card), tmp_path / "file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/own.parquet").write_text("")
    with pytest.raises(ConfigError, match="something else"):
        write_instructions(_order(card), tmp_path / "other")


def test_a_template_without_a_true_answer_is_refused(card, tmp_path):
    with pytest.raises(ConfigError, match="no true answer"):
        write_instructions(_order(card, templates=("describe",)), tmp_path / "set")
    assert not (tmp_path / "set").exists()
    with pytest.raises(ConfigError, match="Did you mean 'graph/forecast'"):
        write_instructions(_order(card, templates=("forcast",)), tmp_path / "set")
    with pytest.raises(ConfigError, match="Did you mean 'train'"):
        parse_part("trian")
    with pytest.raises(ConfigError, match="at least 1"):
        _order(card, shard=0)


def test_questions_of_a_set_are_of_several_topics_and_other_seeds_ask_others(card, tmp_path):
    write_instructions(_order(card, templates=("question-answer",), count=40), tmp_path / "a")
    write_instructions(_order(card, templates=("question-answer",), count=40, seed=1), tmp_path / "b")
    topics = {row["topic"] for row in _rows(tmp_path / "a")}
    assert len(topics) >= 3
    assert [row["messages"] for row in _rows(tmp_path / "a")] != [
        row["messages"] for row in _rows(tmp_path / "b")
    ]


def test_the_manifest_says_what_was_made(card, tmp_path):
    write_instructions(_order(card), tmp_path / "set")
    manifest = json.loads((tmp_path / "set/instruct.json").read_text())
    assert manifest["done"] is True and manifest["rows"] == 20
    assert [template["id"] for template in manifest["templates"]] == [
        "graph/forecast",
        "graph/question-answer",
    ]
    assert manifest["order"]["part"] == "train"


def test_without_names_the_card_s_task_and_questions_are_written_in_chat(card, tmp_path):
    write_instructions(InstructionRequest(str(card), count=3), tmp_path / "set")
    assert {row["template"] for row in _rows(tmp_path / "set")} == {
        "graph/forecast.chat",
        "graph/question-answer.chat",
    }
    assert _rows(tmp_path / "set")[0]["messages"][0]["role"] == "system"
    assert Path(tmp_path / "set/train-00000-of-00001.parquet").is_file()


@pytest.fixture
def stays_card(tmp_path):
    """A person who is at a new place now and then; two stays a day for forty days."""
    rows = [
        f"ann,2024-01-01T{8 + 10 * (i % 2):02d}:00:00Z,{'home' if i % 2 else ('work', f'shop {i}')[i % 6 == 0]}"
        for i in range(80)
    ]
    dated = [
        row.replace("2024-01-01", str(np.datetime64("2024-01-01") + i // 2)) for i, row in enumerate(rows)
    ]
    (tmp_path / "stays.csv").write_text("who,stamp,where\n" + "\n".join(dated) + "\n")
    path = tmp_path / "stays.yaml"
    keys = {
        "name": "stays", "kind": "trajectory", "table": "stays.csv", "object": "who", "time": "stamp", "place": "where",
        "quantity": "stays", "timezone": "UTC", "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
        "default_task": {"next-place": {"history": 8, "context_stays": 3, "gap_days": 2}},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(keys))
    return path


@pytest.mark.parametrize("name", ["next-place.chat", "next-place.choice"])
def test_the_true_place_is_listed_in_its_prompt_and_no_place_that_is_not_known_is_answered(
    stays_card, tmp_path, name
):
    write_instructions(InstructionRequest(str(stays_card), (name,), 30), tmp_path / "set")
    rows = _rows(tmp_path / "set")
    assert rows and {row["grammar"] for row in rows} == {"choice" if "choice" in name else "ranking"}
    for row in rows:
        question, answer = row["messages"][-2]["content"], row["messages"][-1]["content"]
        listed = question.partition("Places it knows, each with its number of visits: ")[2].partition(".\n")[
            0
        ]
        assert sorted(row["options"]) == sorted(place.rpartition(" (")[0] for place in listed.split(", "))
        assert answer == row["truth"] and answer in row["options"]
        assert "1 places" not in question and "1 most" not in question
        assert mark_answer(answer, row) == Mark(True, 1.0)
