"""Settings of what training minimises: the terms of a loss, by name."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from st2llm.config import Settings

MaskPolicy = Literal["random", "tube", "block", "span", "future", "cluster"]
"""Which entries masked pre-training hides; see `model.objectives.masks`."""
Weighting = Literal["fixed", "uncertainty", "gradnorm", "pcgrad"]
"""How several terms share the weights of a module; see `train.loop.weighting`."""


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
    readings. per_place: a token holds the readings of one place, not of all, and all places share the weights.
    """

    ratio: float = Field(0.25, gt=0, lt=1)
    observed: float = Field(0.05, ge=0)
    per_place: bool = False


class VideoMaeSettings(LossSettings):
    """Masked pixels of clips by VideoMAE (Tong et al. 2022); of the encoder, d_st and layers are those of its encoder.

    ratio: share of the regions whose pixels are hidden in all frames. tubelet: frames of a token. decoder_width,
    decoder_layers: of the decoder, which is smaller than the encoder.
    """

    ratio: float = Field(0.9, gt=0, lt=1)
    tubelet: int = Field(2, ge=1)
    decoder_width: int = Field(64, ge=4, multiple_of=4)
    decoder_layers: int = Field(1, ge=1)


class LossTerms(Settings):
    """Named terms of a loss, each given or None."""

    @property
    def given(self) -> dict[str, Any]:
        """The settings of the terms that are given, by name."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}


class PretrainObjectives(LossTerms):
    """What `st2llm pretrain` minimises: the weighted sum of the terms that are given.

    regression: mean absolute (or squared) error of the hidden entries of fields. likelihood: the proper score of a
    sequence head: nats of the next place or event, the energy score of a path. saits, videomae: alone, with a model of
    their own.
    """

    regression: RegressionSettings | None = None
    likelihood: LossSettings | None = None
    masked: MaskedSettings | None = None
    contrastive: ContrastiveSettings | None = None
    diffusion: DiffusionSettings | None = None
    saits: SaitsSettings | None = None
    videomae: VideoMaeSettings | None = None


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


class EarlierObjectives(Settings):
    """The objectives of the first part of a training run. weighting: of their losses. share: of its steps."""

    objectives: PretrainObjectives
    weighting: Weighting = "fixed"
    share: float = Field(0.5, gt=0, lt=1)


OBJECTIVES_OF_KIND: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("graph", "grid"), ("regression", "masked", "contrastive", "diffusion", "saits")),
    "video": ("regression", "masked", "contrastive", "diffusion", "saits", "videomae"),
    "trajectory": ("likelihood", "masked", "contrastive", "diffusion"),
}
"""What `objectives` of a predictor may name, by kind of data."""


class TrainedByObjectives(Settings):
    """How a predictor of a suite is trained by objectives or data of its own."""

    objectives: PretrainObjectives | None = None
    """Of a primitive predictor without a backbone: trains the suite's encoder on whole windows by these terms, as
    `st2llm pretrain` does, in place of the loss of the task alone; see `evaluate.run.runners.objectives`."""
    weighting: Weighting = "fixed"
    """Of a predictor with several `objectives`: how they are combined; see `st2llm pretrain`."""
    first: EarlierObjectives | None = None
    """Of a predictor with `objectives`: those that it is trained by before, in a share of its steps."""

    trained_on: tuple[str, ...] = ()
    """Of a primitive predictor without a backbone: the data sets on whose training windows it is trained together, in
    place of the suite's own; see `evaluate.run.runners.joint`."""
    closed_form: bool = False
    """Of a predictor with `trained_on`: a ridge regression, in place of an encoder."""

    @property
    def has_own_training(self) -> bool:
        """Whether it is trained otherwise than the other arms of its suite."""
        return self.objectives is not None or bool(self.trained_on)

    def check_predictor(self, name: str, *, native: bool) -> None:
        """Raises ValueError where a predictor that has other objectives than its task is not one that can.

        native: whether it is trained here, without a backbone.
        """
        own = TrainedByObjectives(**{key: getattr(self, key) for key in TrainedByObjectives.model_fields})
        if own == TrainedByObjectives():
            return
        if not native:
            raise ValueError(
                f"`objectives`, `weighting`, `first`, `trained_on` and `closed_form` are for primitive predictors with "
                f"`backbone: none`, which {name!r} is not"
            )
        if self.trained_on and self.objectives is not None:
            raise ValueError(f"{name!r} has `objectives` and `trained_on`; give one of them")
        if self.closed_form and not self.trained_on:
            raise ValueError(f"`closed_form` of {name!r} needs `trained_on` beside it")
        if self.objectives is None and not self.trained_on:
            raise ValueError(f"`weighting` and `first` of {name!r} need `objectives` beside them")

    def check_suite(self, name: str, *, kind: str, given: Sequence[str]) -> None:
        """Raises ValueError for an objective that data of this kind do not have, and where a suite starts its trained
        predictors from something. given: the settings by which it does.
        """
        given = [key for key in given if key != "skip" or self.objectives is not None]
        if given:
            raise ValueError(
                f"{name!r} has `objectives` or `trained_on`, so it is trained from nothing: leave out {given[0]}"
            )
        if self.trained_on and kind not in ("graph", "grid"):
            raise ValueError(
                f"{name!r} has `trained_on`, which is for graphs and grids, but the kind is {kind}"
            )
        known = OBJECTIVES_OF_KIND.get(kind, ())
        parts = [self.objectives, None if self.first is None else self.first.objectives]
        for term in (term for part in parts if part is not None for term in part.given):
            if term not in known:
                raise ValueError(
                    f"{name!r} has the objective {term!r}, but {kind} has {', '.join(known) or 'none in suites'}"
                )
