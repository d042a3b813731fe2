"""What `st2llm align` and `st2llm finetune` are told: settings alone, read without torch."""

from typing import Any, Literal

from pydantic import Field, model_validator

from st2llm import tasks
from st2llm.config import Settings
from st2llm.config.adaptation import Adaptation, Projection
from st2llm.config.model import EncoderSettings, LLMSettings, RunBudget, SplitSettings, Terms, WarmupSettings
from st2llm.errors import nearest
from st2llm.tasks import Task


class InstructionSettings(Settings):
    """Where the rows to learn from are: a set that is there, or one that is made of a data set before training.

    path: a folder of `st2llm data instruct`, or any folder or hub id that `datasets` reads with a `messages` column.
    data, templates: what a set is made of, `count` rows of each template to train on, `validation` to choose the best
    state by and `test` to be examined on; budget: tokens that a prompt of it may take.
    """

    path: str | None = None
    data: str | None = None
    templates: tuple[str, ...] = ("question-answer.chat",)
    count: int = Field(1000, ge=1)
    validation: int = Field(64, ge=1)
    test: int = Field(200, ge=0)
    budget: int | None = Field(None, ge=16)

    @model_validator(mode="after")
    def _whole(self) -> "InstructionSettings":
        if (self.path is None) == (self.data is None):
            raise ValueError("give `path` (a set that is there) or `data` (to make one of), and not both")
        return self


class InstructRecipe(Settings):
    """A run of `st2llm finetune` on instructions: the loss is on the answers alone.

    length: tokens of a row; longer ones are left out and counted. pack: prompts share a row, none hears another.
    """

    id: str = Field(pattern=r"^\w[\w.+-]*$")
    title: str = ""
    llm: LLMSettings
    adapt: Adaptation = Adaptation(method="lora")
    instructions: InstructionSettings
    length: int = Field(1024, ge=16)
    pack: bool = True
    budget: RunBudget
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _trains(cls, content: Any) -> Any:
        """`adapt: {rank: 16}` means adapters: a run that trains nothing would be none."""
        return with_lora(content)


def with_lora(content: Any) -> Any:
    """The settings with `adapt.method: lora` where `adapt` is given without a method."""
    if not isinstance(content, dict) or not isinstance(content.get("adapt"), dict):
        return content
    return {**content, "adapt": {"method": "lora", **content["adapt"]}}


class Weighted(Settings):
    weight: float = Field(1.0, gt=0)


class Tempered(Weighted):
    temperature: float = Field(0.1, gt=0)


class BridgeObjectives(Terms):
    """What brings an encoder to a language model: the weighted sum of those that are given.

    regression: absolute errors of fields, read from the model's states; likelihood: the same of sequences. language:
    nats of a description after the soft tokens. contrast: soft tokens find their descriptions, and these them.
    prototypes: TEST's terms; see `model.objectives.alignment`.
    """

    regression: Weighted | None = None
    likelihood: Weighted | None = None
    language: Weighted | None = None
    contrast: Tempered | None = None
    prototypes: Tempered | None = None

    @property
    def told(self) -> bool:
        """Whether any of them is about descriptions."""
        return bool({"language", "contrast", "prototypes"} & set(self.given))


