"""The folder of a training run: its recipe, its log, and the checkpoints that a killed run goes on from."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from st2llm import config
from st2llm.align.weights import tensors
from st2llm.config import Settings
from st2llm.errors import ConfigError
from st2llm.files import write_whole
from st2llm.model import checkpoint
from st2llm.train.loop.trainer import TrainingState

RUN_FILE = "run.json"


def is_main() -> bool:
    """Whether this is the first, or only, process of `accelerate launch`: the one that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


class RunFolder:
    """Keeps a run in a folder: a Keeper for the loop."""

    def __init__(self, root: Path, recipe: Settings, *, seed: int) -> None:
        self.root, self.recipe, self.seed = root, recipe, seed
        self.main = is_main()
        self.made: dict[str, Any] = {}
        self.scaler: dict[str, Any] = {}
        self.card: Callable[[Mapping[str, Any]], str] = lambda state: ""
        self.beneath: checkpoint.Beneath | None = None
        self.saved_best: float | None = None

    def open(self, *, resume: bool) -> None:
        """Raises ConfigError where the folder holds a run that this one must not touch."""
        path = self.root / RUN_FILE
        if not self.main:
            return
        now = self.recipe.model_dump(mode="json")
        if not path.exists():
            return
        if not resume:
            raise ConfigError(
                f"{self.root} holds a run already. Add --resume to go on, or choose another --out."
            )
        before = config.upgrade(json.loads(path.read_text(encoding="utf-8")), into=type(self.recipe))
        if before != now:
            keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
            raise ConfigError(
                f"{self.root} holds a run of another recipe: {', '.join(keys)} differ. Resume with the recipe it was "
                f"begun with, or choose another --out."
            )

    def describe(
        self,
        made: dict[str, Any],
        scaler: dict[str, Any],
        card: Callable[[Mapping[str, Any]], str],
        beneath: checkpoint.Beneath | None = None,
    ) -> None:
        """What goes into each checkpoint beside the weights; from here on `root` holds a run.

        card: the model card, given the state. beneath: the language model that the run stands on.
        """
        self.made, self.scaler, self.card, self.beneath = made, scaler, card, beneath
        if not self.main:
            return
        text = json.dumps(self.recipe.model_dump(mode="json"), indent=2) + "\n"
        write_whole(self.root / RUN_FILE, lambda file: file.write_text(text, encoding="utf-8"))

    def save(self, progress: TrainingState, terms: Mapping[str, float]) -> None:
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

    def load(self) -> TrainingState | None:
        if not (self.root / "last").exists() and not (self.root / ".last.old").exists():
            return None
        last, best = checkpoint.read(self.root / "last"), checkpoint.read(self.root / "best")
        state = last.state
        rows = [(int(s), np.nan if t is None else float(t), float(v)) for s, t, v in state["rows"]]
        self.saved_best = float(state["best"])
        return TrainingState(
            step=int(state["step"]),
            rows=rows,
            best=float(state["best"]),
            weights=checkpoint.weights_of(best.folder),
            current=checkpoint.weights_of(last.folder),
            optimiser=tensors(last.folder / checkpoint.OPTIMISER),
            seconds=float(state["seconds"]),
        )

    def _state(self, progress: TrainingState) -> dict[str, Any]:
        rows = [[s, None if np.isnan(t) else t, v] for s, t, v in progress.rows]
        rng = {"seed": self.seed, "of": "each step's choices depend on seed and step alone"}
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
            card=self.card(state),
            optimiser=optimiser,
            beneath=self.beneath,
        )
