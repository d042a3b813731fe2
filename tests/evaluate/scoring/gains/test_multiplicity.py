from dataclasses import replace

import pytest

from st2llm.evaluate.run_folder.record import Gain, Record
from st2llm.evaluate.scoring.gains.multiplicity import adjust_for_arms, holm


def test_holm_multiplies_the_smallest_by_all_and_the_next_by_one_less_and_keeps_the_order():
    assert holm([0.01, None, 0.04, 0.03]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
    ]
    assert holm([None]) == [None]


def test_arms_of_a_task_are_corrected_together_and_seeds_and_other_tasks_apart():
    gain = Gain("none", 0.1, 0.0, 0.2, 40, 0.1, p=0.02)
    row = Record(predictor="a", task="t", family="soft", n=1, metrics={}, gain_best=gain)
    rows = [row, replace(row, predictor="b"), replace(row, seed=0), replace(row, task="u")]
    adjusted = [record.gain_best.p_adjusted for record in adjust_for_arms(rows)]
    assert adjusted == [pytest.approx(0.04), pytest.approx(0.04), None, pytest.approx(0.02)]
