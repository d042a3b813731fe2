"""The outcome of a control: passed, failed, vacuous or unresolved."""

from dataclasses import replace

import numpy as np
import pytest
from support.finished_arms import ERRORS, arms_of, table

from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.scoring.control_results import LEAST_MOVED, _learned, control_outcome, distance


def gain(low, high, n_seeds=3):
    middle = None if low is None else (low + high) / 2
    p = None if low is None else 0.01 if low > 0 or high < 0 else 0.5
    return Gain("none", middle or 0.0, low, high, 40, None, n_seeds=n_seeds, p=p)


@pytest.mark.parametrize(
    ("name", "spans", "moved", "outcome"),
    [
        ("positive", ((0.1, 0.3), (0.2, 0.4)), 0.3, "passed"),
        ("positive", ((0.1, 0.3), (-0.1, 0.4)), 0.3, "failed"),
        ("positive", ((-0.01, 0.01), (-0.01, 0.01)), 0.001, "vacuous"),
        ("dose-1", ((0.005, 0.01), (0.005, 0.01)), 0.015, "passed"),
        ("negative", ((-0.1, 0.1), (-0.1, 0.2)), 0.3, "passed"),
        ("negative", ((0.01, 0.1), (-0.1, 0.2)), 0.3, "failed"),
        ("negative", ((-0.2, -0.1), (-0.1, 0.2)), 0.3, "failed"),
        ("negative", ((-0.1, 0.1), (-0.1, 0.2)), LEAST_MOVED / 2, "vacuous"),
        ("negative", ((None, None), (-0.1, 0.2)), 0.3, "unresolved"),
    ],
)
def test_outcomes(name, spans, moved, outcome):
    assert control_outcome(name, (gain(*spans[0]), gain(*spans[1])), moved) == outcome


@pytest.mark.parametrize(
    ("span", "learned", "outcome"),
    [((-0.1, 0.1), 0.9, "passed"), ((-0.1, 0.1), 0.4, "vacuous"), ((0.01, 0.1), 0.4, "failed"),
     ((-0.1, 0.1), -0.2, "vacuous")],
)  # fmt: skip
def test_a_negative_control_asks_how_much_its_arms_learned(span, learned, outcome):
    """Two arms that learned the same are right, though their predictions hardly differ."""
    assert control_outcome("negative", (gain(*span),) * 2, LEAST_MOVED / 2, learned) == outcome


def test_the_arm_that_learned_least_counts():
    planted = {"without_note": 5.0, "with_note": 4.0}
    assert _learned(planted, [4.1, 4.4]) == pytest.approx(0.6)
    assert _learned(planted, [5.2, 4.0]) == pytest.approx(-0.2)
    assert _learned({}, [5.2]) is None
    assert _learned(planted | {"with_note": 5.0}, [5.2]) is None


def test_a_negative_control_does_not_fail_by_looking_at_two_gains():
    """One of two intervals excludes zero by chance in nearly 10 % of runs."""
    both = replace(gain(0.001, 0.1), p=0.04), replace(gain(-0.1, 0.2), p=0.5)
    assert control_outcome("negative", both, 0.3) == "passed"


def test_a_control_of_two_seeds_is_unresolved():
    assert control_outcome("positive", (gain(0.1, 0.2, n_seeds=2),) * 2, 0.3) == "unresolved"


def test_a_control_without_a_twin_is_unresolved():
    assert control_outcome("positive", (gain(0.1, 0.2), None), 0.3) == "unresolved"


def test_the_distance_of_arms_bounds_their_gain():
    rng = np.random.default_rng(1)
    moved = ERRORS + rng.normal(0, 0.5, len(ERRORS))
    arms = arms_of(("none", 4.0, table(ERRORS)), ("frozen", 4.0, table(moved)))
    apart = distance(arms, "frozen", "none")
    assert apart == pytest.approx(np.abs(moved - ERRORS).mean() / np.abs(ERRORS).mean())
    assert abs(1 - np.abs(moved).mean() / np.abs(ERRORS).mean()) <= apart


def test_arms_that_predict_the_same_are_not_apart_and_labels_count_differences():
    arms = arms_of(("none", 4.0, table(ERRORS)), ("frozen", 4.0, [table(ERRORS), table(0.0)]))
    assert distance(arms, "frozen", "none") == 0.0
    one, other = (table(0.0).assign(answer=answer) for answer in ("home", "work"))
    other.loc[: len(other) // 2 - 1, "answer"] = "home"
    labelled = arms_of(("none", 4.0, one), ("frozen", 4.0, other))
    assert distance(labelled, "frozen", "none") == 0.5
