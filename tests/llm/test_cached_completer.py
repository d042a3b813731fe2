"""Answers that were requested once are not requested again, whatever the completer does."""

import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, field, replace

import pytest

from st2llm.errors import ConfigError, DataError
from st2llm.llm.answer_cache import CachedCompleter, answer_key, default_path, with_answer_cache
from st2llm.types import Answer, Completer, Decoding, Numbers

SAMPLED = Decoding(draws=3, temperature=0.7, seed=4)
ANSWER = Answer(
    "1,2\u2028é", 9, 3, 0.25, logprob=-1.5, prompt_sha256="ab", draw=2, tokens_shared=4, finish="length"
)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


@dataclass
class Counting:
    """Says how often it was asked, and remembers what for."""

    asked: list[list[str]] = field(default_factory=list)
    fails_at: int | None = None
    """The number of the call that fails."""

    def complete(self, prompts, decoding):
        self.asked.append([prompt.text for prompt in prompts])
        if len(self.asked) - 1 == self.fails_at:
            raise RuntimeError("the machine stopped")
        return [
            Answer(f"{prompt.text} {draw} {len(self.asked)}", tokens_in=5, tokens_out=2, seconds=0.5)
            for prompt in prompts
            for draw in range(decoding.draws)
        ]

    @property
    def prompts(self):
        return [text for call in self.asked for text in call]


@dataclass
class Dripping:
    """Hands over its answers one by one, the last first; stops after `most`."""

    most: int = 10**9
    asked: list[str] = field(default_factory=list)
    again: bool = False

    def complete(self, prompts, decoding):
        raise AssertionError("a streamer is asked by stream")

    def stream(self, prompts, decoding, skip=()):
        places = enumerate((prompt, draw) for prompt in prompts for draw in range(decoding.draws))
        asked = [(index, place) for index, place in places if index not in skip]
        for count, (index, (prompt, draw)) in enumerate(reversed(asked)):
            if count == self.most:
                raise RuntimeError("the line broke")
            self.asked.append(f"{prompt.text} {draw}")
            yield (0 if self.again else index), Answer(f"{prompt.text} {draw}", 5, 2, 0.5)


def test_an_answer_that_is_not_as_it_was_written_is_told_and_asked_again(store, prompts):
    model = Counting()
    remembered = CachedCompleter(model, store, "m")
    remembered.complete(prompts, Decoding())
    with sqlite3.connect(store.path) as file:
        file.execute(
            "UPDATE answer SET body = CAST(replace(CAST(body AS TEXT), 'question 3', 'question 8') AS BLOB)"
        )
    file.close()
    with pytest.warns(UserWarning, match="is damaged, so it is requested again"):
        answers = remembered.complete(prompts, Decoding())
    assert model.asked[1:] == [["question 3"]]
    assert [answer.text for answer in answers][3] == "question 3 0 2"
    assert all(answer.cached for answer in remembered.complete(prompts, Decoding()))


# keys


