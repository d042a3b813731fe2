from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import handmade
from support.graph_samples import counts, forecast_sample

from st2llm.errors import ConfigError, DataError
from st2llm.predict.text import PromptOptions, TextPredictor, merge_answers, vote
from st2llm.serialize.template.template import load_prompt
from st2llm.types import Answer, Completer, Decoding, Scorer
from st2llm.types.sample import quantiles_over_draws

TEMPLATE = load_prompt("graph/forecast")


@dataclass
class Oracle:
    """Answers with the truth, but for places named in `mute`; remembers the size of each batch."""

    mute: tuple[str, ...] = ()
    sizes: list[int] = field(default_factory=list)

    def complete(self, prompts, decoding):
        self.sizes.append(len(prompts))
        return [
            Answer(self._say(prompt), tokens_in=9, tokens_out=5, seconds=0.1, draw=draw)
            for prompt in prompts
            for draw in range(decoding.draws)
        ]

    def _say(self, prompt):
        return "I cannot say." if any(f"at {label}," in prompt.text for label in self.mute) else prompt.truth


@dataclass
class Chorus:
    """Says the truth plus `steps[draw]` number steps at each draw; None is said as words."""

    steps: tuple[int | None, ...]
    mute: tuple[str, ...] = ()
    asked: list[Decoding] = field(default_factory=list)

    def complete(self, prompts, decoding):
        self.asked.append(decoding)
        return [
            Answer(self._say(prompt, self.steps[draw]), 9, 5, 0.1, draw=draw)
            for prompt in prompts
            for draw in range(decoding.draws)
        ]

    def _say(self, prompt, step):
        if step is None or any(f"at {label}," in prompt.text for label in self.mute):
            return "I cannot say."
        return ",".join(str(int(number) + step) for number in prompt.truth.split(","))


@dataclass
class Forgetful:
    def complete(self, prompts, decoding):
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
    answers = predictor(oracle, chunk_size=4).answers(samples(), on_chunk=told.append)
    assert oracle.sizes == [4, 4, 1]
    assert told == [4, 8, 9] and len(answers) == 9


def test_the_chunk_does_not_change_the_answers():
    want = [answer.answer.text for answer in predictor(chunk_size=64).answers(samples())]
    assert [answer.answer.text for answer in predictor(chunk_size=1).answers(samples())] == want


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
    (prediction,) = merge_answers([sample], [answer])
    assert answer.place == "8-queen-street"
    np.testing.assert_array_equal(prediction.value, sample.truth)


def test_an_unread_place_is_nan_and_the_others_stand():
    sample = samples(1)[0]
    answers = predictor(Oracle(mute=("8 Queen Street",))).answers([sample])
    (prediction,) = merge_answers([sample], answers)
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
        merge_answers([sample], predictor().answers([sample])[:2])


def test_a_completer_that_loses_an_answer_is_refused():
    with pytest.raises(DataError, match="was given 3 prompts of 1 draws, but returned 2"):
        predictor(Forgetful()).predict(samples(1))


def test_a_template_without_an_answer_is_refused():
    with pytest.raises(ConfigError, match="has no `answer`"):
        TextPredictor("text", load_prompt("graph/forecast.soft"), Oracle())


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="at least 1 prompt"):
        predictor(chunk_size=0)


def test_no_samples_give_no_predictions():
    assert predictor().predict([]) == []


# several draws


def drawn(*steps, mute=(), samples_=None):
    """The prediction of one sample from draws that are off by so many steps."""
    completer = Chorus(steps, mute)
    decoding = Decoding(draws=len(steps), temperature=0.7)
    return predictor(completer, decoding=decoding).predict(samples_ or samples(1))[0]


def test_each_place_is_asked_for_all_draws_with_the_settings_as_given():
    completer = Chorus((0, 1, 2))
    decoding = Decoding(draws=3, temperature=0.7, top_p=0.9, seed=5)
    told = []
    answers = predictor(completer, decoding=decoding, chunk_size=4).answers(samples(2), on_chunk=told.append)
    assert completer.asked == [decoding, decoding]
    assert told == [12, 18]
    assert [(a.sample[-1], a.place[0], a.answer.draw) for a in answers] == [
        (sample, place, draw) for sample in "01" for place in "789" for draw in range(3)
    ]


