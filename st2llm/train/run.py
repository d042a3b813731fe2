"""Runs training in a folder: refuses or resumes an earlier run, then trains and saves at each evaluation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from st2llm.config.training import (
    InstructionRecipe,
    PretrainRecipe,
    SoftTokenRecipe,
    VideoQARecipe,
    VideoTextRecipe,
)
from st2llm.files import exclusive
from st2llm.train.checkpointing import RunFolder
from st2llm.train.loop.budget import Budget, FitResult, StepCallback
from st2llm.train.loop.trainer import fit
from st2llm.train.setup import Setup
from st2llm.train.tracking import check_trackers, tracked

AnyRecipe = PretrainRecipe | SoftTokenRecipe | InstructionRecipe | VideoQARecipe | VideoTextRecipe


@contextmanager
def open_run(recipe: AnyRecipe, out: Path, *, resume: bool) -> Iterator[RunFolder]:
    """The folder of a run, checked before anything is loaded; no other process writes into it until the end.

    Raises ConfigError where `out` holds a run and `resume` is false, holds a run of another recipe, or is being written
    by another process, and where the recipe reports to a tracker that is not installed.
    """
    check_trackers(recipe)
    folder = RunFolder(out, recipe, seed=recipe.seed)
    with exclusive(out) if folder.main else nullcontext():
        folder.open(resume=resume)
        yield folder


def run(
    recipe: AnyRecipe,
    folder: RunFolder,
    setup: Setup,
    *,
    on_step: StepCallback,
    before_training: Callable[[], None] | None = None,
) -> FitResult:
    """Trains into the folder: `best/` and `last/` (checkpoints), log.jsonl (a line an evaluation), run.json.

    before_training: called when the folder is marked as a run and before the first step, also of a resumed run.
    Raises TrainingError for a loss that is not finite; the last good state is kept.
    """
    folder.describe(setup.contents)
    if before_training is not None:
        before_training()
    with tracked(recipe, folder.root, folder) if folder.main else nullcontext(folder) as checkpointer:
        return fit(
            setup.module,
            setup.train,
            setup.validation,
            Budget(**recipe.budget.model_dump()),
            objective=setup.objective,
            seed=recipe.seed,
            on_step=on_step,
            checkpointer=checkpointer,
        )
