"""Places that no part shows a value of: whatever their values are, nothing that a predictor is given changes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import st2llm
from st2llm.errors import DataError
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.baselines.text_features import TfidfEncoder, fit_text_features, texts_of, training_texts
from st2llm.predict.baselines.text_ridge import fit_text_ridge
from st2llm.types import HoldOut, SensorGraph

KRIGE = st2llm.tasks.krige(length=2, share=0.5)
DAYS = pd.date_range("2024-01-01", periods=60, freq="D", tz="UTC")
NAMES = tuple(f"{kind} {i}" for i in range(8) for kind in ("harbour", "village"))


def regions(rule: HoldOut | None = None) -> SensorGraph:
    """Harbours have many guests, villages few."""
    level = np.array([50.0 if name.startswith("harbour") else 5.0 for name in NAMES])
    values = level + np.random.default_rng(0).normal(size=(60, len(NAMES)))
    data = SensorGraph.from_pandas(pd.DataFrame(values, index=DAYS, columns=NAMES))
    return replace(data, split=replace(data.split, hold_out=rule))


UNSEEN = HoldOut("place", share=0.2, seed=3, unseen=True)


@pytest.mark.parametrize("task", [KRIGE, st2llm.tasks.forecast(history=3, horizon=1)])
def test_values_of_unseen_places_reach_no_sample_of_any_part(task):
    data = regions(UNSEEN)
    held = UNSEEN.of(data.places, data.name) | UNSEEN.of_validation(data.places, data.name)
    other = data.values.copy()
    other[:, [place in held for place in data.places]] *= -7
    changed = st2llm.split(replace(data, values=other), task)
    for name in ("train", "validation", "test"):
        for before, after in zip(
            getattr(st2llm.split(data, task), name), getattr(changed, name), strict=True
        ):
            assert np.array_equal(before.values, after.values, equal_nan=True)
            assert repr(before.side) == repr(after.side) and np.array_equal(before.wanted, after.wanted)
            shown = {before.place[node] for node in np.flatnonzero(before.visible.any(axis=(0, 2)))}
            assert shown and not shown & held
            asked = {before.place[node] for node in before.wanted_nodes}
            if name == "train":
                assert not asked & held and np.array_equal(before.truth, after.truth, equal_nan=True)
            else:
                assert asked and asked <= held


def test_validation_and_test_ask_for_different_unseen_places_and_the_hash_tells():
    data = regions(UNSEEN)
    splits = st2llm.split(data, KRIGE)
    asked = [
        {sample.place[node] for sample in part for node in sample.wanted_nodes}
        for part in (splits.train, splits.validation, splits.test)
    ]
    assert not asked[0] & asked[1] and not asked[1] & asked[2] and not asked[0] & asked[2]
    known = st2llm.split(regions(replace(UNSEEN, unseen=False)), KRIGE)
    assert splits.test.sha256 != known.test.sha256


def test_only_the_name_of_an_unseen_place_is_read_and_it_carries_over():
    splits = st2llm.split(regions(UNSEEN), KRIGE)
    (node, *_) = splits.test[0].wanted_nodes
    assert texts_of(splits.test[0], node) == [f"{splits.test[0].side.labels[node]}."]
    features = fit_text_features(splits.train, TfidfEncoder(training_texts(splits.train)), name="tfidf")
    fitted = fit_text_ridge(splits.train, features, rule="places-median", name="tfidf")
    median = fit_baseline("places-median", splits.train)

    def error(predictor) -> float:
        pairs = zip(predictor.predict([s.without_truth() for s in splits.test]), splits.test, strict=True)
        return float(np.mean([np.abs(p.value - s.truth)[s.wanted].mean() for p, s in pairs]))

    assert error(fitted) < 0.7 * error(median)


def test_a_split_that_leaves_no_place_to_train_on_is_refused():
    with pytest.raises(DataError, match="nothing is left to train on. Hold out less than half"):
        st2llm.split(regions(HoldOut("place", share=0.6, unseen=True)), KRIGE)
