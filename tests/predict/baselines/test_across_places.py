"""The median of the places that a window shows."""

from dataclasses import replace

import numpy as np

import st2llm
from st2llm.predict.baselines import fit_baseline
from st2llm.types import HoldOut


def test_a_hidden_place_is_the_median_of_those_shown_and_without_any_that_of_training():
    values = np.array([1.0, 2.0, 9.0, 4.0]) * np.ones((20, 1))
    data = st2llm.SensorGraph.from_numpy(values, start="2024-01-01", freq="1h")
    data = replace(data, split=replace(data.split, hold_out=HoldOut("place", ("3",))))
    splits = st2llm.split(data, st2llm.tasks.krige(length=2))
    rule, sample = fit_baseline("places-median", splits.train), splits.test[0]
    assert rule.predict([sample])[0].value[:, 3, 0].tolist() == [2.0, 2.0]
    hidden = replace(
        sample, visible=np.zeros_like(sample.visible), values=np.full_like(sample.values, np.nan)
    )
    assert rule.predict([hidden])[0].value[0, 3, 0] == np.median(
        [v for s in splits.train for v in np.where(s.wanted, s.truth, s.values).ravel()]
    )
