"""Does st2llm compute on an accelerator what it computes on the CPU, and how fast?

python benchmarks/gpu_check.py [--device cuda] [--cache FOLDER] [--out FILE] [--seconds 480]
python benchmarks/gpu_check.py --prepare --cache FOLDER     on a machine with network: fills the folder
python benchmarks/gpu_check.py --device cpu                 the same at small size, to test this script

Four parts: the tests marked `gpu`, the text engine, a soft-token step, and QLoRA. Each compares its results with those
of the CPU in fp32 within a stated tolerance, then takes times in bf16. When --seconds are over, the part that runs is
stopped, wherever it is, and counts as failed, as do those that have not begun. One JSON object is written; the exit
status is 0 where all parts passed, 1 where one failed, and 2 where the device does not exist.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from engine import DRAWS, engine_run, prefill_run, series
from soft_step import BATCH, D_ST, Ours, instruction, ours
from torch import Tensor

from st2llm import devices
from st2llm.config.model import Adaptation
from st2llm.errors import ConfigError, St2llmError
from st2llm.files import write_atomically
from st2llm.llm import load_llm
from st2llm.llm.local import LanguageModel

LLM = "smollm2-135m"
TESTS = Path(__file__).resolve().parents[1] / "tests"
TOLERANCES = {"fp32": 2e-3, "bf16": 0.05, "nf4": 0.1}
"""The largest difference from fp32 on the CPU, as a part of the range (logits) or the norm (losses, gradients)."""
_GRACE_S = 2.0
"""Seconds after which a part is stopped that should have ended by itself."""
Result = dict[str, object]


@dataclass(frozen=True)
class Setting:
    """Where and how large to run. small: few layers and rows, for a CPU. until: when to stop, by `time.monotonic`."""

    device: torch.device
    small: bool
    until: float

    @property
    def depth(self) -> int | None:
        return 2 if self.small else None

    def load(self, dtype: str, quant: str = "none", device: torch.device | None = None) -> LanguageModel:
        with devices.using(device or self.device):
            llm = load_llm(LLM, depth=self.depth, dtype=dtype, quant=quant)
        if not isinstance(llm, LanguageModel):
            raise ConfigError(f"{LLM} should be a model on this machine, not one behind an endpoint.")
        return llm


def gpu_tests(setting: Setting) -> Result:
    """The tests that need a device, in a process of their own."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        str(TESTS / "test_gpu.py"),
    ]
    ran = subprocess.run(
        command,
        cwd=TESTS.parent,
        env={**os.environ, "ST2LLM_TEST_DEVICE": str(setting.device)},
        capture_output=True,
        text=True,
        check=False,
        timeout=max(1.0, setting.until - time.monotonic()),
    )
    lines = ran.stdout.strip().splitlines()
    return {
        "passed": ran.returncode == 0,
        "summary": lines[-1] if lines else ran.stderr[-500:],
        "output": ran.stdout[-4000:],
    }


