"""What a training run is made of, as it stands in `alignment/configs/*.yaml`: settings alone, read without torch."""

from typing import Any, Literal

from pydantic import Field, model_validator

from st2llm import tasks
from st2llm.config import Settings
from st2llm.errors import nearest
from st2llm.tasks import Task

Policy = Literal["random", "tube", "block", "span", "future", "cluster"]
"""What a mask hides; see `model.objectives.masks`."""


class WarmupSettings(Settings):
    """Training of the shared encoder alone, under a head that is thrown away, before any arm begins.

    data: in a suite, other data of its kind to train it on, for the same task; then the head is kept as well, so that
    an arm without a backbone starts with all that was learned there. Weights must know no place (`without: [node]`).
    average: see `RunBudget`.
    """

    steps: int = Field(ge=1)
    batch: int = Field(32, ge=1)
    lr: float = 1e-3
    average: float = Field(0.0, ge=0, lt=1)
    data: str | None = None


class EncoderSettings(Settings):
    """What every arm of a comparison shares.

    Fields: patch, graph, tokens, and what of time and place is told beside the values (without: what is not; without
    `node` places are told apart by their values and neighbours alone), and centre (each place's window less its own
    mean, where levels drift; after RevIN, Kim et al. 2022). level: what values are told as differences from, each
    place's mean or, on a calendar, its mean in that slot (of which training windows are held out). also: what is joined
    beside that, where a data set has it: the month, coordinates, the graph's laplacian, the frequency of each place's
    history, and frozen features of text (MiniLM, of places and notes) and of images (EfficientNet, of the frames that
    are seen); see `encode.extra_features`. join: whether all that is told beside the values is added to them or scales
    them.
    Sequences: causal (a point hears those before it alone) and dropout.
    """

    d_st: int = Field(64, ge=4)
    patch: int = Field(24, ge=1)
    layers: int = Field(2, ge=0)
    """0, of the mlp alone: linear from what is seen of a place to its answer (as NLinear, Zeng et al. 2023)."""
    graph: Literal["gat", "gcn", "diffusion", "regions", "none"] = "gat"
    tokens: Literal["place", "patch"] = "place"
    mixer: Literal["transformer", "mlp"] = "transformer"
    without: tuple[Literal["step_of_day", "day_of_week", "holiday", "node", "notes"], ...] = ()
    also: tuple[Literal["month", "coordinates", "laplacian", "frequency", "text", "image"], ...] = ()
    region: int = Field(16, ge=1)
    """Places of a region at most, where graph is `regions`."""
    centre: bool = False
    level: Literal["place", "slot"] = "place"
    join: Literal["add", "scale"] = "add"
    causal: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _deep_enough(self) -> "EncoderSettings":
        if not self.layers and self.mixer != "mlp":
            raise ValueError("encoder.layers: 0 is for mixer: mlp; a transformer needs a layer at least")
        return self


class LLMSettings(Settings):
    """Which language model, and how it is loaded; see `load_llm`."""

    name: str
    depth: int | None = None
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    quant: Literal["none", "int8", "nf4"] = "none"


class SplitSettings(Settings):
    stride: int | None = None
    """Steps between windows; None means so many that no step is asked for twice (1 for next places and events)."""
    context: bool = False


class RegressionSettings(Settings):
    """What the task hides: mean absolute error."""

    weight: float = Field(1.0, gt=0)


class LikelihoodSettings(Settings):
    """The proper score of a sequence's own head: nats of the next place or event, the energy score of a path."""

    weight: float = Field(1.0, gt=0)


class MaskedSettings(Settings):
    """Whole windows, hidden anew at each step; see `model.objectives.masks`."""

    weight: float = Field(1.0, gt=0)
    policies: list[Policy] = Field(["random"], min_length=1)
    ratio: float = Field(0.5, gt=0, lt=1)


class ContrastiveSettings(Settings):
    """Two views of each window; see `model.objectives.contrastive.Contrastive`."""

    weight: float = Field(1.0, gt=0)
    level: Literal["graph", "node"] = "graph"
    views: list[str] = Field(["hide"], min_length=1)
    near_hours: float = Field(2.0, ge=0)
    temperature: float = Field(0.1, gt=0)
    strength: float = Field(0.1, gt=0, lt=1)


class DiffusionSettings(Settings):
    """Noise on what the task hides. draws, steps: of the sampler, when the checkpoint answers."""

    weight: float = Field(1.0, gt=0)
    schedule: Literal["linear", "cosine", "quadratic", "flow"] = "cosine"
    says: Literal["epsilon", "velocity"] = "epsilon"
    draws: int = Field(20, ge=1)
    steps: int = Field(20, ge=1)


class Terms(Settings):
    """Named terms, each given or None."""

    @property
    def given(self) -> dict[str, Any]:
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}


class Objectives(Terms):
    """What is minimised: the weighted sum of those that are given."""

    regression: RegressionSettings | None = None
    likelihood: LikelihoodSettings | None = None
    masked: MaskedSettings | None = None
    contrastive: ContrastiveSettings | None = None
    diffusion: DiffusionSettings | None = None


class RunBudget(Settings):
    """How long to train; see `train.loop.Budget`."""

    steps: int = Field(ge=1)
    batch: int = Field(32, ge=1)
    lr: float = Field(1e-4, gt=0)
    evaluations: int = Field(10, ge=1)
    warmup: float = Field(0.1, ge=0, le=1)
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0)
    accumulate: int = Field(1, ge=1)
    precision: Literal["no", "bf16"] = "no"
    patience: int | None = Field(None, ge=1)
    average: float = Field(0.0, ge=0, lt=1)


class Recipe(Settings):
    """A run of `st2llm pretrain`. data, task, split: as in a suite. validation: windows that choose the best state."""

    id: str = Field(pattern=r"^\w[\w.+-]*$")
    title: str = ""
    data: str
    split: SplitSettings = SplitSettings()
    task: dict[str, dict[str, Any]] = Field(min_length=1, max_length=1)
    encoder: EncoderSettings = EncoderSettings()
    skip: Literal["counts-transitions", "counts-all", "none"] = "none"
    objectives: Objectives
    budget: RunBudget
    validation: int | None = Field(None, ge=1)
    seed: int = 0
    start: str | None = None
    """A checkpoint whose encoder this run starts from."""

    @model_validator(mode="after")
    def _whole(self) -> "Recipe":
        given = self.objectives.given
        if not given:
            raise ValueError(
                "objectives is empty: give regression, masked, contrastive, diffusion or likelihood"
            )
        word = next(iter(self.task))
        if word in tasks.TASKS:
            sequential = word in ("next-place", "next-event")
            if sequential and set(given) != {"likelihood"}:
                raise ValueError(f"{word} is trained by `objectives: {{likelihood: {{}}}}` alone")
        else:
            raise ValueError(f"there is no task {word!r}. {nearest(word, tasks.TASKS)}")
        return self

    @property
    def the_task(self) -> Task:
        return tasks.from_config(self.task)[0]
