"""The settings of a trained arm of a comparison, as its checkpoint holds them."""

from typing import Literal

from pydantic import Field

from st2llm.config.model import FROZEN, Adaptation, LLMSettings, Projection, Skip
from st2llm.config.objectives import LossSettings, PretrainObjectives, RegressionSettings
from st2llm.config.training import TaskRecipe


class ArmRecipe(TaskRecipe):
    """How an arm of a comparison was trained. data, split, task, encoder, up, skip, instruction: those of its suite.

    id: the suite and the key of the arm. llm: the model that the arm takes its width from, and reads through where its
    backbone is one. adapt: which of its weights were trained. soft: whether the arm reads an instruction before its
    soft tokens. refit: whether it was trained again with the validation windows, of which `validation` are used.
    """

    backbone: Literal[
        "none", "attention", "dense", "experts", "matched", "llm-random", "llm-frozen", "llm-lora"
    ] = Field(description="the part between encoder and head")
    soft: bool = False
    refit: bool = False
    validation: int | None = Field(None, description="number of validation windows")
    llm: LLMSettings | None = None
    up: Projection = Projection()
    adapt: Adaptation = FROZEN
    skip: Skip = "none"
    instruction: str | None = None

    @property
    def objectives(self) -> PretrainObjectives:
        """Arms are trained for their task alone."""
        if next(iter(self.task)) in ("next-place", "next-event"):
            return PretrainObjectives(likelihood=LossSettings())
        return PretrainObjectives(regression=RegressionSettings())
