"""Somebody else's model is asked without the truth, and what it answers is checked entry by entry."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support import fields

import st2llm
from st2llm.errors import ConfigError, DataError
from st2llm.predict import Predictor
from st2llm.predict.external.wrapper import as_predictors
from st2llm.types import Prediction, TrainingWindows

HISTORY, HORIZON = 12, 3


def samples(count=2):
    return fields.windows(fields.series(30), history=HISTORY, horizon=HORIZON)[:count]


def last(given):
    return [np.repeat(s.values[HISTORY - 1 : HISTORY], HORIZON, axis=0) for s in given]


def test_a_function_becomes_a_predictor_that_answers_what_is_asked_alone():
    model = st2llm.wrap(last, name="mine")
    assert isinstance(model, Predictor) and model.name == "mine"
    for sample, answer in zip(samples(), model.predict(samples()), strict=True):
        np.testing.assert_array_equal(
            answer.value[HISTORY:], np.stack([sample.values[HISTORY - 1]] * HORIZON)
        )
        assert np.isnan(answer.value[:HISTORY]).all()


def test_an_object_with_predict_is_asked_by_it():
    class Mine:
        def predict(self, given):
            return [np.full(s.values.shape, 7.0) for s in given]

    assert (st2llm.wrap(Mine(), name="mine").predict(samples())[0].value[HISTORY:] == 7).all()


def test_draws_in_front_become_samples_and_their_median():
    model = st2llm.wrap(
        lambda given: [np.stack([last([s])[0] + d for d in (0, 1, 5)]) for s in given], name="m"
    )
    (answer,) = model.predict(samples(1))
    assert answer.samples.shape == (3, HISTORY + HORIZON, 3, 1)
    np.testing.assert_array_equal(answer.value[HISTORY:], answer.samples[1, HISTORY:])


def test_it_is_never_shown_the_truth():
    def looks(given):
        assert all(s.truth is None and s.label is None for s in given)
        return last(given)

    st2llm.wrap(looks, name="mine").predict(samples())


def test_a_prediction_that_could_not_be_made_passes_as_it_is():
    unread = Prediction(None, unread_reason="no idea")
    assert st2llm.wrap(lambda given: [unread for _ in given], name="m").predict(samples(1)) == [unread]


@pytest.mark.parametrize(
    ("ranking", "said"),
    [(("walk", "runn"), "'runn' is none. Did you mean 'run'"), (("run", "run"), "one is there twice")],
)
def test_a_ranking_names_options_once_each(ranking, said):
    (sample,) = samples(1)
    asked = replace(sample, side=replace(sample.side, options=("walk", "run")))
    model = st2llm.wrap(lambda given: [Prediction(None, ranking=ranking) for _ in given], name="m")
    with pytest.raises(DataError, match=said):
        model.predict([asked])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda given: last(given)[:1], "asked about 2 samples, but returned 1 answers"),
        (lambda given: None, "returned a NoneType"),
        (
            lambda given: [np.zeros((2, 3, 1)) for _ in given],
            r"of shape \(15, 3, 1\).*but it has \(2, 3, 1\)",
        ),
        (lambda given: ["many" for _ in given], "that is no array of numbers"),
        (lambda given: [np.full((3, 3, 1), np.nan) for _ in given], "no number for 9 of 9 asked entries"),
    ],
)
def test_an_answer_that_does_not_fit_is_one_clear_error(answer, said):
    with pytest.raises(DataError, match=said):
        st2llm.wrap(answer, name="mine").predict(samples())


def test_what_cannot_predict_is_refused():
    with pytest.raises(ConfigError, match="mine is a int, which can neither be called nor has `predict`"):
        st2llm.wrap(3, name="mine")


def my_rule(given):
    return last(given)


class MyModel:
    def predict(self, given):
        return last(given)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (my_rule, "my-rule"),
        (MyModel(), "my-model"),
        (Ridge(), "ridge"),
        (make_pipeline(StandardScaler(), Ridge()), "pipeline"),
    ],
)
def test_a_model_without_a_name_is_called_as_its_function_or_class(model, name):
    (wrapped,) = as_predictors([model])
    assert wrapped.name == name


def test_a_pipeline_of_scikit_learn_is_fitted_on_training_windows():
    unfitted = st2llm.wrap(make_pipeline(StandardScaler(), Ridge()))
    fitted = unfitted.fit(TrainingWindows(samples(4)))
    assert np.isfinite(fitted.predict(samples(1))[0].value[HISTORY:]).all()


def test_a_regressor_that_a_comparison_fits_has_no_other_samples():
    with pytest.raises(ConfigError, match="which a comparison fits itself"):
        st2llm.wrap(Ridge(), fitted_on=samples(1))
