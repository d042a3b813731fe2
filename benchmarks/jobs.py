"""Jobs a minute of a comparison with one and with two workers of one thread each, and what more workers could give.

python benchmarks/jobs.py [--json] [--steps N] [--seeds N]

Each worker is a process of `st2llm compare --part I/N` that shares the folder with the others. Serial is what does not
shrink with more workers: start and data (each worker loads its own), the warm-up of the encoder that all arms of a seed
wait for, and the report. Amdahl's bound on the speed-up with n workers is 1 / (s + (1 - s) / n) for a serial share s.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

MANY = 64


def suite(steps: int, seeds: int) -> dict[str, object]:
    """Two kinds of small arms and a rule, on one encoder."""
    arms = [{"name": name, "family": "primitive", "backbone": name} for name in ("none", "attention")]
    return {
        "id": "jobs",
        "version": 1,
        "kind": "graph",
        "data": "auckland-pedestrians",
        "split": {"stride": 24},
        "task": {"forecast": {"history": 48, "horizon": 24}},
        "encoder": {"d_st": 32, "patch": 24, "layers": 1, "warmup": {"steps": steps, "batch": 8}},
        "predictors": [*arms, {"name": "last-value", "family": "baseline"}],
        "seeds": list(range(seeds)),
        "budget": {"steps": steps, "batch": 8, "lr": [1e-3]},
        "limit": 40,
    }


def seconds(file: Path, out: Path, workers: int) -> float:
    """How long a comparison takes in so many processes, from the start of the first to the end of the last."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "st2llm", "--quiet", "compare", str(file), "--out", str(out)]
    processes = [
        subprocess.Popen(
            [*command, "--part", f"{i}/{workers}"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        for i in range(1, workers + 1)
    ]
    if any(process.wait() for process in processes):
        raise SystemExit("A part failed; its message is above.")
    return time.perf_counter() - began


def serial_seconds(out: Path, whole: float) -> float:
    """What of a run in one process no further worker shortens: all but its jobs, and the first encoder of them."""
    jobs = sum(json.loads(path.read_text())["wall_s"] for path in (out / "arms").glob("*.json"))
    encoder = min(path.stat().st_mtime for path in (out / "encoder").iterdir())
    first = min(
        path.stat().st_mtime - json.loads(path.read_text())["wall_s"]
        for path in (out / "arms").glob("*.json")
    )
    return whole - jobs + max(0.0, encoder - first)


def measure(steps: int, seeds: int) -> dict[str, float]:
    """Jobs a minute by workers, the serial share, and the bound for many workers."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "jobs.yaml"
        file.write_text(yaml.safe_dump(suite(steps, seeds)))
        taken = {n: seconds(file, Path(folder) / str(n), n) for n in (1, 2)}
        jobs = len(list((Path(folder) / "1/arms").glob("*.json")))
        share = serial_seconds(Path(folder) / "1", taken[1]) / taken[1]
    return {
        "jobs": jobs,
        "jobs_a_minute_1": 60 * jobs / taken[1],
        "jobs_a_minute_2": 60 * jobs / taken[2],
        "speedup_2": taken[1] / taken[2],
        "serial_share": share,
        f"bound_{MANY}": 1 / (share + (1 - share) / MANY),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--steps", type=int, default=200, help="training steps of an arm and of the encoder")
    parser.add_argument("--seeds", type=int, default=4, help="training runs of each arm")
    options = parser.parse_args()
    found = measure(options.steps, options.seeds)
    if options.json:
        print(json.dumps(found))
        return
    print(f"{found['jobs']:.0f} jobs: {found['jobs_a_minute_1']:.1f} a minute with one worker of one thread")
    print(f"{found['jobs_a_minute_2']:.1f} with two ({found['speedup_2']:.2f} times)")
    print(
        f"serial {found['serial_share']:.0%}, so at most {found[f'bound_{MANY}']:.1f} times with {MANY} workers"
    )


if __name__ == "__main__":
    main()