def test_the_value_is_the_median_of_the_draws_and_all_of_them_are_kept():
    sample = samples(1)[0]
    prediction = drawn(0, 1, 5)
    step = prediction.samples[1] - prediction.samples[0]
    unit = step[np.isfinite(step)].max()
    np.testing.assert_array_equal(prediction.value, prediction.samples[1])
    assert prediction.samples.shape == (3, *sample.values.shape)
    np.testing.assert_array_equal(prediction.samples[0], sample.truth)
    np.testing.assert_allclose(prediction.samples[2] - prediction.samples[0], 5 * step)
    assert unit > 0


def test_the_quantiles_are_those_of_the_draws():
    prediction = drawn(0, 1, 2, 3, 4)
    assert sorted(prediction.quantiles) == [0.05, 0.5, 0.95]
    for share in (0.05, 0.5, 0.95):
        want = np.quantile(prediction.samples, share, axis=0)
        np.testing.assert_allclose(prediction.quantiles[share], want)
    np.testing.assert_array_equal(prediction.quantiles[0.5], prediction.value)


def test_one_draw_has_neither_samples_nor_quantiles():
    (prediction,) = predictor().predict(samples(1))
    assert prediction.samples is None
    assert prediction.quantiles is None


def test_a_draw_that_could_not_be_read_is_left_out_of_the_median():
    prediction = drawn(0, None, 2)
    wanted = samples(1)[0].wanted
    assert np.isnan(prediction.samples[1]).all()
    np.testing.assert_allclose(prediction.value[wanted], prediction.samples[[0, 2]].mean(axis=0)[wanted])
    assert np.isnan(prediction.value[~wanted]).all()


def test_a_place_is_unread_only_where_no_draw_of_it_could_be_read():
    prediction = drawn(None, 1, mute=("8 Queen Street",))
    assert np.isnan(prediction.value[:, 1]).all()
    assert np.isfinite(prediction.value[-24:, [0, 2]]).all()
    assert np.isnan(prediction.quantiles[0.05][:, 1]).all()


def test_a_sample_of_which_no_draw_could_be_read_says_each_reason_once():
    prediction = drawn(None, None)
    assert prediction.value is None
    assert prediction.samples is None
    assert prediction.unread_reason.count("no number in the answer") == 3


def test_quantiles_over_draws_ignore_nan_by_hand():
    draws = np.array([1.0, np.nan, 3.0]).reshape(3, 1, 1, 1)
    assert quantiles_over_draws(draws, (0.0, 0.5, 1.0)).ravel().tolist() == [1.0, 2.0, 3.0]
    assert np.isnan(quantiles_over_draws(draws[1:2], (0.5,))).all()


# the ledger


def test_each_answer_has_its_category():
    sample = samples(1)[0]
    said = {"7": "1,2", "8": "none", "9": "9999," * 24}

    class Mixed:
        def complete(self, prompts, decoding):
            words = [next(word for n, word in said.items() if f"at {n} Queen" in p.text) for p in prompts]
            return [Answer(word, 1, 1, 0.0) for word in words]

    answers = predictor(Mixed()).answers([sample])
    assert [answer.category for answer in answers] == ["truncated", "unreadable", "out_of_range"]
    assert {answer.category for answer in predictor().answers([sample])} == {"readable"}


@dataclass
class Even:
    """Finds all answers of three digits equally likely, and some not allowed."""

    refused: tuple[str, ...] = ()

    def complete(self, prompts, decoding):
        raise AssertionError("only likelihoods are asked for")

    def log_likelihood(self, prompts, answers=None):
        assert answers is None and all(prompt.truth for prompt in prompts)
        said = [-np.log(1000) * (prompt.truth.count(",") + 1) for prompt in prompts]
        mute = [any(f"at {label}," in prompt.text for label in self.refused) for prompt in prompts]
        return np.where(mute, np.nan, said)


def test_a_uniform_guess_at_three_digits_costs_ten_bits_a_value():
    sample = forecast_sample(counts(192, 3))
    assert isinstance(Even(), Scorer)
    bits = TextPredictor("even", TEMPLATE, Even(), chunk_size=2).bits_per_value([sample, sample])
    assert bits == pytest.approx(np.full(2 * len(sample.wanted_nodes), np.log2(1000)))
    first = sample.side.labels[sample.wanted_nodes[0]]
    with pytest.raises(DataError, match=f"truths of 1 of .* no likelihood .* the first of {sample.id}"):
        TextPredictor("even", TEMPLATE, Even(refused=(first,))).bits_per_value([sample])


def test_a_truth_with_a_missing_value_is_refused_as_it_has_no_likelihood():
    whole = forecast_sample(counts(192, 3))
    truth = np.array(whole.truth)
    truth[tuple(np.argwhere(whole.wanted)[0])] = np.nan
    with pytest.raises(DataError, match=f"of 1 of 6 queries are incomplete, the first of {whole.id}"):
        TextPredictor("even", TEMPLATE, Even()).bits_per_value([whole, replace(whole, truth=truth)])


