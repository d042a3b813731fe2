"""Rules for classes: the commonest first, or that of the clip most alike."""

import numpy as np
import pytest
from support import handmade

from st2llm.errors import DataError
from st2llm.predict.baselines import fit_baseline
from st2llm.types import TrainingWindows

DARK, LIGHT = np.full((6, 2, 1), 20.0), np.full((6, 2, 1), 200.0)
FLICKER = LIGHT * np.array([1, 0.5] * 3)[:, None, None]
TRAIN = [
    handmade.clip(DARK, "wave", name="1"),
    handmade.clip(DARK + 3, "wave", name="2"),
    handmade.clip(LIGHT, "walk", name="3"),
]


def ranking(name, values, train=TRAIN):
    (answer,) = fit_baseline(name, TrainingWindows(train)).predict(
        [handmade.clip(values, "wave", name="q").without_truth()]
    )
    assert answer.value is None
    return answer.ranking


def test_the_majority_is_ranked_first_whatever_is_seen():
    assert ranking("majority", LIGHT) == ranking("majority", DARK) == ("wave", "walk")


def test_the_nearest_clip_by_features_decides():
    assert ranking("nearest-features", LIGHT - 9) == ("walk", "wave")
    assert ranking("nearest-features", DARK + 9) == ("wave", "walk")


def test_how_much_a_clip_changes_is_a_feature():
    train = [handmade.clip(FLICKER, "walk", name="1"), handmade.clip(LIGHT * 0.75, "wave", name="2")]
    assert ranking("nearest-features", FLICKER, train) == ("walk", "wave")


def test_without_labels_there_is_no_nearest_one():
    with pytest.raises(DataError, match="No training sample has a label"):
        ranking("nearest-features", DARK, [one.without_truth() for one in TRAIN])
