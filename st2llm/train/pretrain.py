"""`st2llm pretrain`: an encoder and its heads by any objectives, saved at each evaluation and resumed exactly."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from st2llm import config, recipes
from st2llm.data import load_data
from st2llm.data.windows import Part, split
from st2llm.encode.field import FieldShape, edges_of
from st2llm.encode.sequence import SequenceShape
from st2llm.errors import ConfigError
from st2llm.files import write_whole
from st2llm.model import checkpoint
from st2llm.model.diffusion import Schedule
from st2llm.model.objective import (
    Combined,
    Contrastive,
    Diffusion,
    Likelihood,
    Masked,
    Objective,
    Regression,
)
from st2llm.model.recipe import Recipe
from st2llm.predict.checkpointed import described, frame_of, module_of, shape_of
from st2llm.predict.frame import Frame
from st2llm.train.loop import Budget, Fit, Progress, fit
from st2llm.types import Sample

RUN = "run.json"


def load_recipe(path: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe file with changes by dotted key, such as {'budget.steps': 10}. Raises ConfigError."""
    found = recipes.locate(recipes.spelled(path, "alignment/configs"))
    content = config.read_yaml(found)
    if isinstance(content, dict):
        for key, value in (changes or {}).items():
            content = _changed(content, key.split("."), value)
    return config.parse(content, into=Recipe, where=str(found))


def read_changes(words: list[str]) -> dict[str, Any]:
    """`budget.steps=10 objectives.masked.ratio=0.75` as a mapping; values are YAML. Raises ConfigError."""
    found = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise ConfigError(f"--set takes key=value, such as budget.steps=100, but {word!r} came.")
        found[key] = yaml.safe_load(value)
    return found


def pretrain(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    tick: Callable[[int], None] = lambda step: None,
) -> Fit:
    """Trains by a recipe into `out`: `best/` and `last/` (checkpoints), log.jsonl (a line an evaluation), run.json.

    resume: goes on from `last/` to the very end that a run without a break would have had. Raises ConfigError where
    `out` holds a run and resume is not asked for, or a run of another recipe; TrainingError for a loss that is no
    number (the last good state is kept).
    """
    folder = RunFolder(out)
    folder.open(recipe, resume=resume)
    task = recipe.the_task
    data = load_data(recipe.data)
    stride = recipe.split.stride or int(getattr(task, "horizon", 1))
    parts = split(data, task, stride=stride, context=recipe.split.context)
    train = [parts.train[i] for i in range(len(parts.train))]
    validation = _even(parts.validation, recipe.validation)
    for name, samples in (("training", train), ("validation", validation)):
        if not samples:
            raise ConfigError(
                f"{recipe.data} has no {name} samples for {task.name}: its split gives that part nothing. Name a split "
                f"that has three parts (data: NAME#SPLIT), or ask for shorter windows."
            )
    frame = frame_of(recipe, train)
    shape = shape_of(frame, train[0])
    module = module_of(recipe, shape, train[0])
    if recipe.start:
        start = checkpoint.read(Path(recipe.start))
        checkpoint.load_into(
            module, checkpoint.weights_of(start.folder), where=str(start.folder), only="encoder."
        )
    folder.describe(described(recipe, frame, shape), frame.scaler.to_json(), recipe, module)
    budget = Budget(**recipe.budget.model_dump())
    return fit(
        module,
        frame.stack(train, reads=False),
        frame.stack(validation, reads=False),
        budget,
        objective=objective_of(recipe, frame, shape, train[0]),
        seed=recipe.seed,
        tick=tick,
        keeper=folder,
    )


def objective_of(recipe: Recipe, frame: Any, shape: FieldShape | SequenceShape, sample: Sample) -> Objective:
    """What the recipe minimises. Raises ConfigError for an objective that the kind of data does not have."""
    given = recipe.objectives
    if isinstance(shape, SequenceShape):
        if set(given.given) != {"likelihood"}:
            raise ConfigError(
                f"{recipe.id}: sequences are trained by `objectives: {{likelihood: {{}}}}`, but "
                f"{', '.join(given.given)} came."
            )
        return Likelihood()
    if given.likelihood or not isinstance(frame, Frame):
        raise ConfigError(
            f"{recipe.id}: likelihood is for sequences. Fields have regression, masked, contrastive and diffusion."
        )
    edges, terms = edges_of(sample), dict[str, tuple[Objective, float]]()
    if given.regression:
        scale = torch.from_numpy(frame.scaler.std).float()
        terms["regression"] = (Regression(scale), given.regression.weight)
    if m := given.masked:
        terms["masked"] = (Masked(edges, policies=m.policies, ratio=m.ratio), m.weight)
    if c := given.contrastive:
        settings = c.model_dump(exclude={"weight"})
        terms["contrastive"] = (Contrastive(edges, steps_per_day=shape.steps_per_day, **settings), c.weight)
    if d := given.diffusion:
        terms["diffusion"] = (Diffusion(Schedule(d.schedule, d.says)), d.weight)
    return Combined(terms)


