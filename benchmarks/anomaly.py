"""Faults planted into Auckland's pedestrian counts: how well the residuals of rules and of a native arm find them.

python benchmarks/anomaly.py [--json] [--steps N] [--faults N]

Each of the next 24 hours is forecast from the 168 before, which hold faults as well; a reading is the more suspicious
the further it lies from its forecast, in units of the place's median training residual. The threshold is the 99.5 %
quantile of the training residuals. auprc by reading (a guess has the share of faulty readings), f1 by event, no
point adjustment. Seed 0.
"""

import argparse
import json

import numpy as np
import torch

import st2llm
from st2llm import tasks
from st2llm.align.settings import Projection
from st2llm.evaluate.faults import detect, plant_faults, residuals, suspicion
from st2llm.evaluate.runcard import commit_words
from st2llm.model.arm import build
from st2llm.model.objective import Regression
from st2llm.model.recipe import EncoderSettings
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.framing import blueprint_for, field_shape, frame_for
from st2llm.predict.primitive import PrimitivePredictor
from st2llm.train.loop import Budget, fit

RULES = ("last-value", "yesterday", "hour-of-week", "ridge", "ridge-deviation")
SHARE = 0.995
ENCODER = EncoderSettings(d_st=64, patch=24, layers=3, graph="gcn", mixer="mlp")


def native(parts, task, steps: int) -> PrimitivePredictor:
    train, validation = (list(part) for part in (parts.train, parts.validation))
    frame = frame_for(train, task, skip="ridge", encoder=ENCODER, up=Projection(), reads=False)
    shape = field_shape(train[0], task, frame)
    arm = build("none", blueprint_for(shape, train[0], ENCODER, llm=None, up=Projection()), seed=0)
    fit(
        arm, frame.stack(train, reads=False), frame.stack(validation, reads=False),
        Budget(steps=steps, batch=32, lr=1e-3),
        objective=Regression(torch.from_numpy(frame.scaler.std).float()), seed=0,
    )  # fmt: skip
    return PrimitivePredictor("none", arm, frame, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--faults", type=int, default=200)
    wanted = parser.parse_args()
    data, faults = plant_faults(st2llm.load_data("auckland-pedestrians"), wanted.faults)
    task = tasks.forecast(history=168, horizon=24)
    parts = st2llm.split(data, task, stride=24)
    train, test = list(parts.train), list(parts.test)
    made = {name: lambda name=name: fit_baseline(name, train) for name in RULES}
    made["native, no backbone"] = lambda: native(parts, task, wanted.steps)
    rows = {}
    for name, make in made.items():
        predictor = make()
        usual = residuals(predictor, train, data)
        limit = float(np.nanquantile(suspicion(usual, usual), SHARE))
        rows[name] = detect(suspicion(residuals(predictor, test, data), usual), limit, faults)
    if wanted.json:
        print(json.dumps({"commit": commit_words(), "rows": {n: vars(r) for n, r in rows.items()}}))
        return
    print(
        f"{len(faults)} faults, {next(iter(rows.values())).base_rate:.2%} of the readings; {commit_words()}"
    )
    for name, row in rows.items():
        kinds = ", ".join(f"{kind} {share:.0%}" for kind, share in row.found.items())
        print(f"{name:22} auprc {row.auprc:.3f}  event f1 {row.f1:.3f} "
              f"(precision {row.precision:.2f}, recall {row.recall:.2f}; {kinds})")  # fmt: skip


if __name__ == "__main__":
    main()
