"""An endpoint's answers are all had, each once and in order, however badly its server behaves."""

import asyncio
import re
import threading
import time

import httpx
import pytest
from support import fake_endpoint
from support.endpoint_server import DRAWS, GRAMMAR

from st2llm.errors import AlignmentError, ArtefactError, ConfigError
from st2llm.llm import load_llm
from st2llm.llm.endpoint import stream_run
from st2llm.llm.endpoint.client import RemoteModel, StreamingCompleter
from st2llm.llm.endpoint.retry import RetryPolicy, retry_after
from st2llm.types import Completer, Decoding, FreeText, Slot


def words(answers):
    return [(answer.text, answer.prompt_sha256, answer.draw, answer.finish) for answer in answers]


@pytest.mark.slow
def test_it_is_a_completer_that_streams(endpoint):
    llm = load_llm(f"openai:{endpoint.url}/v1/#tiny")
    assert isinstance(llm, Completer)
    assert isinstance(llm, StreamingCompleter)
    assert llm.identity == llm.name == f"openai:{endpoint.url}/v1#tiny"
    assert llm.complete([]) == []


@pytest.mark.slow
def test_answers_come_prompt_by_prompt_and_draw_by_draw(truth, prompts):
    assert [(answer.prompt_sha256, answer.draw) for answer in truth] == [
        (prompt.sha256, draw) for prompt in prompts for draw in range(2)
    ]
    assert len({answer.text for answer in truth}) > len(truth) // 2
    assert all(answer.tokens_in > 0 and answer.tokens_out > 0 and answer.seconds > 0 for answer in truth)
    assert {(answer.logprob, answer.finish, answer.cached) for answer in truth} == {(None, "whole", False)}


def test_an_answer_does_not_depend_on_what_else_is_asked(endpoint, truth, prompts):
    llm = endpoint.llm(RetryPolicy(), concurrency=1)
    assert words(llm.complete(prompts[13:14], DRAWS)) == words(truth[26:28])
    assert words(llm.complete(prompts[3:5][::-1], DRAWS)) == words(truth[8:10] + truth[6:8])
    first = Decoding(draws=1, temperature=0.8, seed=5)
    assert words(llm.complete(prompts[:2], first)) == words(truth[0:4:2])
    other = Decoding(draws=2, temperature=0.8, seed=6)
    assert words(llm.complete(prompts[:2], other)) != words(truth[:4])


@pytest.mark.slow
def test_greedy_answers_are_those_of_the_model_itself(endpoint, prompts, tiny):
    mine = load_llm(tiny(), dtype="fp32").complete(prompts)
    got = endpoint.llm(RetryPolicy()).complete(prompts)
    assert [answer.text for answer in got] == [answer.text for answer in mine]
    assert [answer.tokens_in for answer in got] == [answer.tokens_in for answer in mine]


@pytest.mark.slow
@pytest.mark.parametrize("kind", fake_endpoint.TROUBLES)
def test_no_answer_is_lost_to(endpoint, truth, prompts, kind):
    endpoint.plan(share=1.0, most=1, kinds=[kind])
    hasty = RetryPolicy(read_s=0.6, total_s=1.2, attempts=5, wait_s=0.01)
    began = time.monotonic()
    got = endpoint.llm(hasty).complete([prompts[2], prompts[9]], DRAWS)
    assert words(got) == words(truth[4:6] + truth[18:20])
    assert endpoint.counts()["troubles"] == {kind: 4}
    assert time.monotonic() - began < 15  # a drip goes on for 20 s, a stall for 30


@pytest.mark.parametrize("kind", fake_endpoint.DOUBLES)
def test_an_answer_that_comes_twice_counts_once_and_is_not_taken_for_another(endpoint, truth, prompts, kind):
    endpoint.plan(share=1.0, most=1, kinds=[kind])
    news = list(endpoint.llm(concurrency=2).stream(prompts, DRAWS))
    assert sorted(index for index, _ in news) == list(range(len(truth)))
    assert words(answer for _, answer in sorted(news, key=lambda pair: pair[0])) == words(truth)
    assert set(endpoint.counts()["delivered"].values()) == {1}


