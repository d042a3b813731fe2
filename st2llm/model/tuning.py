"""What `st2llm align` and `st2llm finetune` are told: settings alone, read without torch."""

from typing import Any

from pydantic import Field, model_validator

from st2llm.align.settings import Adaptation
from st2llm.config import Settings
from st2llm.model.recipe import LLMSettings, RunBudget


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
