from dataclasses import replace

import numpy as np
import pytest
from support import five_kinds

from st2llm.errors import DataError
from st2llm.retrieve.window_index import WindowIndex, with_truth
from st2llm.types import TrainingWindows


def _sample(values, start=0, history=4):
    data = five_kinds.graph(2, nodes=1)
    sample = five_kinds.field_samples(data, history, len(values) - history)[0]
    whole = np.asarray(values, dtype=float)[:, None, None]
    return replace(
        sample,
        id=f"made/{start}",
        values=np.where(sample.visible, whole, np.nan),
        truth=np.where(sample.wanted, whole, np.nan),
        time=sample.time + start * five_kinds.DAY,
    )


RISE, FALL, BUMP = [0, 1, 2, 3, 9], [3, 2, 1, 0, 8], [0, 5, 5, 0, 7]


def test_the_same_shape_on_another_level_and_scale_is_nearest():
    index = WindowIndex.fit(TrainingWindows([_sample(v, i) for i, v in enumerate([FALL, RISE, BUMP])]))
    asked = _sample([100, 120, 140, 160, 0], 9)
    found = index.similar(asked, 3)
    assert next(sample.id for sample in found) == "made/1"
    assert index.matches(asked, 0, 1)[0].distance == pytest.approx(0.0, abs=1e-6)


def test_nearest_is_exact_as_a_plain_loop_finds_it():
    rng = np.random.default_rng(0)
    train = [_sample(rng.normal(size=12).cumsum(), i, history=8) for i in range(50)]
    asked = _sample(rng.normal(size=12).cumsum(), 90, history=8)
    z = lambda s: (s.values[:8, 0, 0] - s.values[:8, 0, 0].mean()) / s.values[:8, 0, 0].std()  # noqa: E731
    order = np.argsort([np.linalg.norm(z(s) - z(asked)) for s in train])[:5]
    found = WindowIndex.fit(TrainingWindows(train)).similar(asked, 5)
    assert [s.id for s in found] == [train[i].id for i in order]


def test_what_is_found_is_solved_and_narrowed_to_the_place_asked_for():
    samples = five_kinds.field_samples(five_kinds.graph(), 24, 6, stride=24)
    found = WindowIndex.fit(TrainingWindows(samples[:6])).similar(samples[8].at("gate-1"), 2)
    assert [sample.wanted_nodes for sample in found] == [(1,), (1,)]
    assert np.isfinite(with_truth(found[0])[:, 1]).all()


def test_without_narrowing_whole_windows_are_found():
    samples = five_kinds.field_samples(five_kinds.graph(), 24, 6, stride=24)
    found = WindowIndex.fit(TrainingWindows(samples[:6])).similar(samples[8], 2)
    assert [sample.wanted_nodes for sample in found] == [(0, 1, 2)] * 2


def test_any_place_may_answer_where_the_index_says_so_and_the_same_place_comes_first_elsewhere():
    data = five_kinds.graph(10)
    values = data.values.copy()
    values[:, 0, 0] = np.random.default_rng(1).normal(100, 10, len(values))
    samples = five_kinds.field_samples(replace(data, values=values), 24, 6, stride=24)
    wave = samples[-1]
    asked = replace(wave, values=wave.values[:, [1, 1, 2]]).at("gate-0")
    same = WindowIndex.fit(TrainingWindows(samples[:5])).matches(asked, 0, 7)
    assert [match.node for match in same[:5]] == [0] * 5 and {match.node for match in same[5:]} <= {1, 2}
    anywhere = WindowIndex.fit(TrainingWindows(samples[:5]), places="any").matches(asked, 0, 3)
    assert {match.node for match in anywhere} <= {1, 2}


def test_nothing_after_the_train_part_changes_what_is_found():
    data = five_kinds.graph(10)
    other = data.values.copy()
    other[7 * 24 :] = 1e9
    answers = []
    for version in (data, replace(data, values=other)):
        samples = five_kinds.field_samples(version, 24, 6, stride=24)
        train = [s for s in samples if s.time[-1] < data.time[7 * 24]]
        asked = five_kinds.field_samples(data, 24, 6, stride=24)[-1].at("gate-2")
        found = WindowIndex.fit(TrainingWindows(train)).similar(asked, 20)
        assert {s.id for s in found} <= {s.id for s in train}
        assert max(int(s.time[-1]) for s in found) < data.time[7 * 24]
        answers.append([(s.id, float(np.nansum(with_truth(s)))) for s in found])
    assert answers[0] == answers[1]


def test_a_train_sample_finds_neither_itself_nor_a_window_that_holds_its_answer():
    samples = five_kinds.field_samples(five_kinds.graph(), 24, 6, stride=3)
    asked = samples[20]
    wanted = asked.time[asked.wanted_steps]
    found = WindowIndex.fit(TrainingWindows(samples)).similar(asked, len(samples))
    assert len(found) > 10
    for sample in found:
        assert sample.time[-1] < wanted[0] or sample.time[0] > wanted[-1]


def test_the_answer_of_the_asked_sample_plays_no_part():
    samples = five_kinds.field_samples(five_kinds.graph(), 24, 6, stride=12)
    index, asked = WindowIndex.fit(TrainingWindows(samples[:10])), samples[-1]
    before = [s.id for s in index.similar(asked, 4)]
    assert before == [s.id for s in index.similar(asked.without_truth(), 4)]


def test_walks_are_compared_by_direction_wherever_they_are():
    east, north = (
        five_kinds.walk_sample(five_kinds.walk(name="e"), 6),
        five_kinds.walk_sample(five_kinds.walk(name="n", east=0, north=1), 6),
    )
    far = five_kinds.walk(name="far", east=0.0, north=2.0)
    far = five_kinds.walk_sample(replace(far, xy=far.xy + 5e4), 6)
    assert WindowIndex.fit(TrainingWindows([east, north])).similar(far, 1)[0].id == north.id


def test_stays_of_unequal_number_are_compared_from_their_ends_by_the_places():
    user = five_kinds.stays()
    short = replace(
        user,
        id="short",
        time=user.time[2:],
        place=user.place[2:],
        attributes={"duration_min": user.attributes["duration_min"][2:]},
    )
    strange = replace(short, id="strange", place=("gym", "home", "gym", "work"))
    train = [five_kinds.stay_sample(strange), five_kinds.stay_sample(short)]
    found = WindowIndex.fit(TrainingWindows(train)).similar(five_kinds.stay_sample(user), 2)
    assert [sample.place[0] for sample in found] == ["short", "strange"]


def test_a_memory_budget_keeps_windows_evenly():
    samples = five_kinds.field_samples(five_kinds.graph(30), 24, 6)
    one_mb = WindowIndex.fit(TrainingWindows(samples * 12), budget_mb=1)
    assert one_mb.values.nbytes <= 2**20
    assert one_mb.kept[0] == 0 and one_mb.kept[-1] == 12 * len(samples) - 1


def test_other_data_an_empty_part_and_no_neighbours_are_refused():
    samples = five_kinds.field_samples(five_kinds.graph(), 24, 6, stride=24)
    index = WindowIndex.fit(TrainingWindows(samples[:3]))
    with pytest.raises(DataError, match="same data"):
        index.similar(five_kinds.field_samples(five_kinds.graph(nodes=2), 24, 6)[0], 1)
    with pytest.raises(DataError, match="empty"):
        WindowIndex.fit(TrainingWindows([]))
    with pytest.raises(DataError, match="k is 0"):
        index.similar(samples[5], 0)
