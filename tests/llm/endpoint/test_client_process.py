"""Keys stay out of logs, errors and outputs, and a killed program asks for nothing that it kept."""

import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from support import fake_endpoint
from support.endpoint_server import DRAWS, KEY

from st2llm.errors import ArtefactError, ConfigError
from st2llm.llm.endpoint import client
from st2llm.llm.endpoint.retry import RetryPolicy


def test_the_key_is_in_no_log_error_repr_or_attribute(endpoint, prompts, caplog):
    llm = endpoint.llm(RetryPolicy(attempts=2, wait_s=0.0))
    endpoint.plan(share=1.0, kinds=["echo"], most=9)
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(ArtefactError, match=r"Debug page.*Bearer \[key\]") as told,
    ):
        llm.complete(prompts[:2], DRAWS)
    assert len(caplog.records) > 4
    shown = [
        caplog.text,
        str(told.value),
        repr(told.value.__dict__),
        repr(llm),
        repr(vars(llm)),
        llm.identity,
    ]
    assert not any(KEY in words for words in shown)


@pytest.mark.parametrize("key", ["sk-secret\nx", "sk-secret x", "sk-sécret-x"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(endpoint, prompts, monkeypatch, key):
    monkeypatch.setenv("ST2LLM_OPENAI_KEY", key)
    with pytest.raises(ConfigError, match=r"\$ST2LLM_OPENAI_KEY should hold a key of printable") as told:
        endpoint.llm().complete(prompts[:1])
    assert key[:5] not in str(told.value)


CLIENT = """
import json, logging, sys, traceback
from pathlib import Path
from st2llm.llm import load_llm
from st2llm.types import Decoding, Numbers, Prompt, TemplateId

logging.basicConfig(level=logging.DEBUG)
name, kept = sys.argv[1], Path(sys.argv[2])
prompts = [Prompt((), (f"{i},{i + 1},",), "", TemplateId("t", 1, ""), Numbers(4, 3)) for i in range(8)]
lines = kept.read_text().splitlines() if kept.exists() else []
had = {json.loads(line)[0] for line in lines}
with kept.open("a") as file:
    try:
        for index, answer in load_llm(name).stream(prompts, Decoding(draws=2, temperature=0.8, seed=5), skip=had):
            print(json.dumps([index, answer.text]), file=file, flush=True)
    except Exception:
        traceback.print_exc()
print("torch" in sys.modules, "transformers" in sys.modules)
"""


def _client(endpoint, kept, **environment):
    command = [sys.executable, "-c", CLIENT, f"openai:{endpoint.url}/v1#tiny", str(kept)]
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(Path(client.__file__).parents[3]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _lines(kept):
    return [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []


@pytest.mark.slow
def test_after_a_kill_nothing_that_was_kept_is_asked_again(endpoint, truth, prompts, tmp_path):
    kept = tmp_path / "answers.jsonl"
    endpoint.plan(slow_s=0.15, share=0.3, kinds=["500", "reset", "html", "sent-twice"], seed=3)
    with _client(endpoint, kept) as first:
        while len(_lines(kept)) < 4 and first.poll() is None:
            time.sleep(0.01)
        first.kill()
    before = [index for index, _ in _lines(kept)]
    assert 4 <= len(before) < 16
    delivered = endpoint.counts()["delivered"]

    with _client(endpoint, kept) as second:
        output = second.communicate(timeout=60)[0]
    assert output.splitlines()[-1] == "False False"
    assert KEY not in output
    assert "POST" in output
    lines = _lines(kept)
    assert [index for index, _ in lines[: len(before)]] == before
    assert sorted(index for index, _ in lines) == list(range(16))
    assert [text for _, text in sorted(lines)] == [answer.text for answer in truth[:16]]
    again = Counter(endpoint.counts()["delivered"])
    assert {again[name_of(prompts, index)] for index in before} == {1}
    assert sum(again.values()) <= 16 + 8  # none but those that were in flight at the kill
    assert sum(delivered.values()) >= len(before)


def name_of(prompts, index):
    prompt, draw = prompts[index // 2], index % 2
    return fake_endpoint.name_of(prompt.text, client.protocol.draw_seed(DRAWS.seed, prompt.sha256, draw))


@pytest.mark.slow
def test_the_key_is_in_no_output_of_a_program_that_fails(endpoint, tmp_path):
    endpoint.plan(share=1.0, kinds=["429-long", "429-quota"], most=99)
    with _client(endpoint, tmp_path / "kept", OPENAI_API_KEY="sk-other-key-123456789") as client:
        output = client.communicate(timeout=60)[0]
    assert "Traceback" in output
    assert KEY not in output
    assert "sk-other" not in output
