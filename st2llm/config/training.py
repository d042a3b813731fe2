"""Settings of training runs, as in `alignment/configs/*.yaml`: objectives, budgets and recipes; read without torch."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from st2llm import tasks
from st2llm.config import Settings
from st2llm.config.model import (
    Adaptation,
    CountingSkip,
    EncoderSettings,
    LLMSettings,
    Projection,
    RecipeSkip,
)
from st2llm.config.objectives import AlignmentObjectives, PretrainObjectives, Weighting
from st2llm.errors import nearest
from st2llm.tasks import Task

NAME_PATTERN = r"^\w[\w.+-]*$"
"""Ids of recipes and suites and names of predictors are parts of file names."""


def _lora_by_default(adapt: Any) -> Any:
    return {"method": "lora", **adapt} if isinstance(adapt, dict) else adapt


LoraByDefault = Annotated[Adaptation, BeforeValidator(_lora_by_default)]
"""Adaptation whose method is lora where it is given without a method."""


class PlacesHeldOut(Settings):
    """Places of a graph or grid that the test alone asks for, in place of what the card holds out.

    names: their ids. share: of all places, drawn by `seed`, where there are no names. known: training and validation
    ask for all places, and the test for these alone, so that a run shows what training on them is worth.
    """

    names: tuple[str, ...] = ()
    share: float = Field(0.0, ge=0, lt=1)
    seed: int = Field(0, description="of the draw of a share")
    known: bool = False

    @model_validator(mode="after")
    def _check_some(self) -> "PlacesHeldOut":
        if bool(self.names) == bool(self.share):
            raise ValueError("split.hold_out: give `names`, or a `share` above 0")
        return self


class SplitSettings(Settings):
    """How the data is cut into windows. context: a window's history may lie in the earlier part of the split.

    train_until, validation_until: of graphs and grids, when training and validation end, in place of the shares of the
    card; ISO 8601, in the time zone of the data where it names none. hold_out: places that the test alone asks for.
    """

    stride: int | None = None
    """Steps between windows; None takes the smallest at which no step is wanted twice (1 for next places, events)."""
    context: bool = False
    train_until: datetime | None = None
    validation_until: datetime | None = None
    hold_out: PlacesHeldOut | None = None

    @model_validator(mode="after")
    def _check_ends(self) -> "SplitSettings":
        train, validation = self.train_until, self.validation_until
        if (train is None) != (validation is None):
            raise ValueError("split: give both `train_until` and `validation_until`, or neither")
        if train is not None and validation is not None:
            if (train.tzinfo is None) != (validation.tzinfo is None):
                raise ValueError(
                    "split: give a time zone to both `train_until` and `validation_until`, or to neither"
                )
            if train >= validation:
                raise ValueError(f"split: train_until {train} should be before validation_until {validation}")
        return self

    @property
    def changes_plan(self) -> bool:
        """Whether the parts of the split are others than those of the card."""
        return self.train_until is not None or self.hold_out is not None


class Budget(Settings):
    """The part that the budgets of suites, recipes and warm-ups share. steps: optimiser steps of `batch` windows.

    ema_decay: decay of the exponential moving average of the weights; 0 keeps none. See `train.loop.Budget`.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"average": "ema_decay"}

    steps: int = Field(ge=1)
    batch: int = Field(32, ge=1, description="windows of a step")
    ema_decay: float = Field(0.0, ge=0, lt=1)


class TrainingBudget(Budget):
    """The budget of a training run, on AdamW.

    lr: the highest learning rate: linear warm-up over `warmup_ratio` of the steps, then a cosine down to a tenth.
    evaluations: how often the validation loss is computed and a checkpoint is written. max_grad_norm: the norm to which
    gradients are clipped. gradient_accumulation_steps: parts of a batch that run one after the other, with the same
    result. precision: of the forward pass. patience: evaluations without improvement after which training stops.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "warmup": "warmup_ratio",
        "clip": "max_grad_norm",
        "accumulate": "gradient_accumulation_steps",
    }

    lr: float = Field(1e-4, gt=0)
    evaluations: int = Field(10, ge=1)
    warmup_ratio: float = Field(0.1, ge=0, le=1, description="share of the steps in which lr rises")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    max_grad_norm: float = Field(1.0, gt=0)
    gradient_accumulation_steps: int = Field(1, ge=1)
    precision: Literal["no", "bf16"] = "no"
    patience: int | None = Field(None, ge=1)


class WarmupSettings(Budget):
    """Trains the shared encoder alone before the predictors are trained, under a head that is discarded.

    data: of a suite, another data set of its kind, for the same task. The head is then kept too, so that a predictor
    without a backbone starts with all that was learned there. The encoder must not embed places
    (`drop_embeddings: [node]`).
    """

    lr: float = Field(1e-3, description="learning rate")
    data: str | None = None


class Recipe(Settings):
    """The settings that every training run has. id: of the run, the default name of its folder.

    report_to: trackers that get the losses of each evaluation, beside log.jsonl.
    """

    without_effect: ClassVar[tuple[str, ...]] = ("title", "report_to")
    """Settings that do not change what is trained, so a run is resumed with others."""

    id: str = Field(pattern=NAME_PATTERN)
    title: str = Field("", description="for lists and reports")
    budget: TrainingBudget
    seed: int = Field(0, description="of weights and batches")
    report_to: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()


class TaskRecipe(Recipe):
    """The settings of runs that train for a task. data, split, task, encoder: as in a suite.

    init_from: a checkpoint whose encoder weights this run starts from.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"start": "init_from"}

    data: str
    split: SplitSettings = SplitSettings()
    task: dict[str, dict[str, Any]] = Field(min_length=1, max_length=1)
    encoder: EncoderSettings = EncoderSettings()
    init_from: str | None = None

    @model_validator(mode="after")
    def _check_task(self) -> "TaskRecipe":
        (name,) = self.task
        if name not in tasks.TASKS:
            raise ValueError(f"there is no task {name!r}. {nearest(name, tasks.TASKS)}")
        return self

    @property
    def parsed_task(self) -> Task:
        """The mask policy of `task`."""
        return tasks.from_config(self.task)[0]


