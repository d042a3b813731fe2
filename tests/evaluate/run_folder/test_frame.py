"""Records as a flat table: pooled over seeds, or by seed."""

import pytest
from support import fake_run

from st2llm.evaluate.run_folder.frame import records_frame
from st2llm.evaluate.run_folder.results import read_results


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    plan = fake_run.Plan(
        arms=fake_run.FEW_ARMS, seeds=(0, 1), leave_out=("predictions", "scores", "answers", "curves")
    )
    return read_results(fake_run.write(tmp_path_factory.mktemp("run"), plan)).records


def test_pooled_records_have_a_row_for_each_predictor_and_no_seed(records):
    frame = records_frame(records, by_seed=False)
    assert sorted(frame["predictor"]) == sorted(arm.name for arm in fake_run.FEW_ARMS)
    assert "seed" not in frame and not any(frame[name].map(type).eq(dict).any() for name in frame)


def test_records_of_seeds_have_a_row_for_each_predictor_and_seed(records):
    frame = records_frame(records, by_seed=True)
    assert len(frame) == 2 * len(fake_run.FEW_ARMS) and set(frame["seed"]) == {0, 1}


def test_intervals_gains_and_costs_are_columns(records):
    frame = records_frame(records, by_seed=False).set_index("predictor")
    (arm,) = (record for record in records if record.predictor == "llm-lora" and record.seed is None)
    row = frame.loc["llm-lora"]
    assert row[["mae", "mae_low", "mae_high"]].tolist() == list(arm.metrics["mae"].to_json().values())
    assert (row["gain_best"], row["gain_best_vs"]) == (arm.gain_best.value, arm.gain_best.vs)
    assert row["cost_train_s"] == arm.cost["train_s"]


def test_no_records_are_an_empty_table_with_its_leading_columns():
    assert len(records_frame([], by_seed=False)) == 0 and "predictor" in records_frame([], by_seed=False)
