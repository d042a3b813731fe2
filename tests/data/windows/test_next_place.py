import re
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from st2llm import tasks
from st2llm.data.windows import sequences
from st2llm.errors import DataError
from st2llm.types import SplitPlan, Trajectory

DAY = 86_400


def person(name: str, days: list[int], parts: list[int], **keys: object) -> Trajectory:
    """A stay each of these days, on one day ten minutes apart; the place is the number of the stay, modulo 7."""
    order = np.arange(len(days))
    hour = np.array([days[:i].count(day) for i, day in enumerate(days)])
    trajectory = Trajectory(
        "tiny", name, "UTC", np.array(days, dtype=np.int64) * DAY + hour * 600, place=tuple(f"p{i % 7}" for i in order),
        attributes={"duration_min": order.astype(np.float64)}, split=SplitPlan(1.0, 0.0, 0.0, by="given"),
        part=np.array(parts, dtype=np.int64),
    )  # fmt: skip
    return replace(trajectory, **keys)


def test_a_sample_holds_history_then_context_then_the_stay_that_is_asked_for() -> None:
    trajectory = person("ann", [*range(20), 30, 32, 34, 35, 36, 37, 38], [0] * 10 + [1] * 10 + [2] * 7)
    _, _, test = sequences.split_trajectories([trajectory], tasks.next_place(history=4, context_stays=2))
    sample = test[0]
    assert len(test) == 2
    assert sample.side.channels == ("place", "duration_min")
    np.testing.assert_array_equal(sample.values[:, 0, 1], [16, 17, 18, 19, 23, 24, np.nan])
    assert sample.label == "p4"
    assert sample.side.options == tuple(f"p{i}" for i in range(7))
    assert sample.truth is not None
    assert sample.truth[-1, 0, 0] == 4
    assert sample.wanted.sum() == 1
    assert not sample.visible[-1].any()
    assert sample.time[-1] == 37 * DAY
    assert sample.id == "tiny/ann/stay-25"


def test_the_time_of_the_stay_is_shown_only_where_the_task_says_so() -> None:
    trajectory = person("ann", [*range(10), *range(20, 30)], [0] * 10 + [2] * 10)
    _, _, test = sequences.split_trajectories([trajectory], tasks.next_place(target_time=False))
    sample = test[0]
    assert sample.time[-1] == sample.time[-2]
    assert sample.side.calendar.day_of_week[-1] == sample.side.calendar.day_of_week[-2]


def test_a_part_without_an_earlier_one_takes_its_own_stays_as_history() -> None:
    trajectory = person("ann", list(range(20)), [0] * 20)
    train, _, test = sequences.split_trajectories([trajectory], tasks.next_place(history=3, context_stays=2))
    assert len(test) == 0
    np.testing.assert_array_equal(train[-1].values[:-1, 0, 1], [14, 15, 16, 17, 18])


def test_hidden_places_never_reach_the_values() -> None:
    trajectory = person("ann", [*range(10), *range(20, 32)], [0] * 10 + [2] * 12)
    for sample in sequences.split_trajectories([trajectory], tasks.next_place())[2]:
        assert np.isnan(sample.values[-1]).all()


def test_a_stay_at_no_known_place_is_not_asked_for() -> None:
    trajectory = person("ann", list(range(12)), [0] * 12)
    assert trajectory.place is not None
    trajectory = replace(trajectory, place=(*trajectory.place[:-1], ""))
    assert 11 not in sequences.split_trajectories([trajectory], tasks.next_place())[0].indices()


def test_places_have_words_where_the_data_have_them() -> None:
    trajectory = person("ann", list(range(12)), [0] * 12, place_labels={"p1": "Café"})
    side = sequences.split_trajectories([trajectory], tasks.next_place())[0][0].side
    assert side.option_labels[side.options.index("p1")] == "Café"
    assert side.option_labels[side.options.index("p2")] == "p2"


def test_numbers_of_places_are_listed_by_size() -> None:
    trajectory = replace(person("ann", list(range(12)), [0] * 12), place=tuple(["10", "9"] * 6))
    assert sequences.split_trajectories([trajectory], tasks.next_place())[0][0].side.options == ("9", "10")


def test_a_part_too_short_for_a_sample_is_an_error() -> None:
    with pytest.raises(DataError, match="the test part has 3"):
        sequences.split_trajectories([person("ann", list(range(15)), [0] * 12 + [2] * 3)], tasks.next_place())


def test_the_advice_for_a_part_too_short_gives_it_samples() -> None:
    trajectory = person("ann", [*range(12), 20, 20, 20, 21, 21, 22], [0] * 12 + [2] * 6)
    with pytest.raises(DataError, match=r"span at most 2 days of the test part") as error:
        sequences.split_trajectories([trajectory], tasks.next_place())
    advice = re.search(r"task: \{(next-place: \{.*?\})\}", str(error.value))
    assert advice is not None
    (task,) = tasks.from_config(yaml.safe_load(advice[1]))
    assert len(sequences.split_trajectories([trajectory], task)[2]) > 0


def test_where_no_settings_help_none_are_advised() -> None:
    with pytest.raises(DataError, match="Fewer days do not help"):
        sequences.split_trajectories([person("ann", [*range(12), 20], [0] * 12 + [2])], tasks.next_place())


def test_a_sample_says_how_far_its_context_reaches() -> None:
    task = tasks.next_place(context_stays=2, context_days=3, gap_days=1, least_context=1)
    side = sequences.split_trajectories([person("ann", list(range(12)), [0] * 12)], task)[0][0].side
    assert (side.stay_context.days, side.stay_context.stays) == (3, 2)


@given(
    st.lists(st.integers(0, 30), min_size=12, max_size=60),
    st.integers(1, 6),
    st.sampled_from([(7, 7, 3), (1, 0, 1), (2, 3, 2)]),
)
def test_questions_and_contexts_are_those_of_a_plain_search(
    days: list[int], context: int, rule: tuple[int, int, int]
) -> None:
    context_days, gap_days, least = rule
    days = [*range(12), *(12 + day for day in sorted(days))]
    parts = [0] * 12 + [2] * (len(days) - 12)
    trajectory = person("ann", days, parts)
    first = days[12]
    expected = {}
    for i in range(12, len(days)):
        week = [j for j in range(12, i) if days[j] >= days[i] - context_days]
        if days[i] >= first + gap_days and len(week) >= least:
            expected[i] = week[-context:]
    if not expected:
        return
    task = tasks.next_place(5, context, context_days=context_days, gap_days=gap_days, least_context=least)
    test = sequences.split_trajectories([trajectory], task)[2]
    assert test.indices().tolist() == list(expected)
    for sample, stays in zip(test, expected.values(), strict=True):
        np.testing.assert_array_equal(sample.values[:-1, 0, 1], [7, 8, 9, 10, 11, *stays])


def test_stays_need_no_common_step() -> None:
    trajectory = person("ann", [*range(0, 40, 3), *range(41, 60)], [0] * 33)
    assert sequences.split_trajectories([trajectory], tasks.next_place())[0][0].side.freq_s == 60