_OWN_MODELS: Mapping[str, tuple[str, ...]] = {
    "saits": ("d_st", "layers", "dropout"),
    "videomae": ("d_st", "layers"),
}
"""Objectives that train a model of their own, with the settings of the encoder that are its sizes."""


class PretrainRecipe(TaskRecipe):
    """A run of `st2llm pretrain`. validation: number of windows that choose the best state.

    weighting: how several objectives are combined: as a sum with their weights (fixed), with weights by learned
    uncertainty (Kendall et al. 2018), with weights that balance the norms of their gradients (gradnorm, Chen et al.
    2018), or without the parts of their gradients that conflict (pcgrad, Yu et al. 2020).
    """

    skip: CountingSkip = Field("none", description="the closed-form prediction whose residual is learned")
    objectives: PretrainObjectives
    weighting: Weighting = "fixed"
    validation: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check_objectives(self) -> "PretrainRecipe":
        terms = self.objectives.given
        if not terms:
            raise ValueError(
                "objectives is empty: give regression, masked, contrastive, diffusion or likelihood"
            )
        if self.weighting != "fixed" and len(terms) < 2:
            raise ValueError(f"weighting: {self.weighting} combines several objectives, but there is one")
        for name, sizes in _OWN_MODELS.items():
            if name in terms:
                self._check_own_model(name, sizes)
        (name,) = self.task
        if name in ("next-place", "next-event") and set(terms) != {"likelihood"}:
            raise ValueError(f"{name} is trained by `objectives: {{likelihood: {{}}}}` alone")
        if changed := self.encoder.of_forecasts:
            raise ValueError(
                f"encoder.{changed[0]} is for suites, align and finetune: pre-training reads and predicts whole "
                f"windows. Leave it out"
            )
        return self

    def _check_own_model(self, name: str, sizes: tuple[str, ...]) -> None:
        own = EncoderSettings(**self.encoder.model_dump(include=set(sizes)))
        if set(self.objectives.given) != {name} or self.init_from is not None or self.encoder != own:
            raise ValueError(
                f"objectives.{name} trains a model of its own: leave out other objectives and init_from, and of the "
                f"encoder give {', '.join(sizes[:-1])} and {sizes[-1]} only"
            )


class SoftTokenRecipe(TaskRecipe):
    """A run of `st2llm align`, or of `st2llm finetune` on soft tokens: encoder -> up -> language model -> down -> head.

    skip: as in a suite. init_from: also of the heads, where the shapes agree. warmup: trains the encoder alone first,
    for the task, under a head that is discarded. freeze_encoder: the encoder is not trained further. up: the projection
    head. adapt: which weights of the language model are trained; none for align. instruction: the prompt before the
    soft tokens; None means `<kind>/<task>.soft`. validation: number of samples that choose the best state and are
    reported on. control: also trains a twin on the same architecture with random weights, which the alignment report
    compares with.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"hold": "freeze_encoder"}

    warmup: WarmupSettings | None = None
    freeze_encoder: bool = False
    llm: LLMSettings
    up: Projection = Projection()
    adapt: LoraByDefault = Adaptation()
    skip: RecipeSkip = "none"
    instruction: str | None = None
    objectives: AlignmentObjectives
    validation: int | None = Field(None, ge=2)
    control: bool = True

    @model_validator(mode="after")
    def _check_objectives_and_encoder(self) -> "SoftTokenRecipe":
        if not self.objectives.given:
            raise ValueError(
                "objectives is empty: give regression, likelihood, language, contrast or prototypes"
            )
        if self.objectives.regression and self.objectives.likelihood:
            raise ValueError("regression is for fields and likelihood for sequences: give one of them")
        if self.freeze_encoder and not (self.init_from or self.warmup):
            raise ValueError(
                "freeze_encoder keeps an encoder as it was trained before: give `init_from` or `warmup`"
            )
        if self.warmup and self.warmup.data:
            raise ValueError(
                "warmup.data is for suites: give `init_from`, a checkpoint that was trained on other data"
            )
        if self.warmup and not (self.objectives.regression or self.objectives.likelihood):
            raise ValueError(
                "warmup trains the encoder for the task: give objectives.regression or likelihood"
            )
        return self


class InstructionSettings(Settings):
    """The rows of instruction tuning: an existing set, or one that is made of a data set before training.

    path: a folder of `st2llm data instruct`, or any folder or hub id that `datasets` reads with a `messages` column.
    data, templates: what a set is made of: `count` rows of each template to train on, `validation` that choose the
    best state and `test` for the exam. prompt_budget: tokens of a prompt at most.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"budget": "prompt_budget"}

    path: str | None = None
    data: str | None = None
    templates: tuple[str, ...] = ("question-answer.chat",)
    count: int = Field(1000, ge=1, description="rows of each template to train on")
    validation: int = Field(64, ge=1, description="rows that choose the best state")
    test: int = Field(200, ge=0, description="rows of the exam")
    prompt_budget: int | None = Field(None, ge=16)

    @model_validator(mode="after")
    def _check_source(self) -> "InstructionSettings":
        if (self.path is None) == (self.data is None):
            raise ValueError("give `path` (an existing set) or `data` (to make one from), and not both")
        return self


