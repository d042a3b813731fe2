"""`--dry-run` of pretrain, align and finetune, and the checks of what is needed only after training."""

from pathlib import Path

from st2llm.config.training import (
    InstructionRecipe,
    PretrainRecipe,
    SoftTokenRecipe,
    VideoQARecipe,
    VideoQuestionRecipe,
)
from st2llm.data import fetch_dataset, load_data
from st2llm.errors import ConfigError
from st2llm.evaluate.planning.estimate import BASE_MIB, training_mib
from st2llm.evaluate.report.formats import format_duration
from st2llm.evaluate.run.plan import step_seconds
from st2llm.llm.model_files import resolve, weight_mib
from st2llm.serialize.template.template import load_prompt
from st2llm.train.checkpointing import RunFolder
from st2llm.train.finetune import InstructionSet
from st2llm.train.run import AnyRecipe
from st2llm.train.setup import load_samples
from st2llm.types import first_object

_FULL_BATCH = 32


def check_recipe(recipe: AnyRecipe) -> None:
    """Checks what a recipe names and needs late: templates, language model, the data and rows of the exam.

    Raises ConfigError, DataError or ArtefactError where something is missing.
    """
    if (llm := getattr(recipe, "llm", None)) is not None:
        resolve(llm.name)
    if isinstance(recipe, SoftTokenRecipe):
        (task,) = recipe.task
        data = load_data(recipe.data)
        kind = first_object(data).kind
        load_prompt(recipe.instruction or f"{kind}/{task}.soft")
    if isinstance(recipe, VideoQuestionRecipe):
        if isinstance(recipe, VideoQARecipe):
            load_prompt(recipe.template)
        for name in recipe.test:
            fetch_dataset(name)
    if isinstance(recipe, InstructionRecipe):
        _check_instructions(recipe)


def plan_training(recipe: AnyRecipe, out: Path, *, resume: bool) -> list[list[str]]:
    """Checks a training run as `check_recipe` does, with its folder and samples, and returns its plan and cost as rows.

    Minutes and memory are estimates for two cores, from stated speeds. Nothing is trained or written. Raises
    ConfigError where the folder holds a run and `resume` is off, and as `check_recipe`.
    """
    check_recipe(recipe)
    RunFolder(out, recipe, seed=recipe.seed).open(resume=resume)
    budget = recipe.budget
    twins = 2 if getattr(recipe, "control", False) else 1
    seconds = twins * budget.steps * _seconds_a_step(recipe) * budget.batch / _FULL_BATCH
    return [
        ["run", f"{recipe.id} into {out}"],
        *_samples(recipe),
        [
            "steps",
            f"{budget.steps:,}, batch {budget.batch}" + (", and the control as many" if twins > 1 else ""),
        ],
        ["samples seen", f"{twins * budget.steps * budget.batch:,}"],
        *_tokens(recipe),
        ["time", f"about {format_duration(float(round(seconds)))} (estimate for two cores)"],
        ["memory", f"about {_memory(recipe):,} MiB (estimate)"],
    ]


def _check_instructions(recipe: InstructionRecipe) -> None:
    """Raises where a template does not exist, or an existing set lacks the rows that the exam asks."""
    wanted = recipe.instructions
    if wanted.path is None:
        data = load_data(str(wanted.data))
        kind = first_object(data).kind
        for template in wanted.templates:
            load_prompt(f"{kind}/{template}")
    elif wanted.test and not InstructionSet(wanted.path).read("test", limit=1):
        raise ConfigError(
            f"{recipe.id}: the exam takes {wanted.test} rows of the test split, but {wanted.path} has no test split. "
            f"Add one, or set instructions.test: 0."
        )


def _samples(recipe: AnyRecipe) -> list[list[str]]:
    if isinstance(recipe, PretrainRecipe | SoftTokenRecipe):
        samples = load_samples(recipe, at_least=1 if isinstance(recipe, PretrainRecipe) else 2)
        return [["samples", f"{len(samples.train):,} to train on, {len(samples.validation):,} that choose"]]
    if isinstance(recipe, InstructionRecipe):
        wanted = recipe.instructions
        if wanted.path is not None:
            return [["samples", f"rows of {wanted.path}"]]
        counts = f"{wanted.count:,} to train on, {wanted.validation} that choose, {wanted.test} of the exam"
        return [["samples", f"{counts}, for each of {len(wanted.templates)} templates"]]
    return [["samples", f"{recipe.clips:,} synthetic clips, {recipe.validation} questions that choose"]]


def _tokens(recipe: AnyRecipe) -> list[list[str]]:
    if not isinstance(recipe, InstructionRecipe):
        return []
    tokens = recipe.budget.steps * recipe.budget.batch * recipe.max_length
    return [["tokens", f"at most {tokens:,} ({recipe.max_length:,} a row)"]]


def _seconds_a_step(recipe: AnyRecipe) -> float:
    if getattr(recipe, "llm", None) is None:
        return step_seconds("primitive", "none")
    adapt = getattr(recipe, "adapt", None)
    frozen = adapt is not None and adapt.frozen
    return step_seconds("soft", "llm-frozen" if frozen else "llm-lora")


def _memory(recipe: AnyRecipe) -> int:
    llm = getattr(recipe, "llm", None)
    return BASE_MIB if llm is None else training_mib(weight_mib(resolve(llm.name).folder))