def text_engine(setting: Setting) -> Result:
    """Logits of the engine on the device against the CPU's, and tokens a second."""
    words, _ = series(2 if setting.small else 24, 72)
    exact = setting.load("fp32", device=devices.CPU)
    texts = [exact.tokenizer.encode(text) for text in words[:2]]
    expected = logits(exact, texts)
    off = {}
    for dtype in ("fp32", "bf16"):
        llm = setting.load(dtype)
        off[dtype] = float((logits(llm, texts) - expected).abs().max() / (expected.max() - expected.min()))
    rates: Result = {}
    for rows in (10,) if setting.small else (30, 60, 120):
        asked = words[: rows // DRAWS.draws]
        engine_run(llm, asked[:1])
        prefill, read = prefill_run(llm, asked)
        seconds, _, written = engine_run(llm, asked)
        rates[f"{rows} rows"] = {
            "prefill tok/s": read / prefill,
            "decode tok/s": written / max(seconds - prefill, 1e-9),
        }
    return {"passed": all(off[d] <= TOLERANCES[d] for d in off), "difference": off, "bf16": rates}


def logits(llm: LanguageModel, texts: Sequence[Sequence[int]]) -> Tensor:
    """The engine's logits over the vocabulary of each token, on the CPU."""
    with torch.inference_mode():
        states = torch.cat(llm.engine.hidden_states(texts))
        return llm.engine.head.full_logits(states).cpu()


def soft_step(setting: Setting) -> Result:
    """Loss and gradient of a soft-token step against the CPU's, and milliseconds a step."""
    expected = loss_and_gradient(setting.load("fp32", device=devices.CPU))
    off = {}
    for dtype in ("fp32", "bf16"):
        llm = setting.load(dtype)
        off[dtype] = relative(loss_and_gradient(llm), expected)
    times = {}
    for tokens in (12, 64):
        step = ours(llm, instruction(llm), tokens)
        times[f"{tokens} soft tokens"] = median_ms(step, llm.device, 2 if setting.small else 20)
    return {"passed": all(off[d] <= TOLERANCES[d] for d in off), "difference": off, "bf16 ms a step": times}


def qlora(setting: Setting) -> Result:
    """The gradient of LoRA over nf4 weights: against the CPU's, and again after a pass without gradient."""
    adaptation = Adaptation(method="lora", rank=8)
    expected = loss_and_gradient(setting.load("fp32", "nf4", devices.CPU), adaptation)
    llm = setting.load("bf16", "nf4")
    arm, z = fixed_arm(llm, adaptation)
    first = _loss_and_gradient(arm, z)
    with torch.no_grad():
        arm.eval()(z, ("",) * len(z))
    again = _loss_and_gradient(arm.train(), z)
    off = {"to the CPU": relative(first, expected), "after validation": relative(again, first)}
    text = ("",) * len(z)
    times = median_ms(lambda: arm(z, text).square().mean().backward(), llm.device, 2 if setting.small else 20)
    return {
        "passed": max(off.values()) <= TOLERANCES["nf4"],
        "difference": off,
        "nf4 + bf16 ms a step": times,
    }


def loss_and_gradient(llm: LanguageModel, adaptation: Adaptation | None = None) -> tuple[float, float]:
    """The loss of one step with fixed weights, and the norm of its gradient."""
    return _loss_and_gradient(*fixed_arm(llm, adaptation))


def fixed_arm(llm: LanguageModel, adaptation: Adaptation | None) -> tuple[Ours, Tensor]:
    """The same weights and inputs for every device: drawn on the CPU, then moved."""
    torch.manual_seed(0)
    arm = Ours(llm, adaptation or Adaptation())
    for name, parameter in arm.named_parameters():
        if "lora_B" in name:  # adapters begin at zero, where half of their gradients are zero as well
            parameter.data = 0.02 * torch.randn(parameter.shape).to(parameter)
    z = torch.randn(BATCH, 12, D_ST)
    return arm.to(llm.device), z.to(llm.device)


def _loss_and_gradient(arm: Ours, z: Tensor) -> tuple[float, float]:
    arm.zero_grad()
    loss = arm(z, ("Forecast the next readings.",) * len(z)).square().mean()
    loss.backward()
    squares = [float(p.grad.float().square().sum()) for p in arm.parameters() if p.grad is not None]
    return float(loss.detach()), sum(squares) ** 0.5


def relative(actual: Sequence[float], expected: Sequence[float]) -> float:
    return max(abs(a - e) / abs(e) for a, e in zip(actual, expected, strict=True))


def median_ms(step: Callable[[], None], device: torch.device, repeats: int) -> float:
    """Median milliseconds of a step after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        step()
        devices.synchronise(device)
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[1:])


PARTS = {"tests": gpu_tests, "engine": text_engine, "soft step": soft_step, "qlora": qlora}


def run_part(name: str, setting: Setting) -> Result:
    """The result of a part, or why it has none."""
    began = time.monotonic()
    if began >= setting.until:
        return {"passed": False, "error": "not begun: the seconds of this check were over (--seconds)"}
    try:
        result = PARTS[name](setting)
    except (St2llmError, RuntimeError, TypeError, ValueError, OSError, subprocess.TimeoutExpired) as error:
        result = {"passed": False, "error": f"{type(error).__name__}: {error}"[:2000]}
    return {**result, "seconds": round(time.monotonic() - began, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--cache", type=Path, help="folder of downloads, by default that of st2llm")
    parser.add_argument(
        "--prepare", action="store_true", help="only download and convert what the check needs"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check.json"))
    parser.add_argument("--seconds", type=float, default=480)
    given = parser.parse_args()
    if given.cache:
        os.environ["ST2LLM_CACHE"] = str(given.cache.resolve())
    if given.prepare:
        load_llm(LLM, dtype="fp32")
        series(24, 72)
        return 0
    os.environ |= {"ST2LLM_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "ST2LLM_ANSWERS": "off"}
    try:
        device = devices.find_device(given.device)
    except ConfigError as error:
        print(f"{error} To run this check small on the CPU: --device cpu.", file=sys.stderr)
        return 2
    setting = Setting(device, devices.is_cpu(device), time.monotonic() + given.seconds)
    found: Result = {
        "device": str(device),
        "devices": devices.device_names(),
        "torch": torch.__version__,
        "llm": LLM,
    }
    found |= {"small": setting.small, "tolerances": TOLERANCES, "parts": {}}
    return run_parts(setting, found, given.out)


def run_parts(setting: Setting, found: Result, out: Path) -> int:
    """Runs all parts, writes what was found, and returns the exit status; ends this process where time is over."""
    parts: dict[str, Result] = {}
    found["parts"] = parts

    def stop() -> None:
        over = {"passed": False, "error": "stopped: the seconds of this check were over (--seconds)"}
        save({**found, "parts": dict.fromkeys(PARTS, over) | parts, "passed": False}, out)
        os._exit(1)  # the part that runs may wait for a device that hangs

    timer = threading.Timer(setting.until - time.monotonic() + _GRACE_S, stop)
    timer.daemon = True
    timer.start()
    for name in PARTS:
        parts[name] = run_part(name, setting)
        passed = "passed" if parts[name]["passed"] else "FAILED"
        print(f"{name}: {passed}, {parts[name].get('seconds', 0)} s", flush=True)
    timer.cancel()
    found["passed"] = all(part["passed"] for part in parts.values())
    save(found, out)
    return 0 if found["passed"] else 1


def save(found: Result, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda path: path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8"))
    print(f"Written to {out}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