@pytest.mark.slow
def test_in_a_storm_no_answer_is_lost_and_none_is_counted_twice(endpoint, truth, prompts):
    kinds = [kind for kind in fake_endpoint.TROUBLES if kind != "429-date"]  # up to a second for all workers
    endpoint.plan(seed=1, share=0.6, kinds=kinds + fake_endpoint.DOUBLES)
    patience = RetryPolicy(connect_s=5, read_s=2, total_s=2.5, attempts=4, wait_s=0.01)
    news = list(endpoint.llm(patience).stream(prompts, DRAWS))
    assert sorted(index for index, _ in news) == list(range(len(truth)))
    assert words(answer for _, answer in sorted(news, key=lambda pair: pair[0])) == words(truth)
    counts = endpoint.counts()
    assert list(counts["delivered"].values()) == [1] * len(truth)
    assert len(counts["troubles"]) >= 10
    assert sum(counts["asked"].values()) > 1.4 * len(truth)


def test_no_more_requests_than_stated_are_in_flight(endpoint, prompts, truth):
    for concurrency in (3, 8):
        endpoint.plan(slow_s=0.1, together=concurrency)
        assert words(endpoint.llm(RetryPolicy(), concurrency).complete(prompts[:5], DRAWS)) == words(
            truth[:10]
        )
        assert endpoint.counts()["most_flying"] == concurrency


def test_draws_are_requests_of_their_own_with_seeds_of_their_own(endpoint, prompts):
    endpoint.llm().complete(prompts[:2], DRAWS)
    bodies = endpoint.counts()["bodies"]
    assert len({body["seed"] for body in bodies}) == len(bodies) == 4
    assert not any("n" in body for body in bodies)


def test_what_was_had_before_is_not_asked_for(endpoint, prompts, truth):
    news = dict(endpoint.llm().stream(prompts[:3], DRAWS, skip={0, 3, 4}))
    assert {index: answer.text for index, answer in news.items()} == {i: truth[i].text for i in (1, 2, 5)}
    assert sum(endpoint.counts()["asked"].values()) == 3


def test_all_others_are_answered_before_a_lost_one_is_told_and_only_it_is_asked_again(
    endpoint, prompts, prompt, truth
):
    asked = [*prompts[:3], prompt("lost 9,", GRAMMAR), *prompts[3:6]]
    endpoint.plan(lost="lost")
    had = {}
    with pytest.raises(ArtefactError) as told:
        had.update(_kept(endpoint.llm().stream(asked, DRAWS), had))
    assert sorted(had) == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]
    message = str(told.value)
    assert re.search(rf"prompt 4 of 7 \(sha256 {asked[3].sha256[:12]}, draw [01]\)", message)
    assert "5 attempts were made, the last one came to: HTTP 503: Overloaded." in message
    assert "12 of 14 answers arrived; 2 requests failed, 0 were not sent." in message
    assert "only the 2 missing ones" in message

    endpoint.plan()
    had.update(endpoint.llm().stream(asked, DRAWS, skip=had.keys()))
    assert sorted(had) == list(range(14))
    assert words(had[i] for i in (*range(6), *range(8, 14))) == words(truth[:12])
    assert sum(endpoint.counts()["asked"].values()) == 2


def _kept(stream, had):
    for index, answer in stream:
        had[index] = answer
    return had


def test_a_server_that_never_answers_is_given_up_before_all_prompts_were_tried(endpoint, prompt):
    endpoint.plan(lost="lost")
    patience = RetryPolicy(attempts=2, wait_s=0.0, give_up=4)
    with pytest.raises(ArtefactError, match=r"4 requests failed, 16 were not sent"):
        endpoint.llm(patience, concurrency=1).complete([prompt(f"lost {i}", GRAMMAR) for i in range(20)])
    assert sum(endpoint.counts()["asked"].values()) == 0
    assert len(endpoint.counts()["bodies"]) == 8


