"""The folder of a training run: its recipe, its log, and the checkpoints that a killed run resumes from."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from st2llm import config
from st2llm.align.weights import load_tensors
from st2llm.config.training import Recipe
from st2llm.data.windows.fitted_on import NOT_FITTED, FittedOn
from st2llm.errors import ConfigError
from st2llm.files import remove_temporary, write_text
from st2llm.model import checkpoint
from st2llm.train.loop.budget import Budget, LearningCurve, curve_of
from st2llm.train.loop.state import TrainingState

RUN_FILE = "run.json"
_DATA_KEY = "data_sha256"
"""The key of run.json beside those of the recipe."""


def is_main() -> bool:
    """Whether this is the first or only process of `accelerate launch`: the one that writes files and prints."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class CheckpointContents:
    """What each checkpoint of a run holds beside the weights and the training state.

    config, scaler: contents of config.yaml and scaler.json. card: the model card, given the content of state.json.
    base_model: the language model that the run builds on, and how it is adapted. fitted_on: the data of the run and of
    what it was initialised from. data_sha256: a hash of what the run is trained on, which must not change before it is
    resumed; '' where the recipe determines it.
    """

    config: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    card: Callable[[Mapping[str, Any]], str] = lambda state: ""
    base_model: checkpoint.BaseModel | None = None
    fitted_on: FittedOn = NOT_FITTED
    data_sha256: str = ""


class RunFolder:
    """Saves a run in a folder: the Checkpointer of `st2llm pretrain`, `align` and `finetune`."""

    def __init__(self, root: Path, recipe: Recipe, *, seed: int) -> None:
        self.root, self.recipe, self.seed = root, recipe, seed
        self.main = is_main()
        self.contents = CheckpointContents()
        self.saved_best: float | None = None

    def open(self, *, resume: bool) -> None:
        """Raises ConfigError where the folder holds a run and `resume` is false, or a run of another recipe."""
        path = self.root / RUN_FILE
        if not self.main or not path.exists():
            return
        remove_temporary(self.root)
        now = self.recipe.model_dump(mode="json")
        if not resume:
            raise ConfigError(
                f"{self.root} holds a run already. Add --resume to continue it, or choose another --out."
            )
        content = _read_run(path)
        content.pop(_DATA_KEY, None)
        before = config.upgrade(content, into=type(self.recipe))
        keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if keys := [key for key in keys if key not in self.recipe.without_effect]:
            raise ConfigError(
                f"{self.root} holds a run of another recipe: {', '.join(keys)} differ. Resume with the recipe it was "
                f"begun with, or choose another --out."
            )

    def describe(self, contents: CheckpointContents) -> None:
        """Sets what goes into each checkpoint and writes run.json, which marks the folder as a run.

        Raises ConfigError where the folder holds a run on other data.
        """
        self.contents = contents
        self._check_data(contents.data_sha256)
        if not self.main:
            return
        content = self.recipe.model_dump(mode="json")
        if contents.data_sha256:
            content[_DATA_KEY] = contents.data_sha256
        text = json.dumps(content, indent=2) + "\n"
        write_text(self.root / RUN_FILE, text)

    def _check_data(self, now: str) -> None:
        path = self.root / RUN_FILE
        before = _read_run(path).get(_DATA_KEY) if path.exists() else None
        if before is not None and before != now:
            raise ConfigError(
                f"{self.root} holds a run on other data: the values, times or places of its samples have changed since "
                f"it began ({before[:12]}, now {now[:12]}). Resume it with the data it was begun with, or choose "
                f"another --out."
            )

    def save(self, state: TrainingState, terms: Mapping[str, float]) -> None:
        step, train, validation = state.rows[-1]
        line = {"step": step, "train": train, "validation": validation, "seconds": state.seconds, **terms}
        log = self.root / "log.jsonl"
        written = log.read_text(encoding="utf-8") if log.exists() else ""
        earlier = [row for row in written.splitlines() if _step_of(row, log) < step]
        text = "\n".join([*earlier, json.dumps(line)]) + "\n"
        if state.best != self.saved_best:
            self._write("best", state.weights, self._state_json(state), None)
            self.saved_best = state.best
        self._write("last", state.current, self._state_json(state), state.optimiser)
        write_text(log, text)

    def load(self) -> TrainingState | None:
        if not (self.root / "last").exists() and not (self.root / ".last.old").exists():
            return None
        last, best = (
            checkpoint.read_checkpoint(self.root / "last"),
            checkpoint.read_checkpoint(self.root / "best"),
        )
        state = last.state
        self.saved_best = float(state["best"])
        return TrainingState(
            step=int(state["step"]),
            rows=_rows(state),
            best=float(state["best"]),
            weights=checkpoint.load_weights(best.folder),
            current=checkpoint.load_weights(last.folder),
            optimiser=load_tensors(last.folder / checkpoint.OPTIMISER),
            seconds=float(state["seconds"]),
        )

    def _state_json(self, state: TrainingState) -> dict[str, Any]:
        rows = [[s, None if np.isnan(t) else t, v] for s, t, v in state.rows]
        rng = {"seed": self.seed, "of": "each step's choices depend on seed and step alone"}
        return {
            "step": state.step,
            "rng": rng,
            "best": state.best,
            "seconds": state.seconds,
            "rows": rows,
            "fitted_on": self.contents.fitted_on.to_json(),
        }

    def _write(
        self, name: str, weights: Mapping[str, torch.Tensor], state: dict[str, Any], optimiser: Any
    ) -> None:
        checkpoint.save_checkpoint(
            self.root / name,
            weights,
            config=self.contents.config,
            state=state,
            scaler=self.contents.scaler,
            card=self.contents.card(state),
            optimiser=optimiser,
            base_model=self.contents.base_model,
        )


def checkpoint_curve(loaded: checkpoint.Checkpoint, budget: Budget) -> LearningCurve | None:
    """The learning curve of the run of a checkpoint, from the last state beside it; None where there is none.

    The state of `best/` ends with the best step.
    """
    last = loaded.folder.parent / "last"
    rows = _rows(checkpoint.read_checkpoint(last).state) if (last / "config.yaml").is_file() else []
    if len(rows) < 2:
        return None
    losses = [loss for _, _, loss in rows]
    waited = len(losses) - 1 - losses.index(min(losses))
    return curve_of(rows, budget, out_of_patience=budget.patience is not None and waited >= budget.patience)


def _rows(state: Mapping[str, Any]) -> list[tuple[int, float, float]]:
    """Step, training and validation loss of each evaluation in state.json."""
    return [(int(s), np.nan if t is None else float(t), float(v)) for s, t, v in state["rows"]]


def _read_run(path: Path) -> dict[str, Any]:
    """The recipe in run.json. Raises ConfigError where the file is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise _damaged(path, "it should hold the settings of the run")
    return content


def _step_of(row: str, path: Path) -> int:
    """The step of a line of log.jsonl. Raises ConfigError where it is damaged."""
    try:
        return int(json.loads(row)["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, reason: object) -> ConfigError:
    return ConfigError(
        f"{path} is damaged ({reason}), so the run cannot be resumed. Restore the file, or train into another --out."
    )
