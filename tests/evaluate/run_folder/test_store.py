"""The run folder: whole files or none, one run in a folder, refusals before any work."""

import errno
import json

import pandas as pd
import pytest
from support import tiny_suite

from st2llm.config.suite import Suite
from st2llm.errors import ConfigError, StorageError
from st2llm.evaluate.run_folder.reading import read_json, read_lines
from st2llm.evaluate.run_folder.store import RunStore, run_folders, write_json, write_lines, write_table
from st2llm.files import write_atomically

CONFIG = {"limit": None, "title": "", "predictors": [{"name": "a", "x": 1}, {"name": "b", "x": 1}]}
RUN = {
    "config": CONFIG,
    "config_sha256": "c" * 64,
    "suite": {"id": "s"},
    "data_sha256": "d" * 64,
    "side_sha256": "e" * 64,
    "split_sha256": "e" * 64,
    "commit": "a",
    "dirty": False,
    "changed": [],
    "started": "before",
}


def test_a_file_is_written_with_its_folders(tmp_path):
    write_json(tmp_path / "a/b/c.json", {"x": [1, None, "é"]})
    assert read_json(tmp_path / "a/b/c.json") == {"x": [1, None, "é"]}
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["c.json"]


def test_lines_come_back_as_they_went_in_line_separators_inside_words_too(tmp_path):
    rows = [{"text": "one\nline\u2028more"}, {"text": "é", "n": 1}]
    write_lines(tmp_path / "rows.jsonl", rows)
    assert read_lines(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize("broken", [OSError(errno.ENOSPC, "No space left on device"), OSError("short write")])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, broken):
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def write(file):
        file.write_text("half")
        raise broken

    with pytest.raises(StorageError, match=r"kept\.txt could not be written: .*--resume"):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_any_other_error_passes_and_leaves_nothing_behind(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "x.txt", lambda file: 1 / 0)
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_json_does_not_know_is_refused_before_the_file_is_touched(tmp_path):
    write_json(tmp_path / "x.json", {"v": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"v": float("nan")})
    assert read_json(tmp_path / "x.json") == {"v": 1.0}


def test_a_folder_below_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="could not be written"):
        write_json(tmp_path / "file/run.json", {})


def test_an_output_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ConfigError, match="is a file, but a folder"):
        RunStore(tmp_path / "taken").claim(resume=True)


def test_a_folder_with_a_run_is_refused_unless_it_is_resumed(tmp_path):
    store = RunStore(tmp_path)
    store.claim(resume=False)
    store.open(RUN)
    with pytest.raises(ConfigError, match="already holds a run.*--resume"):
        store.claim(resume=False)
    store.claim(resume=True)


@pytest.mark.parametrize("key", ["sha256", "config_sha256"])
def test_a_run_with_another_language_model_cannot_be_resumed(tmp_path, key):
    llm = {"name": "m", "sha256": "a" * 64, "config_sha256": "b" * 64}
    RunStore(tmp_path).open({**RUN, "llm": llm})
    RunStore(tmp_path).open({**RUN, "llm": {**llm, "params": 3}})
    with pytest.raises(ConfigError, match=rf"another llm\.{key} .*cannot be resumed"):
        RunStore(tmp_path).open({**RUN, "llm": {**llm, key: "f" * 64}})


@pytest.mark.parametrize(
    "key", ["data_sha256", "side_sha256", "split_sha256", "warmup_data_sha256", "faults"]
)
def test_a_run_on_other_data_or_another_split_cannot_be_resumed(tmp_path, key):
    run = {**RUN, "warmup_data_sha256": "a" * 64, "faults": [{"place": "a"}]}
    RunStore(tmp_path).open(run)
    with pytest.raises(ConfigError, match=rf"another {key} .*cannot be resumed"):
        RunStore(tmp_path).open({**run, key: "f" * 64})
    assert read_json(tmp_path / "run.json") == run


def test_a_suite_whose_setting_for_all_arms_changed_cannot_be_resumed(tmp_path):
    RunStore(tmp_path).open(RUN)
    with pytest.raises(ConfigError, match=r"another limit \(None, now 3\)"):
        RunStore(tmp_path).open({**RUN, "config": {**CONFIG, "limit": 3}})
    assert read_json(tmp_path / "run.json") == RUN


