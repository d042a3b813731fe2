"""Several servers of one model: a faulty one loses no answer, and what is answered is not asked again."""

import pytest
from support.loopback_server import Loopback, loopback

from st2llm.errors import ArtefactError, ConfigError
from st2llm.llm import load_llm
from st2llm.llm.endpoint.client import RemoteModel, parse_endpoint
from st2llm.llm.endpoint.retry import RetryPolicy

QUICK = RetryPolicy(connect_s=5, read_s=5, total_s=5, attempts=3, wait_s=0.01, longest_wait_s=2)
PROMPTS = [f"prompt {i}" for i in range(40)]


def _model(*servers: Loopback) -> RemoteModel:
    return RemoteModel(",".join(server.url for server in servers), "tiny", 4, QUICK)


def test_several_servers_share_the_prompts_and_answers_keep_their_order():
    first, second = Loopback(), Loopback()
    with loopback(first, second):
        answers = _model(first, second).complete(PROMPTS)
    assert [answer.text for answer in answers] == [f"echo {prompt}" for prompt in PROMPTS]
    assert first.answered.total() > 0 and second.answered.total() > 0
    assert set((first.answered + second.answered).values()) == {1}


@pytest.mark.parametrize("fault", ["dies", "500", "401", "429", "garbage"])
@pytest.mark.parametrize("good", [0, 5])
def test_a_faulty_server_loses_no_answer_and_no_answer_is_asked_twice(fault, good):
    faulty, sound = Loopback(fault, good), Loopback()
    with loopback(faulty, sound):
        arrived = list(_model(faulty, sound).stream(PROMPTS))
    assert sorted(index for index, _ in arrived) == list(range(len(PROMPTS)))
    assert all(answer.text == f"echo {PROMPTS[index]}" for index, answer in arrived)
    assert set((faulty.answered + sound.answered).values()) == {1}
    assert fault == "429" or faulty.answered.total() == good


def test_a_dead_server_is_left_alone_after_its_attempts():
    dead, sound = Loopback("dies"), Loopback()
    with loopback(dead, sound):
        _model(dead, sound).complete(PROMPTS * 3)
    assert dead.asked.total() <= QUICK.attempts + 4


def test_an_address_where_nothing_listens_is_no_hindrance_and_is_told(caplog):
    sound = Loopback()
    with loopback(sound), caplog.at_level("WARNING"):
        model = RemoteModel(f"http://127.0.0.1:9/v1,{sound.url}", "tiny", 4, QUICK)
        assert len(model.complete(PROMPTS * 2)) == 80
    assert "http://127.0.0.1:9/v1 is not asked any more" in caplog.text


def test_when_all_servers_fail_what_they_answered_is_kept_and_the_rest_is_told():
    one, other = Loopback("dies", 5), Loopback("500", 7)
    arrived = []
    with loopback(one, other), pytest.raises(ArtefactError, match=r"In all 12 of 40 answers arrived"):
        for index, answer in _model(one, other).stream(PROMPTS):
            arrived.append((index, answer))
    assert len(arrived) == 12
    sound = Loopback()
    with loopback(sound):
        rest = dict(_model(sound).stream(PROMPTS, skip=[index for index, _ in arrived]))
    assert len(rest) == 28 and not set(rest) & {index for index, _ in arrived}


def test_a_list_of_addresses_is_one_name():
    model = parse_endpoint("openai:http://127.0.0.1:1/v1/, http://127.0.0.1:2/v1#tiny")
    assert model.base_urls == ("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")
    assert load_llm(model.name) == model
    with pytest.raises(ConfigError, match="base url should read like"):
        parse_endpoint("openai:http://127.0.0.1:1/v1,nonsense#tiny")
