from support import fake_run

from st2llm.evaluate.report import protocol
from st2llm.evaluate.run_folder.results import read_results


def told(folder, **extra):
    run = fake_run.write(folder, fake_run.Plan(leave_out=("predictions", "answers"), extra=extra))
    return {title: dict(pairs) for title, pairs in protocol.describe(read_results(run))}


def test_the_protocol_names_split_budget_model_and_environment(tmp_path):
    said = told(tmp_path)
    assert (
        said["Data"]["windows"]
        == "1,460 train, 208 validation, 417 test; 40 test windows selected and all scored"
    )
    assert said["Suite and run"]["budget of each trained arm"] == "steps 300, batch 8, lr 0.001 0.0003"
    assert said["Language model"]["layers"] == "6 of 30"
    assert said["Environment"]["torch"] == "2.13.0+cpu"


def test_uncommitted_changes_are_told(tmp_path):
    assert told(tmp_path / "dirty", dirty=True)["Suite and run"]["commit"].endswith(
        "with uncommitted changes"
    )
    assert "uncommitted" not in told(tmp_path / "clean", dirty=False)["Suite and run"]["commit"]


def test_what_was_not_recorded_is_not_shown(tmp_path):
    said = told(tmp_path, commit=None, data_sha256=None, environment={}, split={}, llm=None)
    assert "commit" not in said["Suite and run"]
    assert not {"data sha256", "windows"} & set(said["Data"])
    assert said["Environment"] == {}
    assert said["Language model"] == {"took part": "no"}


def test_a_start_in_seconds_is_written_as_a_date(tmp_path):
    assert told(tmp_path, started=0)["Suite and run"]["started"] == "1970-01-01T00:00:00+00:00"


def test_a_package_that_is_not_installed_is_not_listed(tmp_path):
    assert told(tmp_path, environment={"peft": None, "python": "3.11"})["Environment"] == {"python": "3.11"}