class BridgeRecipe(Settings):
    """A run of `st2llm align`, or of `st2llm finetune` on soft tokens: encoder -> up -> language model -> down -> head.

    data, split, task, encoder, skip: as in a suite. start: a checkpoint whose encoder this run starts from, and whose
    heads where they are of the same shapes. warmup: trains the encoder alone first, for the task, under a head that is
    thrown away. hold: the encoder then stays as it is. up: the projection head. adapt: what of the language model is
    trained; nothing for align. instruction: what the model reads before the soft tokens; None means
    `<kind>/<task>.soft`. validation: samples that choose the best state and are reported on. control: also trains a
    twin on the same architecture with random weights, which the alignment report is held against.
    """

    id: str = Field(pattern=r"^\w[\w.+-]*$")
    title: str = ""
    data: str
    split: SplitSettings = SplitSettings()
    task: dict[str, dict[str, Any]] = Field(min_length=1, max_length=1)
    encoder: EncoderSettings = EncoderSettings()
    start: str | None = None
    warmup: WarmupSettings | None = None
    hold: bool = False
    llm: LLMSettings
    up: Projection = Projection()
    adapt: Adaptation = Adaptation()
    skip: Literal["last", "counts-transitions", "counts-all", "none"] = "none"
    instruction: str | None = None
    objectives: BridgeObjectives
    budget: RunBudget
    validation: int | None = Field(None, ge=2)
    seed: int = 0
    control: bool = True

    @model_validator(mode="before")
    @classmethod
    def _trains(cls, content: Any) -> Any:
        return with_lora(content)

    @model_validator(mode="after")
    def _whole(self) -> "BridgeRecipe":
        if not self.objectives.given:
            raise ValueError(
                "objectives is empty: give regression, likelihood, language, contrast or prototypes"
            )
        if self.objectives.regression and self.objectives.likelihood:
            raise ValueError("regression is for fields and likelihood for sequences: give one of them")
        if self.hold and not (self.start or self.warmup):
            raise ValueError("hold keeps an encoder as it was trained before: give `start` or `warmup`")
        if self.warmup and self.warmup.data:
            raise ValueError(
                "warmup.data is for suites: give `start`, a checkpoint that was trained on other data"
            )
        if self.warmup and not (self.objectives.regression or self.objectives.likelihood):
            raise ValueError(
                "warmup trains the encoder for the task: give objectives.regression or likelihood"
            )
        word = next(iter(self.task))
        if word not in tasks.TASKS:
            raise ValueError(f"there is no task {word!r}. {nearest(word, tasks.TASKS)}")
        return self

    @property
    def the_task(self) -> Task:
        return tasks.from_config(self.task)[0]


def read_tuning(content: Any) -> type[InstructRecipe] | type[BridgeRecipe] | type["TalkRecipe"]:
    """Which recipe a file for `st2llm finetune` holds: instructions, a task or questions behind soft tokens."""
    if not isinstance(content, dict):
        return BridgeRecipe
    return InstructRecipe if "instructions" in content else TalkRecipe if "clips" in content else BridgeRecipe


class ClipQuestions(Settings):
    """A run on questions about clips.

    clips: how many clips are made to train on. test: data sets whose clips the questions of the exam are about.
    windows: of each data set in the exam, evenly spaced. frames: of the windows that questions are about. topics: of
    the questions. control: a twin that is trained and asked without seeing anything.
    """

    id: str = Field(pattern=r"^\w[\w.+-]*$")
    title: str = ""
    clips: int = Field(ge=8)
    test: tuple[str, ...] = Field(min_length=1)
    windows: int = Field(40, ge=1)
    frames: int = Field(16, ge=4)
    topics: tuple[str, ...] = ("most-motion", "brighter-when", "is-there-a-cut", "direction")
    encoder: EncoderSettings = EncoderSettings()
    budget: RunBudget
    validation: int = Field(40, ge=2)
    seed: int = 0
    control: bool = True


class TalkRecipe(ClipQuestions):
    """A run of `st2llm finetune` on questions about clips that a model hears as soft tokens (VideoChat, Li 2023).

    template: holds a slot amid its words; one without tells clips in words, in `words` tokens at most, and the control
    is then the model before training.
    """

    template: str = "video/question-answer.soft"
    words: int | None = Field(None, ge=16)
    start: str | None = None
    llm: LLMSettings
    up: Projection = Projection()
    adapt: Adaptation = Adaptation()

    @model_validator(mode="before")
    @classmethod
    def _trains(cls, content: Any) -> Any:
        return with_lora(content)


class PairRecipe(ClipQuestions):
    """A run of `st2llm align` that brings clips and sentences into one space, without a language model: CLIP's way
    (Radford et al. 2021), with frozen sentence vectors and the encoder's embeddings. Questions are answered by the
    option whose sentence lies nearest.

    width: numbers of a vector in the common space. temperature: of the softmax over a batch.
    """

    width: int = Field(64, ge=4)
    temperature: float = Field(0.07, gt=0)


def read_aligning(content: Any) -> type[BridgeRecipe] | type[TalkRecipe] | type[PairRecipe]:
    """Which recipe a file for `st2llm align` holds: descriptions of samples, or questions about clips."""
    if not isinstance(content, dict) or "clips" not in content:
        return BridgeRecipe
    return TalkRecipe if "llm" in content else PairRecipe