def is_main() -> bool:
    """Whether this is the first, or only, process of `accelerate launch`: the one that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


class RunFolder:
    """Keeps a run in a folder: a Keeper for the loop."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.main = is_main()
        self.made: dict[str, Any] = {}
        self.scaler: dict[str, Any] = {}
        self.saved_best: float | None = None

    def open(self, recipe: Recipe, *, resume: bool) -> None:
        """Raises ConfigError where the folder holds a run that this one must not touch."""
        path = self.root / RUN
        if not self.main:
            return
        now = recipe.model_dump(mode="json")
        if not path.exists():
            return
        if not resume:
            raise ConfigError(
                f"{self.root} holds a run already. Add --resume to go on, or choose another --out."
            )
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != now:
            keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
            raise ConfigError(
                f"{self.root} holds a run of another recipe: {', '.join(keys)} differ. Resume with the recipe it was "
                f"begun with, or choose another --out."
            )

    def describe(
        self, made: dict[str, Any], scaler: dict[str, Any], recipe: Recipe, module: nn.Module
    ) -> None:
        """What goes into each checkpoint beside the weights; from here on `root` holds a run."""
        self.made, self.scaler, self.recipe = made, scaler, recipe
        self.params = sum(p.numel() for p in module.parameters())
        if not self.main:
            return
        text = json.dumps(recipe.model_dump(mode="json"), indent=2) + "\n"
        write_whole(self.root / RUN, lambda file: file.write_text(text, encoding="utf-8"))

    def save(self, progress: Progress, terms: Mapping[str, float]) -> None:
        step, train, validation = progress.rows[-1]
        line = {"step": step, "train": train, "validation": validation, "seconds": progress.seconds, **terms}
        log = self.root / "log.jsonl"
        before = log.read_text(encoding="utf-8") if log.exists() else ""
        kept = [row for row in before.splitlines() if json.loads(row)["step"] < step]
        text = "\n".join([*kept, json.dumps(line)]) + "\n"
        if progress.best != self.saved_best:
            self._write("best", progress.weights, self._state(progress), None)
            self.saved_best = progress.best
        self._write("last", progress.current, self._state(progress), progress.optimiser)
        write_whole(log, lambda file: file.write_text(text, encoding="utf-8"))

    def load(self) -> Progress | None:
        if not (self.root / "last").exists() and not (self.root / ".last.old").exists():
            return None
        last, best = checkpoint.read(self.root / "last"), checkpoint.read(self.root / "best")
        state = last.state
        rows = [(int(s), np.nan if t is None else float(t), float(v)) for s, t, v in state["rows"]]
        self.saved_best = float(state["best"])
        return Progress(
            step=int(state["step"]),
            rows=rows,
            best=float(state["best"]),
            weights=checkpoint.weights_of(best.folder),
            current=checkpoint.weights_of(last.folder),
            optimiser=checkpoint.tensors(last.folder / checkpoint.OPTIMISER),
            seconds=float(state["seconds"]),
        )

    def _state(self, progress: Progress) -> dict[str, Any]:
        rows = [[s, None if np.isnan(t) else t, v] for s, t, v in progress.rows]
        rng = {"seed": self.recipe.seed, "of": "each step's choices depend on seed and step alone"}
        return {
            "step": progress.step,
            "rng": rng,
            "best": progress.best,
            "seconds": progress.seconds,
            "rows": rows,
        }

    def _write(
        self, name: str, weights: Mapping[str, torch.Tensor], state: dict[str, Any], optimiser: Any
    ) -> None:
        checkpoint.save(
            self.root / name,
            weights,
            config=self.made,
            state=state,
            scaler=self.scaler,
            card=self._card(state),
            optimiser=optimiser,
        )

    def _card(self, state: Mapping[str, Any]) -> str:
        r, rows = self.recipe, state["rows"]
        objectives = ", ".join(r.objectives.given)
        return (
            f"---\nlibrary_name: st2llm\ndatasets: [{r.data}]\n---\n# {r.title or r.id}\n\n"
            f"A spatio-temporal encoder with its heads, {self.params:,} parameters, trained by `st2llm pretrain` on "
            f"`{r.data}`.\n\n| | |\n|---|---|\n| task | `{r.task}` |\n| objectives | {objectives} |\n"
            f"| steps | {state['step']} of {r.budget.steps}, batch {r.budget.batch}, learning rate {r.budget.lr:g} |\n"
            f"| seed | {r.seed} |\n| best validation value | {state['best']:.6g} (untrained {rows[0][2]:.6g}) |\n\n"
            f"Answers: `st2llm predict FOLDER --data {r.data} --out answers.parquet`. Trained on one data set; nothing "
            f"is known of how it does on others.\n"
        )


def _even(part: Part, count: int | None) -> list[Sample]:
    whole = len(part)
    at = (
        range(whole)
        if count is None or count >= whole
        else np.linspace(0, whole - 1, count).round().astype(int)
    )
    return [part[int(i)] for i in at]


def _changed(content: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """The mapping with one value set, below mappings that are made where they are missing."""
    if len(path) == 1:
        return {**content, path[0]: value}
    inner = content.get(path[0])
    return {**content, path[0]: _changed(inner if isinstance(inner, dict) else {}, path[1:], value)}