def test_a_run_goes_on_with_other_controls_and_a_control_only_with_what_it_planted(tmp_path):
    RunStore(tmp_path).open(RUN)
    RunStore(tmp_path).open({**RUN, "config": {**CONFIG, "version": 2, "controls": {"predictors": ["b"]}}})
    assert read_json(tmp_path / "run.json")["config"]["controls"] == {"predictors": ["b"]}
    control = RunStore(tmp_path / "controls/positive")
    control.open({**RUN, "planted": {"strength": 0.4, "amount": 1.5, "rule": "mean"}})
    control.open({**RUN, "planted": {"strength": 0.4, "amount": 1.5 + 1e-12, "rule": "mean"}})
    with pytest.raises(ConfigError, match=r"another planted\.strength \(0\.4, now 0\.8\)"):
        control.open({**RUN, "planted": {"strength": 0.8, "amount": 1.5}})
    with pytest.raises(ConfigError, match=r"another planted\.amount"):
        control.open({**RUN, "planted": {"strength": 0.4, "amount": 1.6}})


@pytest.fixture
def half_finished(tmp_path):
    """A run with one finished arm each of the predictors a and b."""
    store = RunStore(tmp_path)
    store.open(RUN)
    for name in ("a", "b"):
        store.finish(f"{name}-0", {"key": f"{name}-0", "predictor": name}, pd.DataFrame({"value": [1.0]}), [])
    return store


def resume_with(store, predictors, **options):
    return store.open({**RUN, "config": {**CONFIG, "predictors": predictors}}, **options)


def test_a_changed_predictor_runs_again_and_its_earlier_result_is_set_aside(half_finished):
    changed = [{"name": "a", "x": 1}, {"name": "b", "x": 2}, {"name": "c", "x": 1}]
    resumption = resume_with(half_finished, changed)
    assert half_finished.finished("a-0") is not None and half_finished.finished("b-0") is None
    aside = half_finished.root / "replaced/1"
    assert {str(path.relative_to(aside)) for path in aside.rglob("b-0.*")} == {
        "arms/b-0.json",
        "predictions/b-0.parquet",
    }
    assert resumption.notes == (f"Run again with changed settings: b. The earlier results lie in {aside}.",)
    card = read_json(half_finished.root / "run.json")
    assert card["config"]["predictors"] == changed and card["resumed"][0]["replaced"] == ["b"]


def test_a_finished_predictor_that_the_suite_no_longer_names_is_kept_and_told(half_finished):
    resumption = resume_with(half_finished, [{"name": "b", "x": 1}, {"name": "c", "x": 1}])
    assert half_finished.finished("a-0") is not None and not (half_finished.root / "replaced").exists()
    assert "not in the suite now: a." in resumption.notes[0] and "--prune" in resumption.notes[0]
    card = read_json(half_finished.root / "run.json")
    assert [p["name"] for p in card["config"]["predictors"]] == ["b", "c", "a"]
    assert card["config_sha256"] != RUN["config_sha256"] and card["resumed"][0]["kept"] == ["a"]


def test_a_predictor_without_a_finished_arm_is_dropped(half_finished):
    (half_finished.root / "arms/a-0.json").unlink()
    assert resume_with(half_finished, [{"name": "b", "x": 1}]).notes == ()
    assert read_json(half_finished.root / "run.json")["config"]["predictors"] == [{"name": "b", "x": 1}]


def test_pruning_deletes_what_the_suite_does_not_name_as_it_was(half_finished):
    resume_with(half_finished, [{"name": "a", "x": 1}, {"name": "b", "x": 2}])
    assert resume_with(half_finished, [{"name": "b", "x": 3}], prune=True).notes == ()
    left = {str(path.relative_to(half_finished.root)) for path in half_finished.root.rglob("*-0.*")}
    assert left == set()
    assert [p["name"] for p in read_json(half_finished.root / "run.json")["config"]["predictors"]] == ["b"]


def test_pruning_deletes_nothing_where_the_run_cannot_be_resumed(half_finished):
    with pytest.raises(ConfigError, match="cannot be resumed"):
        half_finished.open({**RUN, "data_sha256": "f" * 64, "config": {"predictors": []}}, prune=True)
    assert len(half_finished.arms()) == 2


