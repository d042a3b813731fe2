"""Settings of what training minimises: the terms of a loss, by name."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from st2llm.config import Settings

MaskPolicy = Literal["random", "tube", "block", "span", "future", "cluster"]
"""Which entries masked pre-training hides; see `model.objectives.masks`."""


class LossSettings(Settings):
    """A term of the training loss, by its weight in the sum."""

    weight: float = Field(1.0, gt=0, description="in the sum of terms")


class RegressionSettings(LossSettings):
    """Errors of values. loss: absolute ones in raw units, or their squares."""

    loss: Literal["absolute", "squared"] = "absolute"


class SimilarityLossSettings(LossSettings):
    """A term over similarities. temperature: of the softmax over them."""

    temperature: float = Field(0.1, gt=0)


class MaskedSettings(LossSettings):
    """Masked pre-training: whole windows, hidden anew at each step; see `model.objectives.masks`."""

    policies: list[MaskPolicy] = Field(
        ["random"], min_length=1, description="which entries are hidden; one is drawn for each batch"
    )
    ratio: float = Field(0.5, gt=0, lt=1, description="share that is hidden")


class ContrastiveSettings(SimilarityLossSettings):
    """A contrastive loss over two views of each window; see `model.objectives.contrastive.Contrastive`.

    level: whole windows (graph) or places (node). views: augmentations, of `hide`, `noise` and `scale`. strength: the
    share of hidden entries, the standard deviation of noise, the range of scales. near_hours: windows within this time
    of day are not used as negatives.
    """

    level: Literal["graph", "node"] = "graph"
    views: list[str] = Field(["hide"], min_length=1)
    near_hours: float = Field(2.0, ge=0)
    strength: float = Field(0.1, gt=0, lt=1)


class DiffusionSettings(LossSettings):
    """Denoising of the hidden entries. draws, steps: of the sampler that a checkpoint predicts with.

    prediction_type: what the model predicts, the noise (epsilon) or the velocity (Salimans and Ho 2022).
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"says": "prediction_type"}

    schedule: Literal["linear", "cosine", "quadratic", "flow"] = Field("cosine", description="of the noise")
    prediction_type: Literal["epsilon", "velocity"] = "epsilon"
    draws: int = Field(20, ge=1)
    steps: int = Field(20, ge=1)


class SaitsSettings(LossSettings):
    """Imputation by SAITS (Du et al. 2023); of the encoder, d_st, layers and dropout are those of its blocks.

    ratio: share of a window that is hidden at each step of training. observed: weight of the reconstruction of visible
    readings.
    """

    ratio: float = Field(0.25, gt=0, lt=1)
    observed: float = Field(0.05, ge=0)


class LossTerms(Settings):
    """Named terms of a loss, each given or None."""

    @property
    def given(self) -> dict[str, Any]:
        """The settings of the terms that are given, by name."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}


class PretrainObjectives(LossTerms):
    """What `st2llm pretrain` minimises: the weighted sum of the terms that are given.

    regression: mean absolute (or squared) error of the hidden entries of fields. likelihood: the proper score of a
    sequence head: nats of the next place or event, the energy score of a path. saits: alone, with a model of its own.
    """

    regression: RegressionSettings | None = None
    likelihood: LossSettings | None = None
    masked: MaskedSettings | None = None
    contrastive: ContrastiveSettings | None = None
    diffusion: DiffusionSettings | None = None
    saits: SaitsSettings | None = None


class AlignmentObjectives(LossTerms):
    """What aligns an encoder with a language model: the weighted sum of the terms that are given.

    regression: errors of fields, from the language model's states; likelihood: the same for sequences.
    language: nats of a description after the soft tokens. contrast: a contrastive loss that matches soft tokens and
    descriptions. prototypes: the losses of TEST (Sun et al. 2024); see `model.objectives.alignment`.
    """

    regression: RegressionSettings | None = None
    likelihood: LossSettings | None = None
    language: LossSettings | None = None
    contrast: SimilarityLossSettings | None = None
    prototypes: SimilarityLossSettings | None = None

    @property
    def uses_descriptions(self) -> bool:
        """Whether any of the terms is about descriptions."""
        return bool({"language", "contrast", "prototypes"} & set(self.given))
