"""Fixtures of the tests of endpoints: a fake server, prompts and their correct answers."""

import os
import subprocess
import sys

import httpx
import pytest
from support import fake_endpoint
from support.endpoint_server import DRAWS, GRAMMAR, KEY, Endpoint

from st2llm.llm.endpoint.client import RetryPolicy


@pytest.fixture(scope="session")
def server(tiny):
    command = [sys.executable, fake_endpoint.__file__, tiny(), KEY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            with httpx.Client(base_url=url, timeout=30) as client:
                yield Endpoint(url, client)
        finally:
            process.kill()


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