def test_a_server_that_is_not_there_is_named(prompts):
    llm = RemoteModel("http://127.0.0.1:9/v1", "tiny", retry=RetryPolicy(attempts=2, wait_s=0.0))
    with pytest.raises(
        ArtefactError, match=r"openai:http://127.0.0.1:9/v1#tiny gave no answer .* ConnectError"
    ):
        llm.complete(prompts[:2])


def test_a_wait_that_the_server_asks_for_is_kept(endpoint, prompts, truth):
    endpoint.plan(share=1.0, most=1, kinds=["429-after"])
    answers = endpoint.llm(RetryPolicy(wait_s=0.0)).complete(prompts[:1], Decoding(temperature=0.8, seed=5))
    assert words(answers) == words(truth[:1])
    first, second = endpoint.counts()["times"]
    assert second - first >= 0.2


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Wed, 21 Oct 2065 07:28:00", 1e8, 1e11),
    ],
)
def test_a_wait_is_asked_for_in_seconds_or_until_a_date(header, least, most):
    response = httpx.Response(429, headers={"Retry-After": header})
    assert least <= retry_after(response) <= most


@pytest.mark.parametrize(
    "headers", [{}, {"Retry-After": "soon"}, {"Retry-After": "-3"}, {"Retry-After": "nan"}]
)
def test_a_wait_that_means_nothing_is_our_own_to_choose(headers):
    assert retry_after(httpx.Response(429, headers=headers)) is None


