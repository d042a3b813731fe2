"""One set of weights on places it has never seen: encoders that mix through regions, carried from data to data.

python benchmarks/transfer.py [--json] [--steps N] [--seeds 0,1,2]

A grid (bicycles in New York) and two sensor graphs (pedestrians in Auckland, PM2.5 in Beijing): a day seen, six hours
asked for. An arm is trained on each and asked about all three; of the data it comes to, only each place's mean and
deviation are taken from their training part. Beside it a ridge regression that is carried over likewise. Mean absolute
error in deviations of each place, on the test windows.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import nn

import st2llm
from st2llm import tasks
from st2llm.config.model import EncoderSettings, Projection
from st2llm.data.windows.splits import evenly_spaced
from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import FieldBatch
from st2llm.evaluate.run.run_card import commit_text
from st2llm.model.arm import build_arm
from st2llm.model.objectives.supervised import Regression
from st2llm.predict.preprocess.fit import fit_preprocessor, make_blueprint
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.trainer import fit
from st2llm.types import Grid, Sample, TrainingWindows

DATA = {
    "bicycles (grid)": "nyc-bike1",
    "pedestrians (graph)": "auckland-pedestrians",
    "PM2.5 (graph)": "beijing-prsa",
}
HISTORY, HORIZON = 24, 6
TASK = tasks.forecast(history=HISTORY, horizon=HORIZON)
ENCODER = EncoderSettings(
    d_st=64,
    patch=6,
    layers=2,
    graph="regions",
    region_size=16,
    mixer="mlp",
    drop_embeddings=("node", "notes"),
)
WINDOWS = {"train": 600, "validation": 100, "test": 200}


@dataclass(frozen=True)
class Place:
    """A data set as arms are trained on it and asked about it."""

    first: Sample
    shape: FieldShape
    train: FieldBatch
    validation: FieldBatch
    test: FieldBatch

    def arm(self, seed: int) -> nn.Module:
        return build_arm(
            "none", make_blueprint(self.shape, self.first, ENCODER, llm=None, up=Projection()), seed=seed
        )


def place_of(name: str) -> Place:
    data = st2llm.load_data(name)
    if isinstance(data, Grid):  # bicycles that arrive, as the others have one reading a place
        data = replace(data, values=data.values[..., :1], channels=data.channels[:1])
    parts = st2llm.split(data, TASK, stride=HORIZON)
    train, validation, test = (
        [_plain(s) for s in evenly_spaced(getattr(parts, part), count)] for part, count in WINDOWS.items()
    )
    preprocessor = fit_preprocessor(
        TrainingWindows(train), TASK, skip="last", encoder=ENCODER, up=Projection(), with_instructions=False
    )
    stacked = (
        preprocessor.collate(samples, with_instructions=False) for samples in (train, validation, test)
    )
    return Place(train[0], preprocessor.task_shape(train[0], TASK), *stacked)


def _plain(sample: Sample) -> Sample:
    return replace(sample, side=replace(sample.side, notes=()))


def error(said: torch.Tensor, batch: FieldBatch) -> float:
    return float((said - batch.target).abs()[batch.valid].mean())


@torch.inference_mode()
def asked(arm: nn.Module, batch: FieldBatch) -> float:
    arm.eval()
    said = torch.cat([arm(batch.take(range(i, min(i + 32, len(batch))))) for i in range(0, len(batch), 32)])
    return error(said, batch)


def _rows(steps: torch.Tensor) -> torch.Tensor:
    """The steps of each place and channel of each window, a row each."""
    return torch.movedim(steps, 1, -1).flatten(0, 2)


def ridge(train: FieldBatch, test: FieldBatch) -> float:
    """The same linear map for all places, from the day seen to the hours asked for, in deviations."""
    x, y, known = (
        _rows(t) for t in (train.values[:, :HISTORY], train.target[:, HISTORY:], train.valid[:, HISTORY:])
    )
    z, whole = _rows(test.values[:, :HISTORY]), known.all(dim=1)
    model = Ridge(alpha=1e-3 * int(whole.sum())).fit(x[whole].numpy(), y[whole].numpy())
    b, _, n, c = test.values.shape
    answer = torch.from_numpy(model.predict(z.numpy())).float().reshape(b, n, c, HORIZON)
    said = torch.zeros_like(test.target)
    said[:, HISTORY:] = torch.movedim(answer, -1, 1)
    return error(said, test)


def main(arguments: Sequence[str]) -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--json", action="store_true", help="print one JSON object a line")
    reader.add_argument("--steps", type=int, default=600)
    reader.add_argument("--seeds", default="0")
    wanted = reader.parse_args(arguments)
    places = {name: place_of(card) for name, card in DATA.items()}
    said = [{"on": on, "from": "last value", "error": error(p.test.base, p.test)} for on, p in places.items()]
    for source, home in places.items():
        for on, there in places.items():
            said.append({"on": on, "from": f"ridge of {source}", "error": ridge(home.train, there.test)})
        found: dict[str, list[float]] = {on: [] for on in places}
        for seed in map(int, wanted.seeds.split(",")):
            arm = home.arm(seed)
            objective = Regression(torch.ones(home.train.values.shape[2:]))
            budget = Budget(steps=wanted.steps, batch=32, lr=1e-3)
            fit(arm, home.train, home.validation, budget, objective=objective, seed=seed)
            for on, there in places.items():
                moved = there.arm(seed)
                moved.load_state_dict(arm.state_dict())
                found[on].append(asked(moved, there.test))
        said += [
            {"on": on, "from": f"arm of {source}", "error": float(np.mean(errors)), "seeds": errors}
            for on, errors in found.items()
        ]
    for row in sorted(said, key=lambda row: (row["on"], row["error"])):
        print(
            json.dumps({**row, "commit": commit_text()})
            if wanted.json
            else f"{row['on']:22} {row['from']:32} {row['error']:.4f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
