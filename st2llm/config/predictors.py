"""What a suite is made of besides its questions: its predictors, budgets, windows, controls and faults."""

from typing import Any, Literal

from pydantic import Field, model_validator

from st2llm.config import Settings
from st2llm.config.adaptation import Adaptation
from st2llm.config.backbones import BACKBONES, LLM_BACKBONES
from st2llm.config.catalog import FOREIGN, RULES
from st2llm.config.model import EncoderSettings, WarmupSettings
from st2llm.errors import nearest

TEXT_BACKBONES = ("llm-frozen", "llm-random")
NAME = r"^\w[\w.+-]*$"
"""Ids of suites and names of predictors name files as well."""


class EncoderConfig(EncoderSettings):
    warmup: WarmupSettings | None = None


class LoraConfig(Adaptation):
    """What `llm-lora` trains of its language model, and the twins of that arm: adapters, unless `method` says else."""

    method: Literal["frozen", "lora", "norms", "partial", "full"] = "lora"


class ExampleSettings(Settings):
    """Solved training samples that a text predictor shows: at random, the most recent, or those most alike."""

    by: Literal["random", "recent", "shape"] = "random"
    count: int = Field(2, ge=1, le=32)


class Overrides(Settings):
    """What one predictor does differently from its suite."""

    depth: int | None = None
    windows: int | None = None
    """Only this many evenly spaced test windows; every pair with this predictor uses those alone."""
    lora: bool = False
    """Trains adapters in `llm-random` too: the twin of `llm-lora` without pretrained weights."""
    penalty: float = 1e-3
    """Ridge penalty as a multiple of the number of rows."""
    draws: int = Field(1, ge=1)
    """Answers that a text predictor asks for at each place; the median of those that can be read counts."""
    temperature: float = Field(0.0, ge=0)
    """0 takes the most probable token at each step."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Share of the probability that a text predictor draws from, the most probable tokens first."""
    examples: ExampleSettings | None = None
    budget: int | None = Field(None, ge=16)
    """Tokens that a prompt of a text predictor may take; what goes to keep it is recorded with the answer."""
    answer: dict[str, Any] | None = None
    """Settings of the answer that differ from the template's head, such as {strategy: spaced, decimals: 1}."""