@pytest.mark.slow
def test_a_key_is_the_same_for_the_same_question_in_another_process():
    code = (
        "from st2llm.llm.answer_cache import answer_key; from st2llm.types import *\n"
        "asked = Prompt((), ('How many?',), '', TemplateId('t', 1, ''), FreeText(answer=Choice(('a', 'b'))))\n"
        "print(answer_key('m', asked, Decoding(), 0).hex())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert len(said) == 1


def test_all_that_an_answer_depends_on_is_in_its_key(prompt):
    asked = prompt("How many?", Numbers(3, 2))
    chat = prompt("How many?", Numbers(3, 2), messages=({"role": "user", "content": "How many?"},))
    base = Decoding(draws=2, temperature=0.5)
    keys = [
        answer_key("m", asked, base, 0),
        answer_key("n", asked, base, 0),
        answer_key("m", prompt("How much?", Numbers(3, 2)), base, 0),
        answer_key("m", chat, base, 0),
        answer_key("m", prompt("How many?", Numbers(3, 3)), base, 0),
        answer_key("m", prompt("How many?"), base, 0),
        answer_key("m", asked, replace(base, temperature=0.6), 0),
        answer_key("m", asked, replace(base, top_p=0.9), 0),
        answer_key("m", asked, replace(base, seed=1), 0),
        answer_key("m", asked, base, 1),
    ]
    assert len(set(keys)) == len(keys)


def test_neither_the_truth_nor_the_number_of_draws_is_in_a_key(prompt):
    asked = prompt("How many?")
    few, many = Decoding(draws=2, temperature=0.5), Decoding(draws=9, temperature=0.5)
    assert answer_key("m", asked, few, 1) == answer_key("m", replace(asked, truth="7"), many, 1)


# remembering


def test_a_remembered_completer_is_a_completer(store):
    assert isinstance(CachedCompleter(Counting(), store, "m"), Completer)


def test_what_was_asked_once_is_not_asked_again(store, prompts):
    model = Counting()
    remembered = CachedCompleter(model, store, "m")
    first = remembered.complete(prompts[:3], SAMPLED)
    second = remembered.complete(prompts, SAMPLED)
    assert model.asked == [["question 0", "question 1", "question 2"], ["question 3", "question 4"]]
    assert not any(answer.cached for answer in first)
    assert second[:9] == [replace(answer, cached=True) for answer in first]
    assert not any(answer.cached for answer in second[9:])


def test_answers_come_in_the_order_of_the_prompts_draws_within_and_know_their_question(store, prompts):
    CachedCompleter(Counting(), store, "m").complete([prompts[3], prompts[1]], SAMPLED)
    answers = CachedCompleter(Counting(), store, "m").complete(prompts, SAMPLED)
    assert [answer.text[:12] for answer in answers] == [
        f"question {i} {d}" for i in range(5) for d in range(3)
    ]
    assert [answer.draw for answer in answers] == [0, 1, 2] * 5
    assert [answer.prompt_sha256 for answer in answers[::3]] == [prompt.sha256 for prompt in prompts]


def test_a_cached_answer_tells_the_seconds_it_took_when_it_was_asked(store, prompts):
    CachedCompleter(Counting(), store, "m").complete(prompts, Decoding())
    answers = CachedCompleter(Counting(), store, "m").complete(prompts, Decoding())
    assert [(answer.cached, answer.seconds) for answer in answers] == [(True, 0.5)] * 5


def test_other_weights_or_settings_are_asked_anew(store, prompts):
    model = Counting()
    CachedCompleter(model, store, "m").complete(prompts, SAMPLED)
    CachedCompleter(model, store, "other").complete(prompts, SAMPLED)
    CachedCompleter(model, store, "m").complete(prompts, replace(SAMPLED, temperature=0.8))
    assert [len(call) for call in model.asked] == [5, 5, 5]


def test_more_draws_are_asked_for_and_those_that_are_there_stay(store, prompts):
    model = Counting()
    remembered = CachedCompleter(model, store, "m")
    few = remembered.complete(prompts, SAMPLED)
    more = remembered.complete(prompts[:2], replace(SAMPLED, draws=5))
    assert [answer.cached for answer in more] == [True, True, True, False, False] * 2
    assert [answer.text for answer in more[:3]] == [answer.text for answer in few[:3]]
    assert all(answer.cached for answer in remembered.complete(prompts[:2], replace(SAMPLED, draws=5)))
    assert all(answer.cached for answer in remembered.complete(prompts, replace(SAMPLED, draws=2)))
    assert len(model.asked) == 2


def test_the_same_prompt_twice_is_asked_once(store, prompts):
    model = Counting()
    first, second = CachedCompleter(model, store, "m").complete([prompts[0], prompts[0]], Decoding())
    assert model.asked == [["question 0"]]
    assert (first.cached, second.cached) == (False, True)
    assert first.text == second.text


def test_after_a_failure_only_the_slices_that_were_not_answered_are_asked(store, prompts):
    model = Counting(fails_at=1)
    remembered = CachedCompleter(model, store, "m", batch_size=2)
    with pytest.raises(RuntimeError, match="the machine stopped"):
        remembered.complete(prompts, Decoding())
    remembered.complete(prompts, Decoding())
    assert model.asked == [[f"question {i}" for i in part] for part in ((0, 1), (2, 3), (2, 3), (4,))]


def test_a_refusal_is_an_answer_that_is_kept(store, prompts):
    class Refusing(Counting):
        def complete(self, prompts, decoding):
            return [replace(answer, finish="refused") for answer in super().complete(prompts, decoding)]

    model = Refusing()
    for _ in range(2):
        answers = CachedCompleter(model, store, "m").complete(prompts, Decoding())
    assert {answer.finish for answer in answers} == {"refused"}
    assert len(model.asked) == 1


def test_nothing_is_asked_for_nothing(store):
    model = Counting()
    assert CachedCompleter(model, store, "m").complete([], Decoding()) == []
    assert model.asked == []


@pytest.mark.parametrize("change", [-1, 1])
def test_a_completer_that_loses_or_adds_an_answer_is_refused_and_nothing_of_it_is_kept(
    store, prompts, change
):
    class Miscounting(Counting):
        def complete(self, prompts, decoding):
            answers = super().complete(prompts, decoding)
            return (answers + answers[:1])[: len(answers) + change]

    with pytest.raises(DataError, match="was given 5 prompts of 1 draws, but gave"):
        CachedCompleter(Miscounting(), store, "m").complete(prompts, Decoding())
    assert len(store) == 0


# answers that come one by one


def test_a_streamer_that_fails_loses_no_answer_that_had_come(store, prompts):
    broken = Dripping(most=7)
    with pytest.raises(RuntimeError, match="the line broke"):
        CachedCompleter(broken, store, "m", batch_size=1).complete(prompts, SAMPLED)
    assert len(store) == 7
    model = Dripping()
    answers = CachedCompleter(model, store, "m").complete(prompts, SAMPLED)
    assert not set(model.asked) & set(broken.asked)
    assert len(model.asked) == 8
    assert [answer.text for answer in answers] == [f"question {i} {d}" for i in range(5) for d in range(3)]
    assert sum(answer.cached for answer in answers) == 7


def test_of_a_streamer_only_the_missing_draws_are_asked_for(store, prompts):
    model = Dripping()
    remembered = CachedCompleter(model, store, "m")
    remembered.complete(prompts[:2], SAMPLED)
    more = remembered.complete(prompts[:2], replace(SAMPLED, draws=5))
    assert sorted(model.asked[6:]) == [f"question {i} {draw}" for i in range(2) for draw in (3, 4)]
    assert [answer.text for answer in more] == [f"question {i} {draw}" for i in range(2) for draw in range(5)]


def test_a_streamer_that_gives_an_answer_twice_is_refused(store, prompts):
    with pytest.raises(DataError, match="answer 0 twice or without a request"):
        CachedCompleter(Dripping(again=True), store, "m").complete(prompts, Decoding())


def test_a_streamer_that_ends_early_is_refused(store, prompts):
    class Ending(Dripping):
        def stream(self, prompts, decoding, skip=()):
            yield from list(super().stream(prompts, decoding, skip))[:-1]

    with pytest.raises(DataError, match="gave no answer 0"):
        CachedCompleter(Ending(), store, "m").complete(prompts, Decoding())
    assert len(store) == 4


# the user's own file


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path))
    monkeypatch.delenv("ST2LLM_ANSWERS", raising=False)
    return tmp_path


