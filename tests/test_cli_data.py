"""`st2llm data` as a user meets it: lists, facts and instruction sets."""

import json

import pytest
import yaml
from support.command_line import is_one_message, run_cli

pytestmark = pytest.mark.slow


@pytest.fixture
def card(tmp_path):
    rows = "".join(
        f"2024-01-{1 + h // 24:02d} {h % 24:02d}:00,{50 + 3 * (h % 24)},{90 + h % 7}\n" for h in range(480)
    )
    (tmp_path / "counts.csv").write_text("stamp,Queen St [1],High St\n" + rows)
    keys = {
        "name": "tiny", "kind": "graph", "values": "counts.csv", "time": "stamp", "freq": "1h", "quantity": "people",
        "unit": "people", "licence": "CC0", "default_task": {"forecast": {"history": 24, "horizon": 6}},
    }  # fmt: skip
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(keys))
    return path


def test_facts_are_a_table_whose_first_column_is_never_cut(card):
    done = run_cli("data", "show", card, COLUMNS="60")
    assert done.returncode == 0, done.stderr
    assert "temporal.autocorrelation_step" in done.stdout
    assert "spatial.morans_i_of_anomalies" in done.stdout and "cannot be measured" in done.stdout


def test_facts_as_json_are_one_object_even_with_a_picture(card, tmp_path):
    done = run_cli("data", "show", card, "--json", "--plot", tmp_path / "page.png")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["kind"] == "graph" and facts["shape"]["time"] == 480
    assert facts["dependence"]["temporal"]["autocorrelation_day"] is not None
    assert "Plot: " in done.stderr and (tmp_path / "page.png").is_file()


def test_a_folder_for_the_picture_that_is_not_there_is_one_message(card, tmp_path):
    done = run_cli("data", "show", card, "--plot", tmp_path / "none/page.png")
    assert is_one_message(done), done.stderr


def test_the_list_shows_data_of_every_kind(tmp_path):
    done = run_cli("data", "list", ST2LLM_CACHE=str(tmp_path), ST2LLM_DATA=str(tmp_path))
    assert done.returncode == 0, done.stderr
    words = set(done.stdout.split())
    assert {"graph", "grid", "video", "trajectory", "event"} <= words


def test_an_instruction_set_is_written_and_resumed(card, tmp_path):
    order = ["data", "instruct", card, "--out", tmp_path / "set", "--count", "6", "--shard", "5"]
    done = run_cli(*order, "--task", "forecast", "--task", "question-answer.choice")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("12 rows in 3 shards (0 kept)")
    again = run_cli(*order, "--task", "forecast", "--task", "question-answer.choice", "--resume")
    assert again.stdout.startswith("12 rows in 3 shards (3 kept)"), again.stderr
    refused = run_cli(*order, "--task", "forecast", "--resume")
    assert is_one_message(refused) and "another order" in refused.stderr


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--count", "0"], 2, "count"),
        (["--part", "trian"], 1, "Did you mean 'train'"),
        (["--task", "describe"], 1, "no true answer"),
        (["--task", "forcast"], 1, "Did you mean"),
    ],
)
def test_an_order_that_cannot_be_met_leaves_nothing_behind(card, tmp_path, more, code, says):
    done = run_cli("data", "instruct", card, "--out", tmp_path / "set", *more)
    assert done.returncode == code and says in done.stderr, done.stderr
    assert not (tmp_path / "set").exists()


def test_a_data_set_is_exported_in_the_format_of_the_file_name(card, tmp_path):
    done = run_cli("data", "export", card, "--out", tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "time,place,value"
    done = run_cli("data", "export", card, "--out", tmp_path / "out.xlsx")
    assert is_one_message(done) and "should end in .csv, .parquet or .nc" in " ".join(done.stderr.split())
