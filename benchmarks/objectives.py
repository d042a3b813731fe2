"""What each objective teaches an encoder: reconstruction, a frozen probe, and what training and sampling cost.

python benchmarks/objectives.py [--json] [--kinds graph,grid,video,trajectory] [--steps N] [--part objectives|masks]

Three kinds of fields (Los Angeles loop speeds, New York bikes, people who walk and wave) and the paths of two people in
Beijing. Every run has the same encoder, windows, steps and seed. The probe is a ridge regression from the frozen
encoder's embeddings of the history to the steps after it; its error is set against that of a probe on the untrained
encoder. part masks: masked training by policy and ratio.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import nn

import st2llm
from st2llm.config.training import PretrainRecipe
from st2llm.encode.batch import Batch
from st2llm.model.objectives.masked import TRAJECTORY_POLICIES
from st2llm.model.objectives.masks import POLICIES
from st2llm.model.pretraining import Denoiser
from st2llm.predict.build import build_pretraining_module, fit_pretraining_preprocessor
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.trainer import evaluate, fit
from st2llm.train.objectives import pretraining_objective
from st2llm.types import SampleSequence, TrainingWindows

DATA = {
    "graph": ("los-loop#validated", {"forecast": {"history": 12, "horizon": 12}}, 2),
    "grid": ("nyc-bike1", {"forecast": {"history": 24, "horizon": 6}}, 6),
    "video": ("kth-few", {"forecast": {"history": 8, "horizon": 4}}, 4),
    "trajectory": ("geolife-sample", {"forecast": {"history": 15, "horizon": 5}}, 5),
}
UNIST = {"policies": ["random", "tube", "block", "future"], "ratio": 0.5}
"""The masks of UniST (Yuan et al. 2024)."""
FEW = {"policies": ["random", "future"], "ratio": 0.3}
"""Single entries, and the last steps: what is missing where readings fail, and what a forecast asks for."""
OBJECTIVES = {
    "regression": {"regression": {}},
    "masked": {"masked": FEW},
    "masked, UniST": {"masked": UNIST},
    "contrastive": {"contrastive": {"views": ["hide", "noise"], "near_hours": 1.0}},
    "diffusion": {"diffusion": {"draws": 10, "steps": 20}},
    "regression + masked": {"regression": {}, "masked": {"weight": 0.5}},
    "masked + contrastive": {"masked": {}, "contrastive": {"weight": 0.1, "near_hours": 1.0}},
}
ON_PATHS = {
    "regression": {"likelihood": {}},
    "masked": {"masked": FEW},
    "contrastive": OBJECTIVES["contrastive"],
    "diffusion": OBJECTIVES["diffusion"],
    "regression + masked": {"likelihood": {}, "masked": {"weight": 0.5, **FEW}},
    "masked + contrastive": {"masked": FEW, "contrastive": {"weight": 0.1, "near_hours": 1.0}},
}
RATIOS = (0.25, 0.5, 0.75)
TRAIN, TEST, SEED = 600, 200, 0


@dataclass(frozen=True)
class Task:
    """A kind's windows, cut down evenly to what fits into minutes."""

    kind: str
    train: list
    validation: list
    test: list
    recipe: PretrainRecipe

    @property
    def horizon(self) -> int:
        return int(self.recipe.task["forecast"]["horizon"])

    @property
    def objectives(self) -> dict[str, dict]:
        """What there is to compare."""
        return ON_PATHS if self.kind == "trajectory" else OBJECTIVES

    @property
    def policies(self) -> tuple[str, ...]:
        """How entries of such windows can be hidden."""
        return TRAJECTORY_POLICIES if self.kind == "trajectory" else POLICIES


def even(part: SampleSequence, count: int) -> list:
    return [part[int(i)] for i in np.unique(np.linspace(0, len(part) - 1, min(count, len(part))).astype(int))]


def task_of(kind: str, steps: int) -> Task:
    name, words, stride = DATA[kind]
    paths = kind == "trajectory"
    recipe = PretrainRecipe.model_validate(
        {
            "id": kind,
            "data": name,
            "task": words,
            "encoder": {"d_st": 64, "layers": 2}
            | ({} if paths else {"patch": 6, "graph": "gcn", "mixer": "mlp"}),
            "objectives": {"masked": {}},
            "budget": {"steps": steps, "batch": 32, "lr": 1e-3},
            "seed": SEED,
        }
    )
    parts = st2llm.split(st2llm.load_data(name), recipe.parsed_task, stride=stride)
    return Task(kind, even(parts.train, TRAIN), even(parts.validation, TEST), even(parts.test, TEST), recipe)