class PredictorSettings(Settings):
    name: str = Field(pattern=NAME)
    family: Literal["text", "soft", "primitive", "baseline"]
    backbone: str | None = None
    template: str | None = None
    file: str | None = None
    """Predictions made elsewhere, in the layout of a run's `predictions/*.parquet` (or csv)."""
    checkpoint: str | None = None
    """A folder that `st2llm pretrain`, `align` or `finetune` wrote; its best state answers. Of a text predictor the
    language model, tuned on instructions, that is asked."""
    given: bool = False
    """It was handed to `compare` in Python."""
    model: str | None = None
    """A pretrained model of others, zero-shot: see `FOREIGN`. The weights of some are named: chronos:FOLDER."""
    set: Overrides = Overrides()

    @model_validator(mode="after")
    def _known(self) -> "PredictorSettings":
        choices: dict[str, tuple[str, ...]] = {
            "text": TEXT_BACKBONES,
            "soft": LLM_BACKBONES,
            "primitive": tuple(b for b in BACKBONES if b not in LLM_BACKBONES),
        }
        if self.model is not None:
            word, _, weights = self.model.partition(":")
            if word not in FOREIGN:
                raise ValueError(f"there is no model {self.model!r}. {nearest(word, FOREIGN)}")
            if FOREIGN[word].housed != bool(weights):
                wanted = f"{word}:<hub id or folder>" if FOREIGN[word].housed else word
                raise ValueError(f"{self.name!r} has the model {self.model!r}, which is written {wanted}")
        if self.checkpoint is not None and self.family in ("soft", "text"):
            known = {"text": ("llm-lora",), "soft": ("llm-frozen", "llm-lora")}[self.family]
            if self.backbone not in known or bool(self.template) != (self.family == "text"):
                raise ValueError(
                    f"{self.name!r} is a checkpoint behind a language model: a soft one has the backbone llm-frozen or "
                    f"llm-lora and no template, a text one (tuned on instructions) llm-lora and a template"
                )
        elif self.foreign:
            if self.family not in ("primitive", "baseline") or self.backbone or self.template:
                raise ValueError(
                    f"{self.name!r} is somebody else's, so its family is primitive or baseline, and it has neither "
                    f"backbone nor template"
                )
        elif self.family == "baseline":
            if self.name not in RULES:
                raise ValueError(f"there is no baseline {self.name!r}. {nearest(self.name, RULES)}")
        elif self.backbone not in choices[self.family]:
            known = choices[self.family]
            raise ValueError(
                f"a {self.family} predictor has no backbone {self.backbone!r}. {nearest(str(self.backbone), known)}"
            )
        if self.family == "text" and not self.template:
            raise ValueError(f"the text predictor {self.name!r} needs `template: kind/task`")
        self._check_draws()
        return self

    def _check_draws(self) -> None:
        own, usual = self.set, Overrides()
        if self.family != "text":
            for key in ("draws", "temperature", "top_p", "examples", "budget", "answer"):
                if getattr(own, key) != getattr(usual, key):
                    raise ValueError(
                        f"`{key}` is for text predictors, but {self.name!r} is a {self.family} predictor"
                    )
        elif own.draws > 1 and own.temperature == 0:
            raise ValueError(
                f"{own.draws} draws of {self.name!r} at temperature 0 would all be the same. "
                f"Set a temperature above 0, for instance 0.7"
            )

    @property
    def foreign(self) -> bool:
        """Whether it was made elsewhere: a file, a model of others, a checkpoint that answers by itself."""
        checkpoint = self.checkpoint if self.family != "text" else None
        return self.given or any(part is not None for part in (self.file, self.model, checkpoint))

    @property
    def trained(self) -> bool:
        """Whether it is trained here."""
        return self.family in ("soft", "primitive") and not self.foreign

    @property
    def pretrained(self) -> bool:
        """Whether it holds pretrained LLM weights."""
        return self.backbone in ("llm-frozen", "llm-lora")


class BudgetSettings(Settings):
    """loss: of fields, what arms minimise and are chosen by.

    refit: once rate and steps are chosen on validation, an arm is trained anew for those on training and validation
    windows together, and answers test so; what validation says of it is of the first run. average: of the weights, see
    `train.loop.Budget`.
    """

    steps: int = Field(ge=1)
    batch: int = Field(32, ge=1)
    loss: Literal["absolute", "squared"] = "absolute"
    lr: list[float] = Field([1e-4], min_length=1)
    weight_decay: float = Field(0.01, ge=0)
    refit: bool = False
    average: float = Field(0.0, ge=0, lt=1)


class WindowSettings(Settings):
    """places: every window asks for so many of its places alone, a choice of its own; None means all."""

    select: Literal["all", "even"] = "all"
    count: int | None = Field(None, ge=1)
    places: int | None = Field(None, ge=1)


class BootstrapSettings(Settings):
    """block: what is resampled as one; by default what BLOCKS says for the suite's kind."""

    block: Literal["day", "week", "object", "clip", "sample"] = "day"
    draws: int = Field(2000, ge=100)


class FaultSettings(Settings):
    """Faults that predictors' residuals are to find: so many planted into the test part, or those of a csv file.

    training: how many training windows say what residuals are usual. share: of their readings, those that are to stay
    below the threshold of an alarm.
    """

    planted: int | None = Field(None, ge=1)
    documented: str | None = None
    seed: int = 0
    training: int = Field(200, ge=1)
    share: float = Field(0.995, gt=0, lt=1)

    @model_validator(mode="after")
    def _one_of_two(self) -> "FaultSettings":
        if (self.planted is None) == (self.documented is None):
            raise ValueError("faults takes `planted: COUNT` or `documented: FILE.csv`, one of the two")
        return self


class ControlSettings(Settings):
    """Planted controls: which of the suite's trained predictors run on them, and for how long."""

    predictors: list[str]
    steps: int = Field(200, ge=1)
    lr: float = 1e-3
    places: int = Field(6, ge=1)
    windows: int = Field(60, ge=20)
