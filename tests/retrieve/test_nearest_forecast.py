from dataclasses import replace

import numpy as np
import pytest
from support import five_kinds

from st2llm.retrieve.nearest_forecast import fit_nearest
from st2llm.retrieve.window_index import WindowIndex
from st2llm.types import TrainingWindows


def test_a_repeating_field_is_forecast_without_error():
    samples = five_kinds.field_samples(five_kinds.graph(), 24, 6, stride=6)
    rule = fit_nearest(TrainingWindows(samples[:20]), k=3)
    (answer,) = rule.predict([samples[-1].without_truth()])
    np.testing.assert_allclose(answer.value, samples[-1].truth, atol=1e-4)


def test_the_future_comes_on_the_level_and_scale_of_the_asked_window():
    samples = five_kinds.field_samples(five_kinds.graph(), 24, 6, stride=6)
    asked = samples[-1]
    loud = replace(asked, values=1000 + 2 * asked.values)
    (answer,) = fit_nearest(TrainingWindows(samples[:20]), k=1).predict([loud])
    np.testing.assert_allclose(answer.value, 1000 + 2 * asked.truth, rtol=1e-4)


def test_a_place_without_a_visible_value_takes_the_futures_as_they_are():
    samples = five_kinds.field_samples(five_kinds.graph(), 24, 6, stride=6)
    asked = samples[-1].without_truth()
    dark = np.where(np.arange(asked.values.shape[1])[None, :, None] == 1, np.nan, asked.values)
    blind = replace(asked, values=dark, visible=np.isfinite(dark))
    (answer,) = fit_nearest(TrainingWindows(samples[:20]), k=3).predict([blind])
    lowest, highest = (edge(five_kinds.graph().values[:, 1]) for edge in (np.min, np.max))
    assert np.isfinite(answer.value[asked.wanted]).all()
    assert ((lowest <= answer.value[24:, 1]) & (answer.value[24:, 1] <= highest)).all()


def test_a_straight_walk_goes_on_in_its_direction():
    train = [
        five_kinds.walk_sample(five_kinds.walk(name=f"w{i}", east=e, north=n), 8)
        for i, (e, n) in enumerate([(1, 0), (0, 1)])
    ]
    asked = five_kinds.walk(name="asked", east=0.0, north=3.0)
    asked = five_kinds.walk_sample(replace(asked, xy=asked.xy + 900.0), 8)
    (answer,) = fit_nearest(TrainingWindows(train), k=1).predict([asked.without_truth()])
    np.testing.assert_allclose(answer.value, asked.truth, atol=1e-3)


def test_the_next_place_is_ranked_by_the_votes_of_the_neighbours():
    user = five_kinds.stays()
    train = [five_kinds.stay_sample(replace(user, id=f"u{i}")) for i in range(3)]
    (answer,) = fit_nearest(TrainingWindows(train), k=3).predict(
        [five_kinds.stay_sample(user).without_truth()]
    )
    assert answer.ranking == ("work",)
    assert answer.value[-1, 0, 0] == train[0].truth[-1, 0, 0]


def test_a_class_is_ranked_though_no_value_is_asked_for():
    train = [
        five_kinds.clip_sample(five_kinds.clip(name="left")),
        five_kinds.clip_sample(five_kinds.clip(step=4, name="right")),
    ]
    asked = five_kinds.clip_sample(five_kinds.clip(name="other", step=-4))
    (answer,) = fit_nearest(TrainingWindows(train), k=1).predict([replace(asked, id="x/y/0").without_truth()])
    assert answer.label == "left"


def test_a_gap_between_events_is_never_negative():
    samples = five_kinds.event_samples(five_kinds.events())
    answers = fit_nearest(TrainingWindows(samples[:15]), k=1).predict(samples[20:])
    assert all(np.nanmin(answer.value) >= 0 for answer in answers)
    assert all(
        np.isfinite(answer.value[s.wanted]).all() for answer, s in zip(answers, samples[20:], strict=True)
    )


def test_the_median_leaves_out_a_neighbour_that_is_wild():
    samples = five_kinds.field_samples(five_kinds.graph(nodes=1), 24, 6, stride=24)
    wild = replace(samples[0], truth=samples[0].truth + 1e4)
    index = [wild, *samples[1:3]]
    asked = samples[-1]
    middle = fit_nearest(TrainingWindows(index), k=3, centre="median").predict([asked])[0].value
    mean = fit_nearest(TrainingWindows(index), k=3, centre="mean").predict([asked])[0].value
    np.testing.assert_allclose(middle, asked.truth, atol=1e-3)
    assert np.nanmin(mean - asked.truth) > 1000


def test_a_place_without_a_neighbour_takes_the_mean_of_what_it_shows():
    samples = five_kinds.field_samples(five_kinds.graph(nodes=1), 24, 6, stride=24)
    only = fit_nearest(TrainingWindows(samples[-1:]))
    assert only.index.matches(samples[-1], 0, 1) == []
    answer = only.predict([samples[-1]])[0].value
    assert answer[samples[-1].wanted] == pytest.approx(np.nanmean(samples[-1].values))


def test_whole_windows_hold_no_more_than_single_precision():
    index = WindowIndex.fit(TrainingWindows(five_kinds.field_samples(five_kinds.graph(), 24, 6)))
    assert index.values.dtype == np.float32
