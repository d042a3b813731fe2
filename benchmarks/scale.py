"""Seconds and peak memory of training the field encoder as places get more: 200, 2,000, 20,000 sensors.

python benchmarks/scale.py [--json] [--places 200,2000,20000] [--steps N]

A random geometric graph with eight neighbours a place, made on the spot; four windows of 12 + 12 steps a step, the arm
of `los-loop-native`. Each size is a process of its own, so that its peak memory (interpreter included) is its alone.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import torch
from scipy.spatial import cKDTree

from st2llm.config.model import EncoderSettings
from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import FieldBatch
from st2llm.model.arm import ArmSpec, build_arm
from st2llm.model.objectives.supervised import Regression
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.trainer import fit
from st2llm.types import Edges

HISTORY, HORIZON, BATCH, NEAR = 12, 12, 4, 8
LIMIT = 12.0


def edges(places: int) -> Edges:
    """Each place and its eight nearest, places spread evenly at random."""
    xy = np.random.default_rng(0).random((places, 2))
    away, near = cKDTree(xy).query(xy, NEAR + 1)
    target = np.repeat(np.arange(places), NEAR)
    weight = np.exp(-((away[:, 1:] / away[:, 1:].std()) ** 2)).ravel()
    return Edges(near[:, 1:].ravel().astype(np.int64), target.astype(np.int64), weight)


def windows(places: int) -> FieldBatch:
    steps, make = HISTORY + HORIZON, torch.Generator().manual_seed(0)
    shape = (BATCH, steps, places, 1)
    asked = (torch.arange(steps) >= HISTORY)[None, :, None, None].expand(shape)
    values = torch.randn(shape, generator=make)
    return FieldBatch(
        values=values.masked_fill(asked, 0.0),
        visible=~asked,
        calendar=torch.zeros((BATCH, steps, 3), dtype=torch.int64),
        base=torch.zeros(shape),
        target=values,
        valid=asked.clone(),
        features=torch.zeros(BATCH, 0),
        notes=torch.zeros((BATCH, 1), dtype=torch.int64),
        prompts=("",) * BATCH,
    )


def one(places: int, steps: int) -> dict[str, float]:
    """Median seconds of a step of the training loop, and the most that was resident."""
    settings = EncoderSettings(d_st=64, patch=12, layers=3, graph="gcn", mixer="mlp")
    shape = FieldShape(HISTORY, HORIZON, places, 1, 288)
    arm = build_arm("none", ArmSpec(shape, edges(places), 64, 1.0, 4, settings), seed=0)
    batch, objective = windows(places), Regression(torch.ones((places, 1)))
    ticks: list[float] = []
    budget = Budget(steps + 2, BATCH, 1e-3, evaluations=1)
    fit(
        arm,
        batch,
        batch,
        budget,
        objective=objective,
        seed=0,
        on_step=lambda _: ticks.append(time.perf_counter()),
    )
    seconds = np.diff(ticks[:-1])  # the last tick comes after the evaluation
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"step_s": float(np.median(seconds)), "peak_mb": peak}


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--json", action="store_true", help="print one JSON object")
    reader.add_argument("--places", default="200,2000,20000")
    reader.add_argument("--steps", type=int, default=5, help="training steps that are timed")
    reader.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = reader.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one, asked.steps)))
        return
    sizes = [int(word) for word in asked.places.split(",")]
    found = []
    for size in sizes:
        command = [sys.executable, __file__, "--one", str(size), "--steps", str(asked.steps)]
        found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    step_s, peak_mb = ([row[key] for row in found] for key in ("step_s", "peak_mb"))
    made = {"places": sizes, "step_s": step_s, "peak_mb": peak_mb, "repeats": asked.steps}
    if asked.json:
        print(json.dumps(made))
        return
    for i, size in enumerate(sizes):
        more = f", {step_s[i] / step_s[i - 1]:.1f} and {peak_mb[i] / peak_mb[i - 1]:.1f} times" if i else ""
        print(f"{size:>7,} places: {step_s[i]:.3f} s a step, {peak_mb[i]:,.0f} MB{more}")
    print(
        f"Asked: at most {LIMIT:g} times for each tenfold. Median of {asked.steps} steps of {BATCH} windows."
    )


if __name__ == "__main__":
    main()
