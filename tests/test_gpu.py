"""On a real accelerator, engine, arms and quantised layers compute what they compute on the CPU.

Run by `make gpu-check`, or by `pytest -m gpu`; skipped where there is no accelerator. $ST2LLM_TEST_DEVICE names another
device; with cpu, the tests themselves are tested.
"""

import os

import pytest
import torch
from support.arms import arm_and_preprocessor, windows

from st2llm import devices
from st2llm.config.model import BACKBONES
from st2llm.llm import load_llm
from st2llm.types import Decoding, Numbers

pytestmark = pytest.mark.gpu


@pytest.fixture
def device():
    name = os.environ.get("ST2LLM_TEST_DEVICE")
    device = devices.find_device(name)
    if name is None and devices.is_cpu(device):
        pytest.skip("needs an accelerator")
    return device


def on(device, name, **settings):
    with devices.using(device):
        return load_llm(name, depth=2, **settings)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2", "gemma"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 2e-3), ("bf16", 0.5)])
def test_answers_and_their_likelihood_are_those_of_the_cpu(
    device, tiny, prompt, architecture, dtype, tolerance
):
    exact, llm = (
        on(devices.CPU, tiny(architecture), dtype="fp32"),
        on(device, tiny(architecture), dtype=dtype),
    )
    asked = [
        prompt(text, Numbers(3, 2, fixed=True))
        for text in ("7,", "12,14,16,", "people walked by at 3:00. 5,")
    ]
    answers = llm.complete(asked, Decoding(draws=3, temperature=0.8, seed=1))
    assert llm.device.type == device.type
    expected = exact.log_likelihood([p for p in asked for _ in range(3)], [answer.text for answer in answers])
    assert [answer.logprob for answer in answers] == pytest.approx(expected, abs=tolerance)
    candidates = ["1", "12", " people", " people walked"]
    assert llm.score(asked[2], candidates) == pytest.approx(exact.score(asked[2], candidates), abs=tolerance)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_forecasts_and_gradients_of_an_arm_are_those_of_the_cpu(device, tiny, backbone):
    results = []
    for place in (devices.CPU, device):
        name = ("random:" if backbone == "llm-random" else "") + tiny()
        llm = on(place, name, dtype="fp32") if backbone in BACKBONES[4:] else None
        arm, preprocessor = arm_and_preprocessor(backbone, llm=llm)
        batch = preprocessor.collate(windows()[:3], with_instructions=False)
        forecast = arm.to(place)(batch.to(place))
        forecast.square().mean().backward()
        gradients = {name: p.grad.cpu() for name, p in arm.named_parameters() if p.grad is not None}
        results.append((forecast.detach().cpu(), gradients))
    (forecast, gradients), (other, others) = results
    torch.testing.assert_close(other, forecast, atol=2e-3, rtol=2e-3)
    assert others.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (others[name] - gradient).norm() <= 0.02 * gradient.norm() + 1e-4, name


@pytest.mark.parametrize("quant", ["int8", "nf4"])
def test_gradients_through_quantised_layers_outlast_a_validation_pass(device, tiny, quant):
    llm = on(device, tiny(), dtype="bf16", quant=quant)
    arm, preprocessor = arm_and_preprocessor("llm-lora", llm=llm)
    batch = preprocessor.collate(windows()[:3], with_instructions=False).to(device)
    norms = []
    for _ in range(2):
        arm.to(device).train().zero_grad()
        arm(batch).square().mean().backward()
        norms.append(sum(float(p.grad.square().sum()) for p in arm.parameters() if p.grad is not None) ** 0.5)
        with torch.no_grad():
            arm.eval()(batch)
    assert norms[0] > 0 and norms[1] == pytest.approx(norms[0], rel=0.02)