def test_a_setting_that_came_since_leaves_finished_arms_finished(tmp_path):
    suite = Suite.model_validate(tiny_suite.everything("town.yaml", "tiny"))
    now = suite.model_dump(mode="json")
    before = json.loads(json.dumps(now))
    for predictor in before["predictors"]:
        del predictor["set"]["draws"]
    store = RunStore(tmp_path)
    store.open({**RUN, "config": before})
    store.finish("text-0", {"key": "text-0", "predictor": "text"}, pd.DataFrame({"value": [1.0]}), [])
    store.open({**RUN, "config": now})
    assert store.finished("text-0") is not None
    now["predictors"][-1]["set"] |= {"draws": 5, "temperature": 0.7}
    store.open({**RUN, "config": now})
    assert store.finished("text-0") is None


def test_a_resumed_run_keeps_its_card_and_adds_when_and_at_which_commit_it_went_on(tmp_path):
    RunStore(tmp_path).open(RUN)
    RunStore(tmp_path).mark_finished("then")
    dirty = {"dirty": True, "changed": ["st2llm/metrics.py"]}
    for commit in ("b", "a"):
        RunStore(tmp_path).open({**RUN, **dirty, "commit": commit, "started": f"at {commit}"})
    again = [{**dirty, "commit": c, "started": f"at {c}", "same_commit": c == "a"} for c in ("b", "a")]
    assert read_json(tmp_path / "run.json") == {**RUN, "resumed": again}  # no longer finished


def test_a_folder_is_a_run_or_holds_runs(tmp_path):
    for name in ("b", "a"):
        write_json(tmp_path / name / "run.json", RUN)
    assert run_folders(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert run_folders(tmp_path / "a") == [tmp_path / "a"]
    with pytest.raises(ConfigError, match="nowhere holds no run.json"):
        run_folders(tmp_path / "nowhere")


def test_an_arm_is_finished_when_its_facts_are_there(tmp_path):
    store = RunStore(tmp_path)
    assert store.finished("a-0") is None
    store.finish("a-0", {"key": "a-0"}, pd.DataFrame({"value": [1.0]}), [{"answer": "1"}])
    assert store.finished("a-0") == {"key": "a-0"}
    assert store.predictions("a-0")["value"].tolist() == [1.0]
    assert read_lines(tmp_path / "answers/a-0.jsonl") == [{"answer": "1"}]


def test_an_arm_whose_predictions_cannot_be_written_is_not_finished(tmp_path):
    store = RunStore(tmp_path)
    (tmp_path / "predictions").write_text("in the way")
    with pytest.raises(StorageError):
        store.finish("a-0", {"key": "a-0"}, pd.DataFrame({"value": [1.0]}), [])
    assert store.finished("a-0") is None


def test_what_a_killed_process_left_half_written_is_no_arm(tmp_path):
    store = RunStore(tmp_path)
    store.finish("a-0", {"key": "a-0"}, pd.DataFrame({"value": [1.0]}), [])
    (tmp_path / "arms/.b-0.json.x1y2z3_4.json").write_text('{"key": "b-')
    assert store.arms() == [{"key": "a-0"}]


def test_resuming_sweeps_away_what_a_killed_process_left_and_nothing_else(tmp_path):
    RunStore(tmp_path).open(RUN)
    (tmp_path / "controls/arms").mkdir(parents=True)
    left = [tmp_path / "controls/arms/.b-0.json.x1y2z3_4.json", tmp_path / ".report.html.abcdefgh.html"]
    kept = [tmp_path / ".gitignore", tmp_path / ".notes.txt", tmp_path / "controls/arms/b-0.json"]
    for path in left + kept:
        path.write_text("{")
    RunStore(tmp_path).open(RUN)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_a_table_comes_back_with_its_categories(tmp_path):
    frame = pd.DataFrame({"place": pd.Categorical(["a", "b", "a"]), "value": [1.0, 2.0, 3.0]})
    write_table(tmp_path / "t.parquet", frame)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), frame)


def test_files_are_utf_8_and_end_with_a_line_break(tmp_path):
    write_json(tmp_path / "x.json", {"name": "Tāmaki"})
    text = (tmp_path / "x.json").read_bytes().decode("utf-8")
    assert "Tāmaki" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {"name": "Tāmaki"}
