"""A damaged file of a run folder is named, with what to do about it."""

import json

import pandas as pd
import pytest

from st2llm.errors import DataError
from st2llm.evaluate.run_folder.reading import read_json, read_lines, read_record, read_table
from st2llm.evaluate.run_folder.store import RunStore, write_table

ARM = {"predictor": "a", "seed": 0, "wall_s": 1.0}
RUN_AGAIN = r"Delete .*arms/k\.json and run `st2llm compare SUITE --out .* --resume`: that arm is run again"


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path)
    store.finish(
        "k", ARM, pd.DataFrame({"x": range(100)}), [{"text": "1"}], validation=pd.DataFrame({"x": [1]})
    )
    return store


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", "\udcff"])
def test_a_damaged_record_of_an_arm_says_how_to_run_it_again(store, content):
    assert store.finished("k") == ARM and store.arms() == [ARM]
    (store.root / "arms/k.json").write_bytes(content.encode(errors="surrogateescape"))
    for read in (lambda: store.finished("k"), store.arms):
        with pytest.raises(DataError, match=rf"arms/k\.json is missing or damaged \(.*{RUN_AGAIN}"):
            read()


@pytest.mark.parametrize("folder", ["predictions", "validation"])
@pytest.mark.parametrize("share", [0.0, 0.5, None])
def test_cut_predictions_say_which_arm_to_run_again(store, folder, share):
    path = store.root / folder / "k.parquet"
    whole = path.read_bytes()
    path.unlink() if share is None else path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=rf"{folder}/k\.parquet is missing or damaged \(.*{RUN_AGAIN}"):
        getattr(store, folder)("k")


def test_each_file_has_its_own_remedy(tmp_path):
    for name, remedy in {
        "run.json": "Restore it from a copy, or run the suite into another --out",
        "results.jsonl": "--rescore",
        "scores.parquet": "--rescore",
        "other.json": "write into another --out",
    }.items():
        (tmp_path / name).write_text('{"x"')
        read = read_table if name.endswith("parquet") else read_lines if name.endswith("jsonl") else read_json
        with pytest.raises(DataError, match=rf"{name} is missing or damaged .*{remedy}"):
            read(tmp_path / name)
    (tmp_path / "run.json").write_text(json.dumps({"config": {}}))
    with pytest.raises(DataError, match="it has no 'data'"):
        read_record(tmp_path / "run.json", ("config", "data"))


def test_only_the_columns_that_a_table_has_are_read(tmp_path):
    write_table(tmp_path / "t.parquet", pd.DataFrame({"a": [1], "b": [2]}))
    assert list(read_table(tmp_path / "t.parquet", ("b", "c")).columns) == ["b"]