def test_our_own_waits_double_with_jitter_up_to_the_longest():
    patience = RetryPolicy(wait_s=1.0, longest_wait_s=5.0)
    for attempt, longest in [(2, 1), (3, 2), (4, 4), (5, 5), (500, 5)]:
        waits = [patience.wait_before(attempt) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_a_server_that_asks_for_a_longer_wait_than_we_have_is_not_waited_for(endpoint, prompts):
    endpoint.plan(share=1.0, kinds=["429-long"])
    with pytest.raises(ArtefactError, match=r"HTTP 429: Too busy. \(it asks for a wait of 3600 s\)"):
        endpoint.llm().complete(prompts[:1])
    assert sum(endpoint.counts()["asked"].values()) == 1


def test_a_quota_that_is_used_up_is_not_asked_again(endpoint, prompts):
    endpoint.plan(share=1.0, kinds=["429-quota"])
    with pytest.raises(ConfigError, match="HTTP 429: Too busy"):
        endpoint.llm(concurrency=1).complete(prompts)
    assert sum(endpoint.counts()["asked"].values()) == 1


@pytest.mark.parametrize("variable", ["ST2LLM_OPENAI_KEY", "OPENAI_API_KEY"])
def test_a_wrong_key_is_told_by_its_variable_and_not_tried_again(endpoint, prompts, monkeypatch, variable):
    monkeypatch.delenv("ST2LLM_OPENAI_KEY")
    monkeypatch.setenv(variable, "sk-wrong-key-9876543210")
    with pytest.raises(ConfigError, match=rf"HTTP 401.*The key in \${variable} was not accepted") as told:
        endpoint.llm(concurrency=2).complete(prompts)
    assert "9876543210" not in str(told.value)
    assert "0 of 16 answers arrived" in str(told.value)


def test_a_missing_key_is_told_by_the_variable_to_put_it_into(endpoint, prompts, monkeypatch):
    monkeypatch.setenv("ST2LLM_OPENAI_KEY", " ")
    with pytest.raises(ConfigError, match=r"HTTP 401.*No key was sent: put one into \$ST2LLM_OPENAI_KEY"):
        endpoint.llm().complete(prompts[:1])


def test_the_projects_own_variable_comes_first(endpoint, prompts, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-key-9876543210")
    assert len(endpoint.llm().complete(prompts[:1])) == 1


def test_an_unknown_model_is_named_and_asked_for_once_a_worker(endpoint, prompts):
    with pytest.raises(
        ConfigError, match=r"HTTP 404: The model `huge` does not exist.*'huge'.*base url http"
    ):
        endpoint.llm(model="huge", concurrency=2).complete(prompts)


def test_a_prompt_that_is_too_long_is_told_after_all_others_were_answered(endpoint, prompts, prompt):
    endpoint.plan(too_long="far too long")
    asked = [prompts[0], prompt("far too long", GRAMMAR), *prompts[1:8]]
    had = {}
    with pytest.raises(ConfigError, match=r"prompt 2 of 9 .*HTTP 400: This model's maximum context length"):
        _kept(endpoint.llm(concurrency=2).stream(asked), had)
    assert sorted(had) == [0, *range(2, 9)]
    assert len(endpoint.counts()["bodies"]) == 9


def test_a_refusal_is_an_answer_without_words(endpoint, prompt):
    endpoint.plan(refused="forbidden", filtered="filtered")
    user = ({"role": "user", "content": "forbidden"},)
    asked = [prompt("forbidden"), prompt("", messages=user), prompt("filtered"), prompt("12,")]
    assert [(answer.text == "", answer.finish) for answer in endpoint.llm().complete(asked)] == [
        (True, "refused"),
        (True, "refused"),
        (True, "refused"),
        (False, "whole"),
    ]


def test_an_answer_that_ran_out_of_tokens_is_told_from_a_whole_one(endpoint, prompt):
    (answer,) = endpoint.llm().complete([prompt("12,", FreeText(2))])
    assert (answer.finish, len(answer.text)) == ("length", 2)


def test_tokens_are_zero_where_the_server_does_not_count_them(endpoint, prompts):
    endpoint.plan(usage=False)
    (answer,) = endpoint.llm().complete(prompts[:1])
    assert (answer.tokens_in, answer.tokens_out) == (0, 0)


def test_the_newer_name_of_the_limit_is_used_where_a_server_wants_it(endpoint, prompts, truth):
    endpoint.plan(plain=False)
    assert words(endpoint.llm(RetryPolicy(attempts=1)).complete(prompts, DRAWS)) == words(truth)
    bodies = endpoint.counts()["bodies"]
    assert 0 < sum("max_tokens" in body for body in bodies) <= 8


def test_it_can_be_asked_where_an_event_loop_runs_already(endpoint, prompts, truth):
    async def notebook():
        return endpoint.llm().complete(prompts[:2], DRAWS)

    assert words(asyncio.run(notebook())) == words(truth[:4])


def test_leaving_early_ends_what_is_in_flight(endpoint, prompts):
    endpoint.plan(slow_s=0.1)
    stream = endpoint.llm(concurrency=2).stream(prompts, DRAWS)
    next(stream)
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 1.5
    assert not any(thread.name == "st2llm-background" for thread in threading.enumerate())
    assert len(endpoint.counts()["bodies"]) < 8


def test_a_defect_of_our_own_is_seen_and_not_waited_for(endpoint, prompts, monkeypatch):
    monkeypatch.setattr(stream_run.protocol, "parse_reply", lambda *_: 1 / 0)
    with pytest.raises(ExceptionGroup) as told:
        endpoint.llm(concurrency=1).complete(prompts)
    assert told.group_contains(ZeroDivisionError)


def test_prompts_that_cannot_be_asked_are_told_before_any_is(endpoint, prompts, prompt):
    with pytest.raises(AlignmentError, match="slot 'places'"):
        endpoint.llm().complete([*prompts, prompt("12,", slots=(Slot("places", 2),))])
    assert endpoint.counts()["bodies"] == []


def test_a_plain_string_is_one_request(endpoint, prompt):
    (answer,) = endpoint.llm(RetryPolicy()).complete("12, 14")
    assert answer.prompt_sha256 == prompt("12, 14").sha256
    assert len(endpoint.counts()["bodies"]) == 1
