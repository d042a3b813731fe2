"""Devices are chosen in one module, and no tensor is left behind on another one."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import fields
from support.arms import arm_and_preprocessor, windows
from support.simulated_device import DEVICE, simulated_device

from st2llm import devices
from st2llm.config.model import BACKBONES, EncoderSettings
from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import fit_note_vocabulary, stack_fields
from st2llm.encode.scaler import fit_scaler
from st2llm.errors import ConfigError
from st2llm.llm import load_llm
from st2llm.llm.decode.engine import Engine
from st2llm.llm.decode.requests import DecodeRequest
from st2llm.llm.grammar import build_automaton
from st2llm.model.arm import ArmSpec
from st2llm.model.objectives.contrastive import Contrastive
from st2llm.model.objectives.diffusion import DiffusionObjective
from st2llm.model.objectives.masked import MaskedReconstruction
from st2llm.model.objectives.noise_schedule import NoiseSchedule
from st2llm.model.objectives.supervised import Regression
from st2llm.model.pretraining import FieldPretrainingModel
from st2llm.types import Choice, Decoding, FreeText, Numbers, TrainingWindows

PACKAGE = Path(devices.__file__).parent
BENCHMARKS = PACKAGE.parent / "benchmarks"
ASKS_TORCH = re.compile(
    r"torch\.(cuda|accelerator|mps|xpu|cpu|backends|get_default_device|set_default_device)\b"
    r"|\.cuda\(|\.pin_memory\(|torch\.device\(|device=['\"]|\.to\(['\"]|[!=]= ['\"](cpu|cuda|mps|xpu)['\"]|has_mkldnn"
)
TEXTS = [
    "people walked by at 3:00. 7,",
    "people walked by at 3:00. 12,14,",
    "people walked by at 3:00. 5,6,7,",
]


def test_no_other_module_asks_torch_for_a_device_or_names_one():
    asking = {
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "devices.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if ASKS_TORCH.search(line)
    }
    assert asking == set()


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    for name in ("LOCAL_RANK", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variable", "value", "device"),
    [(None, None, "cuda"), ("LOCAL_RANK", "1", "cuda:1"), ("ACCELERATE_USE_CPU", "true", "cpu")],
)
def test_the_best_device_is_the_one_that_accelerate_takes(two_gpus, monkeypatch, variable, value, device):
    if variable:
        monkeypatch.setenv(variable, value)
    assert devices.best_device() == devices.find_device(None) == torch.device(device)
    with devices.using(devices.CPU):
        assert devices.best_device() == devices.CPU
    assert devices.best_device() == torch.device(device)


def test_a_device_that_exists_is_found_by_its_name(two_gpus):
    assert [str(devices.find_device(name)) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]
    for name in ("cuda:2", "mps"):
        with pytest.raises(ConfigError, match=f"The device '{name}' was asked for, but torch .* finds cpu"):
            devices.find_device(name)
    with pytest.raises(ConfigError, match="'gpu' is not the name of a device"):
        devices.find_device("gpu")


def test_the_simulated_device_refuses_what_a_gpu_refuses():
    with simulated_device():
        x, y = torch.ones(3, device=DEVICE), torch.ones(3)
        assert x.device == (x + 1).device == x.to(torch.float64).device == x[:2].device == DEVICE
        assert y.device == x.cpu().device == devices.CPU and y.to(x.device).device == DEVICE
        for mix in (lambda: x + y, lambda: torch.cat([x, y]), lambda: torch.where(y > 0, x, x)):
            with pytest.raises(RuntimeError, match="on the same device"):
                mix()
        with pytest.raises(TypeError, match="cuda:0 device type tensor to numpy"):
            x.numpy()
        assert float(x.sum() + torch.tensor(1.0)) == 4.0


def test_a_batch_is_copied_to_a_gpu_from_pinned_memory_and_nowhere_else():
    x = torch.arange(3.0)
    with simulated_device() as simulated:
        moved = devices.move(x, DEVICE)
        assert moved.device == DEVICE and simulated.pinned == 1
        assert (
            devices.move(moved, DEVICE).device == DEVICE
            and devices.move(moved, devices.CPU).device == devices.CPU
        )
        assert devices.move(x, devices.CPU) is x and simulated.pinned == 1
        batch = arm_and_preprocessor("none")[1].collate(windows()[:2], with_instructions=False).to(DEVICE)
        assert simulated.pinned == 1 + len(batch.tensor_names())
    assert torch.equal(moved.cpu(), x)


def requests(llm, grammar):
    form = build_automaton(llm.tokenizer, grammar)
    return [DecodeRequest(tuple(llm.tokenizer.encode(text)), form, text) for text in TEXTS]


@pytest.mark.parametrize("grammar", [Numbers(3, 2), Choice(("12 people", "12 walked")), FreeText(4)])
def test_the_engine_answers_and_scores_on_a_device_as_on_the_cpu(tiny, grammar):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    asked, decoding = requests(llm, grammar), Decoding(draws=2, temperature=0.8, seed=3)
    candidates = [llm.tokenizer.encode(text) for text in ("12", "123", " people")]
    draws = llm.engine.generate(asked, decoding)
    nats = llm.engine.log_likelihood(asked[:1], [draws[0].tokens])
    scores = llm.engine.candidate_logprobs(asked[0].prompt_ids, candidates)
    with simulated_device(llm.model):
        engine = Engine(llm.model, native_bf16=True)
        again = engine.generate(asked, decoding)
        assert [draw.tokens for draw in again] == [draw.tokens for draw in draws]
        assert engine.log_likelihood(asked[:1], [draws[0].tokens]) == pytest.approx(nats, abs=1e-3)
        assert engine.candidate_logprobs(asked[0].prompt_ids, candidates) == pytest.approx(scores, abs=1e-3)


def test_a_model_that_was_moved_after_its_first_answer_leaves_the_weights_packed_for_the_cpu(tiny):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    texts = [llm.tokenizer.encode(text) for text in TEXTS]
    before, expected = llm.engine, torch.cat(llm.engine.hidden_states(texts))
    assert llm.engine is before
    with simulated_device(llm.model):
        torch.testing.assert_close(
            torch.cat(llm.engine.hidden_states(texts)).cpu(), expected, atol=1e-4, rtol=1e-4
        )
        assert llm.engine is not before
    assert torch.equal(torch.cat(llm.engine.hidden_states(texts)), expected)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_arm_computes_and_learns_on_a_device_as_on_the_cpu(tiny, backbone):
    name = ("random:" if backbone == "llm-random" else "") + tiny()
    llm = load_llm(name, depth=2, dtype="fp32") if backbone in BACKBONES[4:] else None
    arm, preprocessor = arm_and_preprocessor(backbone, llm=llm)
    batch = preprocessor.collate(windows()[:3], with_instructions=False)
    batch = replace(batch, prompts=("people walked by", "", "people walked by at 3:00."))
    expected = arm(batch).detach().clone()
    modules = [arm] if llm is None else [arm, llm.model]
    with simulated_device(*modules):
        forecast = arm(batch.to(DEVICE))
        forecast.square().mean().backward()
        assert forecast.device == DEVICE
        torch.testing.assert_close(forecast.cpu(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["regression", "masked", "contrastive", "diffusion"])
def test_a_loss_is_drawn_and_computed_on_a_device_as_on_the_cpu(name):
    samples = fields.windows(fields.series(60), history=8, horizon=4, stride=3)[:6]
    given = TrainingWindows(samples)
    batch = stack_fields(samples, fit_scaler(given), fit_note_vocabulary(given))
    objective = {
        "regression": lambda: Regression(torch.full((3, 1), 10.0)),
        "masked": lambda: MaskedReconstruction(fields.EDGES, policies=("random", "span"), ratio=0.4),
        "contrastive": lambda: Contrastive(
            fields.EDGES, steps_per_day=24, near_hours=1, views=("hide", "noise", "scale")
        ),
        "diffusion": lambda: DiffusionObjective(NoiseSchedule()),
    }[name]()
    settings = EncoderSettings(d_st=16, patch=4, layers=1)
    spec = ArmSpec(FieldShape(12, 12, 3, 1, 24, amid=True), fields.EDGES, 16, 1.0, 4, settings)
    model = FieldPretrainingModel(spec, seed=0).eval()

    def loss(given):
        drawn = objective.draw(given, torch.Generator().manual_seed(1))
        return sum(objective.totals(model, drawn).values())

    expected = loss(batch).detach()
    with simulated_device(model):
        total = loss(batch.to(DEVICE))
        total.backward()
        assert total.device == DEVICE
        torch.testing.assert_close(total.cpu(), expected, atol=1e-3, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has an accelerator")
def test_the_check_for_gpus_says_in_one_message_that_there_is_none():
    script = BENCHMARKS / "gpu_check.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'cuda' was asked for, but torch" in done.stderr and "--device cpu" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not done.stdout


@pytest.mark.slow
def test_the_check_for_gpus_ends_a_part_that_hangs_when_its_seconds_are_over(tmp_path):
    """A part that waits inside one call, as for a device that hangs, was never stopped."""
    code = (
        "import sys, threading\nimport gpu_check\n"
        "gpu_check.PARTS.clear()\n"
        "gpu_check.PARTS |= {'quick': lambda _: {'passed': True}, 'hangs': lambda _: threading.Event().wait()}\n"
        "sys.exit(gpu_check.main())"
    )
    out = tmp_path / "check.json"
    words = ["--device", "cpu", "--seconds", "1", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    parts = json.loads(out.read_text())["parts"]
    assert parts["quick"]["passed"] and not parts["hangs"]["passed"]
    assert "stopped: the seconds of this check were over" in parts["hangs"]["error"]
