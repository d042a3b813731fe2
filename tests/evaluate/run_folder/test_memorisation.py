"""The line about memorisation in the records and the report of a run."""

import json
import shutil

import pytest

from st2llm.errors import DataError
from st2llm.evaluate.report.run_report import rescore
from st2llm.evaluate.run_folder.memorisation import MEMORY_FILE, memorisation_of, read_memorisation

_MEMORY = {
    "llm": "m",
    "llm_sha256": "ab",
    "data": "town",
    "signs": True,
    "sentence": "m on town: signs",
    "tests": [],
}


@pytest.mark.parametrize(
    ("llm", "data", "is_said"),
    [
        ({"sha256": "ab"}, "town", True),
        ({"sha256": "cd"}, "town", False),
        ({"sha256": "ab"}, "city", False),
        (None, "town", False),
    ],
)
def test_only_records_of_the_probed_model_and_data_say_it(llm, data, is_said):
    said = memorisation_of(_MEMORY, llm, data)
    assert said == ({"signs": True, "sentence": "m on town: signs"} if is_said else None)
    assert memorisation_of(None, llm, data) is None


def test_a_damaged_probe_is_named(tmp_path):
    (tmp_path / MEMORY_FILE).write_text("{}")
    with pytest.raises(DataError, match=r"memory\.json"):
        read_memorisation(tmp_path)


@pytest.mark.slow
def test_a_run_that_holds_a_probe_states_it_in_records_and_report(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    first = next(
        r for line in (run / "results.jsonl").read_text().splitlines() if (r := json.loads(line))["llm"]
    )
    memory = {**_MEMORY, "llm_sha256": first["llm"]["sha256"], "data": "tiny-town"}
    (run / MEMORY_FILE).write_text(json.dumps(memory))
    records = rescore(run).results
    assert {
        bool(record.memorisation)
        for record in records
        if record.llm and record.llm["sha256"] == first["llm"]["sha256"]
    } == {True}
    assert not any(record.memorisation for record in records if record.llm is None)
    assert "m on town: signs" in (run / "report.md").read_text()