def test_answers_are_remembered_in_the_cache_folder(cache, prompts):
    model = Counting()
    for _ in range(2):
        with with_answer_cache(model, "m") as completer:
            completer.complete(prompts, Decoding())
    assert len(model.asked) == 1
    assert default_path().is_relative_to(cache)
    assert default_path().is_file()


def test_off_asks_every_time_and_leaves_no_file(cache, prompts, monkeypatch):
    monkeypatch.setenv("ST2LLM_ANSWERS", "off")
    model = Counting()
    for _ in range(2):
        with with_answer_cache(model, "m") as completer:
            completer.complete(prompts, Decoding())
    assert len(model.asked) == 2
    assert list(cache.iterdir()) == []


def test_another_word_than_on_and_off_is_refused(cache, monkeypatch):
    monkeypatch.setenv("ST2LLM_ANSWERS", "no")
    with (
        pytest.raises(ConfigError, match="is 'on' or 'off', but it is 'no'"),
        with_answer_cache(Counting(), "m"),
    ):
        pass


@pytest.mark.slow
def test_remembering_needs_no_torch():
    code = "import sys, st2llm.llm.answer_cache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_plain_string_is_asked_once(store):
    inner = Counting()
    completer = CachedCompleter(inner, store, "m")
    first, again = completer.complete("a question"), completer.complete(["a question"])
    assert inner.prompts == ["a question"]
    assert [answer.text for answer in again] == [answer.text for answer in first]
