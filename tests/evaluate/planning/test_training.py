"""A training run is checked, and its plan printed, before anything trains."""

import datasets
import pytest

from st2llm.config.training import InstructionRecipe, PretrainRecipe
from st2llm.errors import ConfigError
from st2llm.evaluate.planning.training import check_recipe, plan_training


@pytest.fixture
def pretraining(card):
    return PretrainRecipe(
        id="masked",
        data=str(card),
        task={"forecast": {"history": 48, "horizon": 24}},
        objectives={"masked": {}},
        budget={"steps": 20, "batch": 4},
    )


def test_the_plan_of_a_pre_training_states_samples_steps_time_and_memory_and_writes_nothing(
    tmp_path, pretraining
):
    rows = dict(plan_training(pretraining, tmp_path / "out", resume=False))
    assert rows["run"] == f"masked into {tmp_path / 'out'}"
    assert "to train on" in rows["samples"]
    assert (rows["steps"], rows["samples seen"]) == ("20, batch 4", "80")
    assert "estimate" in rows["time"] and "estimate" in rows["memory"]
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_a_run_is_refused_in_the_plan(tmp_path, pretraining):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds a run already"):
        plan_training(pretraining, tmp_path, resume=False)


def _instructions(llama, **changes):
    return InstructionRecipe(
        id="questions", llm={"name": str(llama)}, budget={"steps": 20}, instructions=changes
    )


def test_a_set_without_the_rows_of_the_exam_is_found_before_training(tmp_path, llama):
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    datasets.Dataset.from_list([row]).to_parquet(tmp_path / "train-00000.parquet")
    with pytest.raises(ConfigError, match="has no test split. Add one, or set instructions.test: 0"):
        check_recipe(_instructions(llama, path=str(tmp_path)))
    check_recipe(_instructions(llama, path=str(tmp_path), test=0))


def test_a_template_that_does_not_exist_is_found_before_the_set_is_written(card, llama):
    recipe = _instructions(llama, data=str(card), templates=("question-answr.chat",))
    with pytest.raises(ConfigError, match="Did you mean 'graph/question-answer.chat'"):
        check_recipe(recipe)
