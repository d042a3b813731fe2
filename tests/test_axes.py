"""Whatever was fitted for places and channels is matched by their ids, whatever their order, or refused."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from support import fields, five_kinds

from st2llm.config.catalog import RULES
from st2llm.errors import DataError
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.external.regressor import fit_regressor
from st2llm.predict.preprocess.field import fit_field_preprocessor
from st2llm.types import Prediction, TrainingWindows
from st2llm.types.axes import FieldAxes, with_nodes

WEEK = 168
ORDER = np.array([2, 0, 1])
LEVELS = np.array([10.0, 100.0, 1000.0])


def windows():
    values = LEVELS[:, None] * fields.series(WEEK + 40) / 50
    made = fields.windows(values, history=WEEK, horizon=4, stride=6)
    near = (((1, 1.0), (2, 0.5)), ((0, 1.0),), ((0, 0.5),))
    xy = np.array([[0.0, 0.0], [50.0, 0.0], [90.0, 10.0]])
    return [replace(s, side=replace(s.side, neighbours=near, xy=xy, channels=("speed",))) for s in made]


def renamed(sample):
    return replace(sample, place=("u", "v", "w"))


def test_a_sample_keeps_values_edges_and_names_of_its_places_in_another_order():
    (sample, *_) = windows()
    moved = with_nodes(sample, ORDER)
    assert moved.place == ("place-2", "place-0", "place-1")
    np.testing.assert_array_equal(moved.values[:, 1], sample.values[:, 0])
    np.testing.assert_array_equal(moved.truth[:, 0], sample.truth[:, 2])
    np.testing.assert_array_equal(moved.side.xy, sample.side.xy[ORDER])
    named = {
        (moved.place[a], moved.place[b], w) for a, near in enumerate(moved.side.neighbours) for b, w in near
    }
    assert named == {
        (sample.place[a], sample.place[b], w)
        for a, near in enumerate(sample.side.neighbours)
        for b, w in near
    }


RULES_OF_GRAPHS = [
    name
    for name, scope in RULES.items()
    if scope.covers("graph", "forecast") and name not in ("last-year", "month-of-year", "last-week")
]


@pytest.mark.parametrize("name", RULES_OF_GRAPHS)
def test_a_rule_answers_for_the_place_that_is_asked_whatever_the_order(name):
    samples = windows()
    rule = fit_baseline(name, TrainingWindows(samples[:4]))
    (answer,), (moved,) = rule.predict(samples[4:5]), rule.predict([with_nodes(samples[4], ORDER)])
    np.testing.assert_allclose(moved.value, answer.value[:, ORDER], rtol=1e-9)
    with pytest.raises(DataError, match=r"'.*' was fitted for the places place-0, .* has u, v, w instead"):
        rule.predict([renamed(samples[4])])


def test_a_regressor_answers_for_the_place_that_is_asked_whatever_the_order():
    samples = windows()
    regressor = fit_regressor(Ridge(), TrainingWindows(samples[:4]), name="r")
    (answer,) = regressor.predict(samples[4:5])
    (moved,) = regressor.predict([with_nodes(samples[4], ORDER)])
    np.testing.assert_allclose(moved.value, answer.value[:, ORDER], rtol=1e-9)
    with pytest.raises(DataError, match="r was fitted for the places"):
        regressor.predict([renamed(samples[4])])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: with_nodes(s, ORDER), "has them in another order"),
        (renamed, "has u, v, w instead and no place-0"),
        (
            lambda s: replace(s, side=replace(s.side, channels=("flow",))),
            "channels speed, .* has flow instead",
        ),
    ],
)
def test_a_scaler_of_arms_takes_places_and_channels_of_training_in_its_order_alone(change, message):
    samples = windows()
    fitted = fit_field_preprocessor(TrainingWindows(samples[:4]), skip="none", template=None, slots=3)
    with pytest.raises(DataError, match=message):
        fitted.collate([change(samples[4])], with_instructions=False)


def test_draws_and_quantiles_return_in_the_order_that_was_asked():
    (sample, *_) = windows()
    moved, axes = with_nodes(sample, ORDER), FieldAxes.of(sample)
    value = np.where(sample.wanted, LEVELS[:, None], np.nan)
    given = Prediction(value, samples=np.stack([value, 2 * value]), quantiles={0.5: 3 * value})
    np.testing.assert_array_equal(axes.arrange(moved, "it").values, sample.values)
    restored = axes.restore(given, moved)
    np.testing.assert_array_equal(restored.value, value[:, ORDER])
    np.testing.assert_array_equal(restored.samples[1], 2 * value[:, ORDER])
    np.testing.assert_array_equal(restored.quantiles[0.5], 3 * value[:, ORDER])


def test_cells_are_told_by_their_coordinates_and_not_by_their_number():
    grid = five_kinds.grid(40)
    (sample, *_) = five_kinds.field_samples(grid, 12, 3)
    layout = sample.side.layout
    turned = replace(
        sample,
        side=replace(sample.side, layout=replace(layout, rows=layout.rows[::-1].copy(), unit="metres")),
    )
    straight = replace(sample, side=replace(sample.side, layout=replace(layout, unit="metres")))
    with pytest.raises(DataError, match="in another order"):
        FieldAxes.of(straight).arrange(turned, "A rule")
