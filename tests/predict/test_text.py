from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from serialize.graphs import counts, forecast_sample

from st2llm.errors import ConfigError, DataError
from st2llm.predict.text import TextPredictor, stitch
from st2llm.serialize.template import load_prompt
from st2llm.types import Answer, Completer

TEMPLATE = load_prompt("graph/forecast")


@dataclass
class Oracle:
    """Answers with the truth, but for places named in `mute`; remembers the size of each batch."""

    mute: tuple[str, ...] = ()
    sizes: list[int] = field(default_factory=list)

    def complete(self, prompts):
        self.sizes.append(len(prompts))
        return [Answer(self._say(prompt), tokens_in=9, tokens_out=5, seconds=0.1) for prompt in prompts]

    def _say(self, prompt):
        return "I cannot say." if any(f"at {label}," in prompt.text for label in self.mute) else prompt.truth


@dataclass
class Forgetful:
    def complete(self, prompts):
        return [Answer("1", 1, 1, 0.0) for _ in prompts[1:]]


def samples(count=3):
    return [replace(forecast_sample(counts(192, 3) + i), id=f"queen-street/{i}") for i in range(count)]


def predictor(completer=None, **settings):
    return TextPredictor("text", TEMPLATE, completer or Oracle(), **settings)


def test_the_oracle_is_a_completer():
    assert isinstance(Oracle(), Completer)


def test_a_perfect_model_gives_a_perfect_prediction_for_every_place():
    questions = samples()
    for sample, prediction in zip(questions, predictor().predict(questions), strict=True):
        np.testing.assert_array_equal(prediction.value, sample.truth)


def test_prompts_are_completed_in_chunks_and_progress_is_told():
    oracle, told = Oracle(), []
    answers = predictor(oracle, chunk=4).answers(samples(), done=told.append)
    assert oracle.sizes == [4, 4, 1]
    assert told == [4, 8, 9] and len(answers) == 9


def test_the_chunk_does_not_change_the_answers():
    want = [answer.answer.text for answer in predictor(chunk=64).answers(samples())]
    assert [answer.answer.text for answer in predictor(chunk=1).answers(samples())] == want


def test_each_answer_keeps_its_question_its_words_and_its_cost():
    sample = samples(1)[0]
    first, second, third = predictor().answers([sample])
    assert (first.sample, first.place) == (sample.id, "7-queen-street")
    assert [second.place, third.place] == ["8-queen-street", "9-queen-street"]
    assert first.prompt == TEMPLATE.render(sample.at(first.place))
    assert (first.answer.tokens_in, first.answer.text) == (9, first.prompt.truth)


def test_only_the_places_that_are_asked_are_answered():
    sample = samples(1)[0].at("8-queen-street")
    (answer,) = predictor().answers([sample])
    (prediction,) = stitch([sample], [answer])
    assert answer.place == "8-queen-street"
    np.testing.assert_array_equal(prediction.value, sample.truth)


def test_an_unread_place_is_nan_and_the_others_stand():
    sample = samples(1)[0]
    answers = predictor(Oracle(mute=("8 Queen Street",))).answers([sample])
    (prediction,) = stitch([sample], answers)
    assert [answer.prediction.value is None for answer in answers] == [False, True, False]
    assert np.isnan(prediction.value[:, 1]).all()
    np.testing.assert_array_equal(prediction.value[:, [0, 2]], sample.truth[:, [0, 2]])
    assert "8-queen-street: I cannot say." in prediction.raw.split("\n")


def test_a_sample_is_unread_only_where_no_place_was_read():
    mute = tuple(f"{n} Queen Street" for n in (7, 8, 9))
    (prediction,) = predictor(Oracle(mute=mute)).predict(samples(1))
    assert prediction.value is None
    assert prediction.unread_reason.count("no number in the answer") == 3


def test_a_sample_whose_truth_is_unknown_is_asked_with_the_same_words():
    sample = samples(1)[0]
    known, blind = (predictor().answers([s])[0].prompt for s in (sample, sample.without_truth()))
    assert known.text == blind.text and blind.truth == ""


def test_a_place_without_an_answer_is_refused():
    sample = samples(1)[0]
    with pytest.raises(DataError, match="no answer for it"):
        stitch([sample], predictor().answers([sample])[:2])


def test_a_completer_that_loses_an_answer_is_refused():
    with pytest.raises(DataError, match="was given 3 prompts, but gave 2"):
        predictor(Forgetful()).predict(samples(1))


def test_a_template_without_an_answer_is_refused():
    with pytest.raises(ConfigError, match="has no `answer`"):
        TextPredictor("text", load_prompt("graph/forecast.soft"), Oracle())


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="at least 1 prompt"):
        predictor(chunk=0)


def test_no_samples_give_no_predictions():
    assert predictor().predict([]) == []