class InstructionRecipe(Recipe):
    """A run of `st2llm finetune` on instructions: the loss is over the answers alone.

    max_length: tokens of a row; longer rows are left out and counted. packing: several prompts share a row, without
    attending to each other.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"length": "max_length", "pack": "packing"}

    llm: LLMSettings
    adapt: LoraByDefault = Adaptation(method="lora")
    instructions: InstructionSettings
    max_length: int = Field(1024, ge=16)
    packing: bool = True


class VideoQuestionRecipe(Recipe):
    """The part that the recipes for questions about clips share.

    clips: number of synthetic clips to train on. test: data sets whose clips the exam asks about. windows: of each data
    set in the exam, evenly spaced. frames: of each window. topics: of the questions. control: also trains and asks a
    twin that sees no clip.
    """

    clips: int = Field(ge=8)
    test: tuple[str, ...] = Field(min_length=1)
    windows: int = Field(40, ge=1)
    frames: int = Field(16, ge=4)
    topics: tuple[str, ...] = ("most-motion", "brighter-when", "is-there-a-cut", "direction")
    encoder: EncoderSettings = EncoderSettings()
    validation: int = Field(40, ge=2, description="clips that choose the best state")
    control: bool = True

    @model_validator(mode="after")
    def _check_encoder(self) -> "VideoQuestionRecipe":
        if changed := self.encoder.of_forecasts:
            raise ValueError(
                f"encoder.{changed[0]} is for values of places, which questions do not ask for. Leave it out"
            )
        return self


class VideoQARecipe(VideoQuestionRecipe):
    """A run of `st2llm align` or `finetune` on questions about clips as soft tokens (VideoChat, Li et al. 2023).

    template: with a slot for the soft tokens. A template without a slot describes clips in text, in
    `prompt_budget` tokens at most, and the control is then the model before training.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"start": "init_from", "words": "prompt_budget"}

    template: str = "video/question-answer.soft"
    prompt_budget: int | None = Field(None, ge=16, description="tokens of a description at most")
    init_from: str | None = Field(None, description="a checkpoint to start from")
    llm: LLMSettings
    up: Projection = Projection()
    adapt: LoraByDefault = Adaptation()


class VideoTextRecipe(VideoQuestionRecipe):
    """A run of `st2llm align` that embeds clips and sentences in one space, without a language model (CLIP, Radford et
    al. 2021), with frozen sentence embeddings. A question is answered by the option whose sentence is nearest.

    width: of the common space. temperature: of the softmax over a batch.
    """

    width: int = Field(64, ge=4)
    temperature: float = Field(0.07, gt=0)


def finetune_recipe_type(
    content: Any,
) -> type[InstructionRecipe] | type[SoftTokenRecipe] | type[VideoQARecipe]:
    """The class of a recipe for `st2llm finetune`: instructions, questions about clips, or a task on soft tokens."""
    if not isinstance(content, dict):
        return SoftTokenRecipe
    if "instructions" in content:
        return InstructionRecipe
    return VideoQARecipe if "clips" in content else SoftTokenRecipe


def align_recipe_type(
    content: Any,
) -> type[SoftTokenRecipe] | type[VideoQARecipe] | type[VideoTextRecipe]:
    """The class of a recipe for `st2llm align`: descriptions of samples, or questions about clips."""
    if not isinstance(content, dict) or "clips" not in content:
        return SoftTokenRecipe
    return VideoQARecipe if "llm" in content else VideoTextRecipe
