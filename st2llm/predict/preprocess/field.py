"""What every arm of a comparison is shown: one scaler, one note vocabulary, one base forecast, one instruction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

from st2llm.encode.field_batch import FieldBatch, NoteVocabulary, fit_notes, stack
from st2llm.encode.scaler import Scaler, fit_scaler
from st2llm.errors import ConfigError, nearest
from st2llm.predict.baselines import (
    BaselinePredictor,
    HeldOutSlotMean,
    SlotMean,
    fit_baseline,
    fit_held_out_slot_mean,
    window_prediction,
)
from st2llm.predict.baselines.events import QUANTILE_LEVELS
from st2llm.predict.baselines.movement import predictions_from_scores
from st2llm.predict.preprocess.instruction import instruction
from st2llm.types import Prediction, Sample, Serializer

SKIPS = {
    "ridge": "ridge-deviation",
    "ridge-plain": "ridge",
    "ridge-held-out": "ridge-held-out",
    "ridge-centred": "ridge-centred",
    "slot": "hour-of-week",
    "last": "last-value",
    "level": "window-mean",
    "linear": "linear",
    "neighbours": "neighbours",
}


@dataclass(frozen=True)
class FieldPreprocessor:
    """Fitted on training windows alone, then the same for all arms.

    base: the closed-form rule whose answers arms correct, or None. template: writes the words before the soft tokens.
    slots: how many soft tokens there are. extra_features: features of windows that the encoder adds to the values.
    usual: what values are told as differences from, where that changes from slot to slot of the calendar; None is the
    scaler's mean of each place.
    """

    scaler: Scaler
    vocabulary: NoteVocabulary
    base: BaselinePredictor | None
    template: Serializer | None
    slots: int
    extra_features: tuple[str, ...] = ()
    usual: HeldOutSlotMean | SlotMean | None = None

    def collate(self, samples: Sequence[Sample], *, with_instructions: bool) -> FieldBatch:
        """Tensors of these samples; with `with_instructions`, also the words that a language model reads."""
        base, level = self._filled(samples), self._level(samples)
        batch = stack(
            samples, self.scaler, self.vocabulary, base=base, level=level, extra_features=self.extra_features
        )
        return self.with_instructions(batch, samples) if with_instructions else batch

    def _filled(self, samples: Sequence[Sample]) -> Float64[np.ndarray, "batch time node channel"] | None:
        """The closed-form answers that arms correct, NaN where they say nothing."""
        if self.base is None:
            return None
        answers = self.base.predict([sample.without_truth() for sample in samples])
        return np.stack([answer.value for answer in answers if answer.value is not None])

    def _level(self, samples: Sequence[Sample]) -> Float64[np.ndarray, "batch time node channel"] | None:
        """What is usual at each entry, where differences from it are told."""
        return None if self.usual is None else np.stack([self.usual.of(sample) for sample in samples])

    def with_sampling_noise(self, batch: Any) -> Any:
        """A batch as it is asked about: fields need nothing more."""
        return batch

    def postprocess(
        self, samples: Sequence[Sample], outputs: Float[Tensor, "batch *entry"]
    ) -> list[Prediction]:
        """What an arm said of these samples, as predictions in raw units; scores of classes as rankings."""
        if samples[0].task == "classify":
            return predictions_from_scores(samples, outputs.cpu().numpy().astype(np.float64))
        rows = self.scaler.unscale(outputs.cpu().numpy().astype(np.float64), self._level(samples))
        return [window_prediction(sample, row) for sample, row in zip(samples, rows, strict=True)]

    def postprocess_draws(
        self, samples: Sequence[Sample], draws: Float[Tensor, "draw batch time node channel"]
    ) -> list[Prediction]:
        """Draws of what these samples ask, as predictions in raw units: the median, quantiles and the draws."""
        raw = self.scaler.unscale(draws.cpu().numpy().astype(np.float64), self._level(samples))
        return [summarise_draws(sample, raw[:, row]) for row, sample in enumerate(samples)]

    def with_instructions(self, batch: Any, samples: Sequence[Sample]) -> Any:
        return replace(batch, words=tuple(self.instruction(sample) for sample in samples))

    def instruction(self, sample: Sample) -> str:
        """The instruction of one sample; see `instruction`."""
        return instruction(self.template, sample, self.slots)


def summarise_draws(sample: Sample, draws: Float64[np.ndarray, "draw time node channel"]) -> Prediction:
    """The median, the quantiles and the draws themselves."""
    asked = np.where(sample.wanted, draws, np.nan)
    levels = np.full((len(QUANTILE_LEVELS), *sample.values.shape), np.nan)
    levels[:, sample.wanted] = np.quantile(asked[:, sample.wanted], QUANTILE_LEVELS, axis=0)
    quantiles = dict(zip(QUANTILE_LEVELS, levels, strict=True))
    return Prediction(window_prediction(sample, quantiles[0.5]).value, samples=asked, quantiles=quantiles)


def fit_field_preprocessor(
    train: Sequence[Sample],
    *,
    skip: str,
    template: Serializer | None,
    slots: int,
    extra_features: tuple[str, ...] = (),
    center_on: str = "place",
) -> FieldPreprocessor:
    """Fits scaler, vocabulary and base forecast. skip: one of SKIPS, or 'none' (ConfigError otherwise).

    center_on: what values are told as differences from, each place's mean (`place`) or its mean in that slot of the
    calendar (`slot`), of which a training window is held out (`HeldOut`; DataError for windows without a clock).
    """
    if skip not in (*SKIPS, "none"):
        raise ConfigError(f"There is no skip {skip!r}. {nearest(skip, (*SKIPS, 'none'))}")
    from_usual = center_on == "slot" and skip == "slot"  # then no base says what the level says
    base = None if skip == "none" or from_usual else fit_baseline(SKIPS[skip], train)
    usual = fit_held_out_slot_mean(train) if center_on == "slot" else None
    scaler = fit_scaler(train, usual.of if usual else None)
    return FieldPreprocessor(scaler, fit_notes(train), base, template, slots, extra_features, usual)
