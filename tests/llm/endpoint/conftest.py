"""Fixtures of the tests of endpoints: a fake server, prompts and their correct answers."""

import pytest
from support.endpoint_server import DRAWS, GRAMMAR, KEY, serving

from st2llm.llm.endpoint.retry import RetryPolicy


@pytest.fixture(scope="session")
def server(tiny):
    with serving(tiny()) as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(server, monkeypatch):
    monkeypatch.setenv("ST2LLM_OPENAI_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server.plan()
    return server


@pytest.fixture(scope="session")
def prompts(prompt):
    """Eight plain texts and eight conversations."""
    plain = [prompt(f"{i},{i + 1},", GRAMMAR) for i in range(8)]
    asked = [({"role": "user", "content": f"What follows {i}?"},) for i in range(8)]
    return plain + [prompt("", GRAMMAR, messages=messages) for messages in asked]


@pytest.fixture(scope="session")
def truth(server, prompts):
    """What the model says where nothing goes wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ST2LLM_OPENAI_KEY", KEY)
        server.plan()
        return server.llm(RetryPolicy()).complete(prompts, DRAWS)
