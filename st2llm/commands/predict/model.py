"""The model behind a checkpoint, with its task: one that predicts numbers, or a language model that answers prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from st2llm.commands.prompt import task_for
from st2llm.config.training import InstructionRecipe
from st2llm.data.windows.fitted_on import FittedOn
from st2llm.errors import ConfigError
from st2llm.model import checkpoint
from st2llm.predict.checkpoint import CheckpointPredictor, load_predictor
from st2llm.predict.text import TextPredictor
from st2llm.serialize.template.template import Template, load_prompt
from st2llm.tasks import TASKS, Forecast, Task
from st2llm.types import Container, Prediction, Sample, first_object


@dataclass(frozen=True, eq=False)
class TaskModel:
    """A checkpoint that can predict samples of a task.

    most_steps: the longest horizon that it can predict; None for any. options: the places or classes that it was
    trained on. template: writes its prompts or instructions, or None.
    """

    task: Task
    predict: Callable[[Sequence[Sample]], list[Prediction]]
    fitted_on: FittedOn
    most_steps: int | None = None
    options: tuple[str, ...] = ()
    template: Template | None = None

    def with_horizon(self, steps: int) -> "TaskModel":
        """The model with a task of this many steps, where it can predict any number."""
        if self.most_steps is not None or not isinstance(self.task, Forecast):
            return self
        return replace(self, task=replace(self.task, horizon=steps))

    @property
    def reads_known_covariates(self) -> bool:
        """Whether its prompts show covariates of the wanted steps."""
        return self.template is not None and bool(self.template.body.variables & {"ahead", "known"})


def load_model(folder: Path, data: Container, template: str | None = None) -> TaskModel:
    """The model of a checkpoint folder for these data.

    template: KIND/TASK[.VARIANT] of the prompts of a language model that was tuned on instructions; by default the one
    template of its training that asks for a prediction. Raises ConfigError for a folder without a checkpoint, one whose
    answers are no predictions, and a template where none is read or of another kind of data.
    """
    loaded = checkpoint.read_checkpoint(folder)
    if "shape" in loaded.config:
        if template is not None:
            raise ConfigError(
                f"{folder} predicts numbers and reads no prompt of its own choice. Leave --template out."
            )
        return _of_predictor(load_predictor(folder, name="checkpoint"))
    if loaded.config.get("of") != "instructions":
        raise ConfigError(
            f"{folder} answers questions about clips, and predicts nothing. Its exam is in its report.md; take a "
            f"checkpoint of `pretrain` or `align`, or of `finetune` on a task or on instructions."
        )
    return _of_language_model(loaded, data, template)


def _of_predictor(predictor: CheckpointPredictor) -> TaskModel:
    task, instruction = predictor.recipe.parsed_task, predictor.preprocessor.template
    return TaskModel(
        task,
        predictor.predict,
        predictor.fitted_on,
        most_steps=task.horizon if isinstance(task, Forecast) else 1,
        options=predictor.options,
        template=instruction if isinstance(instruction, Template) else None,
    )


def _of_language_model(loaded: checkpoint.Checkpoint, data: Container, name: str | None) -> TaskModel:
    first = first_object(data)
    recipe = InstructionRecipe.model_validate(loaded.config["recipe"])
    template = load_prompt(name) if name else _trained_template(recipe, first.kind, loaded.folder)
    if template.head.kind != first.kind:
        raise ConfigError(
            f"Template {template.id} is for {template.head.kind} data, but {first.name} is of kind {first.kind}. Take "
            f"a template of that kind."
        )
    if template.head.task not in TASKS:
        raise ConfigError(
            f"Template {template.id} asks for no prediction. Its answers come from `st2llm ask {template.id} --llm "
            f"{loaded.folder}`."
        )
    llm = checkpoint.load_finetuned_llm(loaded.folder, dtype=recipe.llm.dtype)
    predictor = TextPredictor("checkpoint", template, llm)
    task = task_for(template.head.task, data)
    return TaskModel(task, predictor.predict, checkpoint.checkpoint_fitted_on(loaded), template=template)


def _trained_template(recipe: InstructionRecipe, kind: str, folder: Path) -> Template:
    """The one template of the training that asks for a prediction. Raises ConfigError for none, or several."""
    names = [f"{kind}/{name}" for name in recipe.instructions.templates] if recipe.instructions.data else []
    predicting = [name for name in names if name.split("/")[1].split(".")[0] in TASKS]
    if len(predicting) == 1:
        return load_prompt(predicting[0])
    if names and not predicting:
        raise ConfigError(
            f"{folder} was tuned on {', '.join(names)}, which ask for no prediction. Ask it with `st2llm ask "
            f"{names[0]} --llm {folder}`, or name a template that asks for one with --template."
        )
    raise ConfigError(
        f"{folder} was tuned on {', '.join(names) or f'the set {recipe.instructions.path}'}. Name the template of its "
        f"prompts with --template, for instance {(predicting or [f'{kind}/forecast'])[0]}."
    )