def test_a_completer_that_gives_no_likelihoods_is_refused_as_a_scorer():
    with pytest.raises(ConfigError, match="Oracle cannot compute the likelihood"):
        TextPredictor("oracle", TEMPLATE, Oracle()).bits_per_value([forecast_sample(counts(192, 3))])


# whole samples, rankings, examples, budgets


class Sayer:
    """Says the given words one after the other, whatever it is asked; remembers the prompts."""

    def __init__(self, *words):
        self.words, self.prompts = words, []

    def complete(self, prompts, decoding):
        self.prompts += prompts
        draws = [i for _ in prompts for i in range(decoding.draws)]
        return [Answer(self.words[i % len(self.words)], 9, 5, 0.1, draw=d) for i, d in enumerate(draws)]


PLACES = load_prompt("trajectory/next-place")
STAYS = [handmade.stays([(p, d) for d, p in enumerate("abcabc")], name=f"user/{i}") for i in range(2)]


def test_a_template_per_sample_is_asked_once_a_sample():
    sayer = Sayer("b, a, c")
    answers = TextPredictor("text", PLACES, sayer).answers([s.without_truth() for s in STAYS])
    assert [(answer.sample, answer.place) for answer in answers] == [(s.id, "user") for s in STAYS]
    (first, _) = merge_answers(STAYS, answers)
    assert first.ranking[0] == "b"
    assert first.value[-1, 0, 0] == 1.0
    assert np.isnan(first.value[:-1]).all()


def test_rankings_of_several_draws_are_put_together_by_votes_then_by_mean_rank():
    assert vote([("a", "b"), ("b", "a"), ("b", "c")]) == ("b", "a", "c")
    # each is first once; a is 1st and 2nd, b 1st and last
    assert vote([("a", "c", "b"), ("b", "a", "c")])[:2] == ("a", "b")
    assert vote([("a",), ("b",)]) == ("a", "b")  # as first said
    assert vote([("c", "b", "a")]) == ("c", "b", "a")


@given(st.lists(st.permutations("abcd").map(lambda p: tuple(p[:3])), min_size=1, max_size=6))
def test_a_vote_holds_every_option_once_and_a_majority_wins(rankings):
    found = vote(rankings)
    assert sorted(found) == sorted({option for ranking in rankings for option in ranking})
    for option in found:
        if sum(ranking[0] == option for ranking in rankings) * 2 > len(rankings):
            assert found[0] == option


def test_a_draw_that_was_not_read_has_no_vote():
    sayer = Sayer("c, a, b", "nothing at all", "c, b, a")
    predictor = TextPredictor("text", PLACES, sayer, decoding=Decoding(draws=3, temperature=1.0))
    (answer, _) = predictor.predict([s.without_truth() for s in STAYS])
    assert answer.ranking[0] == "c"


def test_a_sample_of_which_no_ranking_could_be_read_is_unread():
    (answer, _) = TextPredictor("text", PLACES, Sayer("I do not know.")).predict(STAYS)
    assert answer.value is None
    assert answer.ranking is None
    assert answer.unread_reason


def test_examples_of_the_asked_place_stand_in_the_prompt():
    asked, example = samples(2)
    template = load_prompt("graph/forecast.examples")
    sayer = Sayer("1")
    predictor = TextPredictor("text", template, sayer, options=PromptOptions(lambda sample: [example]))
    predictor.answers([asked.without_truth()])
    for prompt, node in zip(sayer.prompts, asked.wanted_nodes, strict=True):
        said = template.render(asked.at(asked.place[node]).without_truth(), examples=[example]).text
        assert prompt.text == said
        assert len(prompt.text) > len(template.render(asked.at(asked.place[node]).without_truth()).text)


class Letters:
    """A tokenizer whose tokens are letters."""

    def encode(self, text):
        return list(map(ord, text))

    def decode(self, ids):
        return "".join(map(chr, ids))


def test_prompts_keep_their_budget_and_say_what_went():
    sayer = Sayer("1")
    options = PromptOptions(budget=700, tokenizer=Letters())
    answers = TextPredictor("text", TEMPLATE, sayer, options=options).answers([samples(1)[0].without_truth()])
    assert all(len(prompt.text) <= 700 for prompt in sayer.prompts)
    assert all(answer.prompt.dropped for answer in answers)
