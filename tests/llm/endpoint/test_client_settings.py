"""Names, settings and retry policies of endpoints that make no sense are refused."""

import pytest

from st2llm.errors import ConfigError
from st2llm.llm import load_llm
from st2llm.llm.endpoint.client import RemoteModel
from st2llm.llm.endpoint.retry import RetryPolicy


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"depth": 3}, "depth must be None for a model behind an endpoint, but it is 3"),
        ({"dtype": "bf16"}, "dtype must be 'auto' .* but it is 'bf16'"),
        ({"quant": "nf4"}, "quant must be 'none' .* but it is 'nf4'"),
    ],
)
def test_settings_that_the_server_has_made_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        load_llm("openai:http://127.0.0.1:8000/v1#tiny", **settings)


def test_an_endpoint_has_no_random_weights():
    with pytest.raises(ConfigError, match="cannot be drawn at random"):
        load_llm("random:openai:http://127.0.0.1:8000/v1#tiny")


@pytest.mark.parametrize(
    "name",
    [
        "openai:",
        "openai:http://x/v1",
        "openai:#tiny",
        "openai:http://x/v1#",
        "openai:ftp://x/v1#m",
        "openai:x#m",
    ],
)
def test_a_name_that_is_no_endpoint_is_refused_with_an_example(name):
    with pytest.raises(ConfigError, match=r"should read .*http://127.0.0.1:8000/v1|should read like http"):
        load_llm(name)


@pytest.mark.parametrize(
    "name",
    [
        "openai:http://me:hunter2@x/v1#m",
        "openai:http://me:hunter2@x/v1",
        "openai:http://x/v1?key=hunter2#m",
        "openai:http://hunter2@x/v1#m",
        "openai:http://me:hunter2@[/v1#m",
    ],
)
def test_a_secret_in_a_name_is_refused_unseen(name):
    with pytest.raises(ConfigError) as told:
        load_llm(name)
    assert "hunter2" not in str(told.value)
    assert "hunter2" not in repr(told.value.__context__)


@pytest.mark.parametrize(
    "settings", [{"attempts": 0}, {"read_s": 0.0}, {"wait_s": -1.0}, {"give_up": 0}, {"total_s": -1.0}]
)
def test_patience_without_meaning_is_refused(settings):
    with pytest.raises(ConfigError, match="RetryPolicy needs"):
        RetryPolicy(**settings)


def test_a_concurrency_without_meaning_is_refused():
    with pytest.raises(ConfigError, match="concurrency of at least 1, but has 'm' and 0"):
        RemoteModel("http://x/v1", "m", 0)
