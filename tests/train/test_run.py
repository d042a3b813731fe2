"""A training folder has one writer, and damaged files of a run are named."""

import json

import pytest

from st2llm.config.training import PretrainRecipe
from st2llm.errors import ConfigError
from st2llm.files import exclusive
from st2llm.train.checkpointing import RunFolder
from st2llm.train.loop.state import TrainingState
from st2llm.train.run import open_run

RECIPE = PretrainRecipe.model_validate(
    {
        "id": "tiny",
        "data": "card.yaml",
        "task": {"forecast": {"history": 12, "horizon": 6}},
        "objectives": {"regression": {}},
        "budget": {"steps": 2},
    }
)


def state(step: int) -> TrainingState:
    return TrainingState(
        step=step, rows=[(step, 1.0, 1.0)], best=1.0, weights={}, current={}, optimiser={}, seconds=0.0
    )


def test_a_second_run_into_the_folder_is_refused_while_the_first_writes(tmp_path):
    out = tmp_path / "out"
    with open_run(RECIPE, out, resume=False):
        for resume in (False, True):
            with (
                pytest.raises(ConfigError, match="being written by another process"),
                open_run(RECIPE, out, resume=resume),
            ):
                raise AssertionError("two writers")
    with (
        exclusive(out),
        pytest.raises(ConfigError, match="being written by another process"),
        open_run(RECIPE, out, resume=True),
    ):
        raise AssertionError("two writers")
    assert not out.exists()


def test_another_process_of_the_same_launch_shares_the_folder(tmp_path, monkeypatch):
    with open_run(RECIPE, tmp_path, resume=False):
        monkeypatch.setenv("RANK", "1")
        with open_run(RECIPE, tmp_path, resume=False) as folder:
            assert not folder.main


def test_a_run_is_resumed_with_another_title_and_other_trackers(tmp_path):
    before = RECIPE.model_dump(mode="json") | {"title": "first", "report_to": ["wandb"]}
    (tmp_path / "run.json").write_text(json.dumps(before))
    with open_run(RECIPE, tmp_path, resume=True):
        pass
    (tmp_path / "run.json").write_text(json.dumps(before | {"seed": 1}))
    with (
        pytest.raises(ConfigError, match="another recipe: seed differ"),
        open_run(RECIPE, tmp_path, resume=True),
    ):
        raise AssertionError("opened")


def test_an_unfinished_checkpoint_is_removed_when_the_run_is_resumed(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RECIPE.model_dump(mode="json")))
    for name in (".last.a1b2c3d4", ".best.a1b2c3_4"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text("{")
    with open_run(RECIPE, tmp_path, resume=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"id"'])
def test_a_damaged_description_of_the_run_is_named(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with (
        pytest.raises(ConfigError, match=r"run\.json is damaged .* another --out"),
        open_run(RECIPE, tmp_path, resume=True),
    ):
        raise AssertionError("opened")


@pytest.mark.parametrize("line", ["{", "{}", "[]", '{"step": null}'])
def test_a_damaged_log_is_named(tmp_path, line):
    (tmp_path / "log.jsonl").write_text(line + "\n")
    with pytest.raises(ConfigError, match=r"log\.jsonl is damaged"):
        RunFolder(tmp_path, RECIPE, seed=0).save(state(1), {})