class Bench:
    """One kind: its stacked windows, and what is measured of a module."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.preprocessor = fit_pretraining_preprocessor(task.recipe, TrainingWindows(task.train))
        self.shape = self.preprocessor.window_shape(task.train[0])
        stack = self.preprocessor.collate
        self.train, self.validation, self.test = (
            stack(part, with_instructions=False) for part in (task.train, task.validation, task.test)
        )
        self.random = self.probe(self.module(self.recipe({"masked": {}})))

    def module(self, recipe: PretrainRecipe) -> nn.Module:
        return build_pretraining_module(recipe, self.shape, self.task.train[0])

    def recipe(self, objectives: dict) -> PretrainRecipe:
        return PretrainRecipe.model_validate({**self.task.recipe.model_dump(), "objectives": objectives})

    def run(self, objectives: dict) -> dict[str, float]:
        recipe = self.recipe(objectives)
        module = self.module(recipe)
        budget = Budget(**recipe.budget.model_dump())
        objective = pretraining_objective(recipe, self.preprocessor, self.shape, self.task.train[0])
        done = fit(module, self.train, self.validation, budget, objective=objective, seed=SEED)
        probe = self.probe(module)
        row = {"train_s": done.seconds, "probe": probe, "probe_gain": 1 - probe / self.random}
        if "masked" in objectives:
            row["hidden"] = self.hidden(module)
        if "regression" in objectives or "likelihood" in objectives:
            row["forecast"] = self.error(module(self.test).detach())
        if isinstance(module, Denoiser) and "diffusion" in objectives:
            began = time.perf_counter()
            drawn = module.sample(
                self.test, draws=10, steps=20, generator=torch.Generator().manual_seed(SEED)
            )
            row["sample_s"] = (time.perf_counter() - began) / len(self.test)
            row["forecast"] = self.error(drawn.median(dim=0).values)
        return row

    def hidden(self, module: nn.Module) -> float:
        """Mean error of a random half of the entries of test windows."""
        masked = pretraining_objective(
            self.recipe({"masked": {"ratio": 0.5}}), self.preprocessor, self.shape, self.task.train[0]
        )
        return evaluate(module, self.test, masked, 32, seed=SEED)

    def error(self, said: torch.Tensor) -> float:
        """Mean absolute error of the asked entries of test windows, in deviations of each place."""
        return float((said - self.test.target).abs()[self.test.valid].mean())

    @torch.inference_mode()
    def probe(self, module: nn.Module) -> float:
        """Mean absolute error of a ridge regression on frozen embeddings, in deviations."""
        module.eval()
        x, y, known = self._rows(module, self.train)
        some = known.any(axis=1)
        model = Ridge(alpha=1.0).fit(x[some], y[some])  # what is not known of a row is its place's mean, 0
        x, y, known = self._rows(module, self.test)
        return float(np.abs(model.predict(x) - y)[known].mean())

    def _rows(self, module: nn.Module, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Embeddings, what is asked of each, and how much of that is known."""
        steps = self.task.horizon
        y, known = (
            torch.movedim(t[:, -steps:], 1, 2).flatten(2).flatten(0, 1).numpy()
            for t in (batch.target, batch.valid)
        )
        return in_parts(module.embed, batch).flatten(0, 1).numpy(), y, known


class PathBench(Bench):
    """Paths: a row of the probe is a point, of which is asked how many mean steps it is off a straight course."""

    def error(self, said: torch.Tensor) -> float:
        off = said[..., :2] - self.test.target[..., :2]
        away = torch.linalg.vector_norm(off, dim=-1) / self.test.mean_step_m[:, None]
        return float(away[self.test.valid[..., 0]].mean())

    def _rows(self, module: nn.Module, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        asked = batch.valid[..., 0]
        off = (batch.target - batch.base)[..., :2] / batch.size[:, None, None]
        y = off[asked].numpy()
        return in_parts(module.encoder, batch)[:, :-1][asked].numpy(), y, np.ones(y.shape, dtype=bool)


def in_parts(said: Callable[[Any], torch.Tensor], batch: Batch) -> torch.Tensor:
    starts = range(0, len(batch), 32)
    return torch.cat([said(batch.take(range(i, min(i + 32, len(batch))))) for i in starts])


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--json", action="store_true", help="print one JSON object a line")
    reader.add_argument("--kinds", default=",".join(DATA))
    reader.add_argument("--steps", type=int, default=400)
    reader.add_argument("--part", choices=["objectives", "masks"], default="objectives")
    asked = reader.parse_args()
    for kind in asked.kinds.split(","):
        task = task_of(kind, asked.steps)
        bench = (PathBench if kind == "trajectory" else Bench)(task)
        print(json.dumps({"kind": kind, "what": "untrained", "probe": bench.random}), flush=True)
        runs = task.objectives if asked.part == "objectives" else masks(task.policies)
        for what, objectives in runs.items():
            print(json.dumps({"kind": kind, "what": what, **_rounded(bench.run(objectives))}), flush=True)
    if not asked.json:
        print(
            f"Seed {SEED}, {asked.steps} steps of 32 windows, at most {TRAIN} windows to train on and {TEST} to test."
        )


def masks(policies: Sequence[str]) -> dict[str, dict]:
    """Masked training by each policy and ratio."""
    return {
        f"{policy} {ratio:g}": {"masked": {"policies": [policy], "ratio": ratio}}
        for policy in policies
        for ratio in RATIOS
    }


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in row.items()}


if __name__ == "__main__":
    sys.exit(main())
