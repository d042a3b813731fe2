"""What each objective teaches an encoder: reconstruction, a frozen probe, and what training and sampling cost.

python benchmarks/objectives.py [--json] [--kinds graph,grid,video] [--steps N] [--part objectives|masks]

Three kinds of data (Los Angeles loop speeds, New York bikes, people who walk and wave). Every run has the same encoder,
windows, steps and seed. The probe is a ridge regression from the frozen encoder's embeddings of the history to the
steps after it; its error is set against that of a probe on the untrained encoder. part masks: masked training on the
sensor graph by policy and ratio.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import Ridge

import st2llm
from st2llm.data.windows import Part
from st2llm.encode.batch import FieldBatch
from st2llm.encode.field import edges_of
from st2llm.model.masks import POLICIES
from st2llm.model.objective import Masked
from st2llm.model.recipe import Recipe
from st2llm.model.windowed import Windowed
from st2llm.predict.checkpointed import frame_of, module_of, shape_of
from st2llm.train.loop import Budget, evaluate, fit
from st2llm.train.pretrain import objective_of

DATA = {
    "graph": ("los-loop#validated", {"forecast": {"history": 12, "horizon": 12}}, 2),
    "grid": ("nyc-bike1", {"forecast": {"history": 24, "horizon": 6}}, 6),
    "video": ("kth-few", {"forecast": {"history": 8, "horizon": 4}}, 4),
}
OBJECTIVES = {
    "regression": {"regression": {}},
    "masked": {"masked": {"policies": list(POLICIES), "ratio": 0.5}},
    "contrastive": {"contrastive": {"views": ["hide", "noise"], "near_hours": 1.0}},
    "diffusion": {"diffusion": {"draws": 10, "steps": 20}},
    "regression + masked": {"regression": {}, "masked": {"weight": 0.5}},
    "masked + contrastive": {"masked": {}, "contrastive": {"weight": 0.1, "near_hours": 1.0}},
}
TRAIN, TEST, SEED = 600, 200, 0


@dataclass(frozen=True)
class Task:
    """A kind's windows, cut down evenly to what fits into minutes."""

    kind: str
    train: list
    validation: list
    test: list
    recipe: Recipe

    @property
    def horizon(self) -> int:
        return int(self.recipe.task["forecast"]["horizon"])


def even(part: Part, count: int) -> list:
    return [part[int(i)] for i in np.unique(np.linspace(0, len(part) - 1, min(count, len(part))).astype(int))]


def task_of(kind: str, steps: int) -> Task:
    name, words, stride = DATA[kind]
    recipe = Recipe.model_validate(
        {
            "id": kind,
            "data": name,
            "task": words,
            "encoder": {"d_st": 64, "patch": 6, "layers": 2, "graph": "gcn", "mixer": "mlp"},
            "objectives": {"regression": {}},
            "budget": {"steps": steps, "batch": 32, "lr": 1e-3},
            "seed": SEED,
        }
    )
    parts = st2llm.split(st2llm.load_data(name), recipe.the_task, stride=stride)
    return Task(kind, even(parts.train, TRAIN), even(parts.validation, TEST), even(parts.test, TEST), recipe)


class Bench:
    """One kind: its stacked windows, and what is measured of a module."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.frame = frame_of(task.recipe, task.train)
        self.shape = shape_of(self.frame, task.train[0])
        stack = self.frame.stack
        self.train, self.validation, self.test = (
            stack(part, reads=False) for part in (task.train, task.validation, task.test)
        )
        self.random = self.probe(self.module())

    def module(self, objectives: dict | None = None) -> Windowed:
        found = module_of(self.recipe(objectives), self.shape, self.task.train[0])
        assert isinstance(found, Windowed)
        return found

    def recipe(self, objectives: dict | None) -> Recipe:
        made = self.task.recipe.model_dump()
        return Recipe.model_validate({**made, "objectives": objectives or {"regression": {}}})

    def run(self, objectives: dict) -> dict[str, float]:
        recipe, module = self.recipe(objectives), self.module(objectives)
        budget = Budget(**recipe.budget.model_dump())
        objective = objective_of(recipe, self.frame, self.shape, self.task.train[0])
        done = fit(module, self.train, self.validation, budget, objective=objective, seed=SEED)
        probe = self.probe(module)
        row = {"train_s": done.seconds, "probe": probe, "probe_gain": 1 - probe / self.random}
        if "masked" in objectives:
            row["hidden"] = self.hidden(module, "random", 0.5)
        if "regression" in objectives:
            row["forecast"] = self.error(module(self.test).detach(), self.test)
        if "diffusion" in objectives:
            began = time.perf_counter()
            drawn = module.sampled(
                self.test, draws=10, steps=20, generator=torch.Generator().manual_seed(SEED)
            )
            row["sample_s"] = (time.perf_counter() - began) / len(self.test)
            row["forecast"] = self.error(drawn.median(dim=0).values, self.test)
        return row

    def hidden(self, module: Windowed, policy: str, ratio: float) -> float:
        """Mean absolute error, in deviations, of hidden entries of test windows."""
        masked = Masked(edges_of(self.task.train[0]), policies=(policy,), ratio=ratio)
        return evaluate(module, self.test, masked, 32, seed=SEED)

    @torch.inference_mode()
    def probe(self, module: Windowed) -> float:
        """Mean absolute error of a ridge regression on frozen embeddings, in deviations."""
        module.eval()
        x, y, known = self._rows(module, self.train)
        some = known.any(axis=1)
        model = Ridge(alpha=1.0).fit(x[some], y[some])  # what is not known of a row is its place's mean, 0
        x, y, known = self._rows(module, self.test)
        return float(np.abs(model.predict(x) - y)[known].mean())

    def _rows(self, module: Windowed, batch: FieldBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        starts = range(0, len(batch), 32)
        parts = [module.embedded(batch.take(range(i, min(i + 32, len(batch))))) for i in starts]
        z = torch.cat(parts)
        steps = self.task.horizon
        y, known = (
            torch.movedim(t[:, -steps:], 1, 2).flatten(2).flatten(0, 1).numpy()
            for t in (batch.target, batch.valid)
        )
        return z.flatten(0, 1).numpy(), y, known

    @staticmethod
    def error(said: torch.Tensor, batch: FieldBatch) -> float:
        return float((said - batch.target).abs()[batch.valid].mean())


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--json", action="store_true", help="print one JSON object a line")
    reader.add_argument("--kinds", default=",".join(DATA))
    reader.add_argument("--steps", type=int, default=400)
    reader.add_argument("--part", choices=["objectives", "masks"], default="objectives")
    asked = reader.parse_args()
    kinds = asked.kinds.split(",") if asked.part == "objectives" else ["graph"]
    for kind in kinds:
        bench = Bench(task_of(kind, asked.steps))
        print(json.dumps({"kind": kind, "what": "untrained", "probe": bench.random}), flush=True)
        if asked.part == "objectives":
            runs = OBJECTIVES
        else:
            runs = {
                f"{policy} {ratio:g}": {"masked": {"policies": [policy], "ratio": ratio}}
                for policy in POLICIES
                for ratio in (0.25, 0.5, 0.75)
            }
        for what, objectives in runs.items():
            print(json.dumps({"kind": kind, "what": what, **_rounded(bench.run(objectives))}), flush=True)
    if not asked.json:
        print(
            f"Seed {SEED}, {asked.steps} steps of 32 windows, at most {TRAIN} windows to train on and {TEST} to test."
        )


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in row.items()}


if __name__ == "__main__":
    sys.exit(main())
