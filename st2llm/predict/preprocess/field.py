"""The preprocessor of fields (sensor graphs, grids, videos): scaler, note vocabulary, base forecast, instruction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from st2llm.config.model import EncoderSettings
from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import FieldBatch, NoteVocabulary, fit_note_vocabulary, stack_fields
from st2llm.encode.scaler import FieldScaler, fit_scaler
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
from st2llm.predict.baselines.fields import LastValue, LinearInterpolation, WindowMean
from st2llm.predict.baselines.movement import predictions_from_log_probs
from st2llm.predict.preprocess.instruction import render_instruction, render_instructions, template_id
from st2llm.tasks import Task
from st2llm.types import DAY_S, Prediction, Sample, Serializer, TrainingWindows, check_training_windows
from st2llm.types.axes import FieldAxes

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
"""The rule behind each value of the setting `skip`: arms learn the residual of its forecast."""
_DEFAULT_ENCODER = EncoderSettings()


@dataclass(frozen=True)
class FieldPreprocessor:
    """Fitted on training windows alone, then the same for all arms. See `Preprocessor`.

    base_rule: the closed-form rule whose forecast arms correct, or None. template: writes the instruction before the
    soft tokens. slots: number of soft tokens. extra_features: features of windows that the encoder adds to the values.
    slot_means: means of each place by slot of the calendar that are subtracted from values before scaling; None
    subtracts the scaler's mean of each place. axes: the places and channels that all of these were fitted for.
    channel_independent: each place of a window is a row of the batches, and slots are those of one place. next_patch:
    steps of a patch where training windows ask for the patch after every patch; see `for_training`.
    """

    data_family: ClassVar[str] = "field"

    scaler: FieldScaler
    vocabulary: NoteVocabulary
    base_rule: BaselinePredictor | None
    template: Serializer | None
    slots: int
    extra_features: tuple[str, ...] = ()
    slot_means: HeldOutSlotMean | SlotMean | None = None
    axes: FieldAxes | None = None
    channel_independent: bool = False
    next_patch: int | None = None

    def collate(self, samples: Sequence[Sample], *, with_instructions: bool) -> FieldBatch:
        """Raises DataError for samples with other places or channels than those of training, or in another order."""
        for sample in samples:
            if self.axes is not None:
                self.axes.check(sample, "The scaler")
        base, level = self._base_forecast(samples), self._level(samples)
        batch = stack_fields(
            samples, self.scaler, self.vocabulary, base=base, level=level, extra_features=self.extra_features
        )
        batch = batch.split_places() if self.channel_independent else batch
        return self.with_instructions(batch, samples) if with_instructions else batch

    def for_training(self, batch: Any) -> Any:
        """The windows of a batch with the targets of training, which are more than those of the task: see
        `FieldBatch.with_next_patch_targets`.
        """
        return batch if self.next_patch is None else batch.with_next_patch_targets(self.next_patch)

    def rows(self, samples: int, places: int) -> int:
        """Rows of the batch of so many samples with so many places."""
        return samples * places if self.channel_independent else samples

    def _base_forecast(
        self, samples: Sequence[Sample]
    ) -> Float64[np.ndarray, "batch time node channel"] | None:
        """The forecast of the base rule, NaN where nothing is wanted."""
        if self.base_rule is None:
            return None
        predictions = self.base_rule.predict([sample.without_truth() for sample in samples])
        return np.stack([p.value for p in predictions if p.value is not None])

    def _level(self, samples: Sequence[Sample]) -> Float64[np.ndarray, "batch time node channel"] | None:
        """The slot mean at each entry, where values are differences from it."""
        if self.slot_means is None:
            return None
        return np.stack([self.slot_means.of(sample) for sample in samples])

    def error_scale(self, sample: Sample) -> Tensor:
        """See `FieldScaler.error_scale`; 1 where places are rows, whose standardised errors count alike.

        sample: one of the task, for the units of its channels.
        """
        if self.channel_independent:
            return torch.ones(1, self.scaler.std.shape[1])
        return torch.from_numpy(self.scaler.error_scale(sample.side)).float()

    def with_sampling_noise(self, batch: Any) -> Any:
        """The batch unchanged: heads of fields draw nothing."""
        return batch

    def postprocess(
        self, samples: Sequence[Sample], outputs: Float[Tensor, "batch *entry"]
    ) -> list[Prediction]:
        """An arm's output as predictions in raw units; class scores as rankings."""
        if samples[0].task == "classify":
            return predictions_from_log_probs(samples, outputs.cpu().numpy().astype(np.float64))
        standardised = outputs.cpu().numpy().astype(np.float64)
        if self.channel_independent:
            rows, time, _, channels = standardised.shape
            by_place = standardised.reshape(len(samples), rows // len(samples), time, channels)
            standardised = np.moveaxis(by_place, 1, 2)
        windows = self.scaler.unscale(standardised, self._level(samples))
        return [window_prediction(sample, row) for sample, row in zip(samples, windows, strict=True)]

    def postprocess_draws(
        self, samples: Sequence[Sample], draws: Float[Tensor, "draw batch time node channel"]
    ) -> list[Prediction]:
        """Predictions in raw units: the median, quantiles and the draws themselves."""
        raw = self.scaler.unscale(draws.cpu().numpy().astype(np.float64), self._level(samples))
        return [summarise_draws(sample, raw[:, row]) for row, sample in enumerate(samples)]

    def with_instructions(self, batch: Any, samples: Sequence[Sample]) -> Any:
        copies = self.rows(1, len(samples[0].place))
        texts = render_instructions(self.template, samples, self.slots)
        return replace(batch, prompts=tuple(text for text in texts for _ in range(copies)))

    def instruction(self, sample: Sample) -> str:
        """The text before the soft tokens of one sample; see `render_instruction`."""
        return render_instruction(self.template, sample, self.slots)

    def task_shape(self, sample: Sample, task: Task) -> FieldShape:
        """The sizes of an encoder for this task; without a context (imputation) it reads the whole window."""
        steps = task.context or task.length
        return self._shape(sample, history=steps, horizon=task.length - task.context, amid=not task.context)

    def window_shape(self, sample: Sample) -> FieldShape:
        """The sizes of an encoder that reads and predicts all steps of windows like this sample."""
        return self._shape(sample, history=len(sample.time), horizon=len(sample.time), amid=True)

    def _shape(self, sample: Sample, *, history: int, horizon: int, amid: bool) -> FieldShape:
        _, places, channels = sample.values.shape
        nodes = 1 if self.channel_independent else places
        return FieldShape(
            history=history,
            horizon=horizon,
            nodes=nodes,
            channels=channels,
            steps_per_day=steps_per_day(sample),
            note_words=len(self.vocabulary.words),
            amid=amid,
            classes=class_count(sample),
            ahead=() if amid else sample.channels_ahead,
        )

    def config(self) -> dict[str, Any]:
        return {"words": list(self.vocabulary.words), "instruction": template_id(self.template)}

    def scaler_state(self) -> dict[str, Any]:
        state = dict(self.scaler.to_json())
        own = LastValue | LinearInterpolation | WindowMean
        if self.base_rule is not None and isinstance(self.base_rule.rule, own):
            state["slots"] = self.base_rule.rule.means.to_json()
        if self.slot_means is not None:
            state["usual"] = self.slot_means.to_json()
        return state


def steps_per_day(sample: Sample) -> int:
    """Steps in a local day; 1 where steps are longer than a day or have no fixed length."""
    return max(1, DAY_S // sample.side.freq_s) if sample.side.freq_s else 1


def class_count(sample: Sample) -> int:
    """Number of classes of a classification sample; 0 for other tasks."""
    return len(sample.side.options) if sample.task == "classify" else 0


def summarise_draws(sample: Sample, draws: Float64[np.ndarray, "draw time node channel"]) -> Prediction:
    """A prediction with the median as its value, the quantiles and the draws, NaN where nothing is wanted."""
    wanted = np.where(sample.wanted, draws, np.nan)
    values = np.full((len(QUANTILE_LEVELS), *sample.values.shape), np.nan)
    values[:, sample.wanted] = np.quantile(wanted[:, sample.wanted], QUANTILE_LEVELS, axis=0)
    quantiles = dict(zip(QUANTILE_LEVELS, values, strict=True))
    return Prediction(window_prediction(sample, quantiles[0.5]).value, samples=wanted, quantiles=quantiles)


def fit_field_preprocessor(
    train: TrainingWindows,
    *,
    skip: str,
    template: Serializer | None,
    slots: int,
    encoder: EncoderSettings = _DEFAULT_ENCODER,
) -> FieldPreprocessor:
    """Fits scaler, note vocabulary and base rule on training windows.

    skip: a key of SKIPS, or 'none'. encoder: the settings that batches depend on. center_on: what is subtracted from
    values, each place's mean (`place`) or its mean in that slot of the calendar (`slot`); a training window is left out
    of its own slot means (`HeldOutSlotMean`). instance_norm: without a skip, arms correct the mean of each window.
    Raises ConfigError for an unknown skip, DataError for `slot` on windows without a clock.
    """
    check_training_windows(train, "A preprocessor")
    if skip not in (*SKIPS, "none"):
        raise ConfigError(f"There is no skip {skip!r}. {nearest(skip, (*SKIPS, 'none'))}")
    already_subtracted = (
        encoder.center_on == "slot" and skip == "slot"
    )  # the base rule would be the slot mean again
    skip = base_of_windows(skip, encoder)
    base_rule = None if skip == "none" or already_subtracted else fit_baseline(SKIPS[skip], train)
    slot_means = fit_held_out_slot_mean(train) if encoder.center_on == "slot" else None
    scaler = fit_scaler(train, slot_means.of if slot_means else None)
    return FieldPreprocessor(
        scaler,
        fit_note_vocabulary(train),
        base_rule,
        template,
        slots,
        encoder.extra_features,
        slot_means,
        FieldAxes.of_training(train),
        encoder.channel_independent,
        next_patch_of(encoder),
    )


def base_of_windows(skip: str, encoder: EncoderSettings) -> str:
    """The setting `skip` of arms with this encoder: where it norms windows, their means are added again."""
    return "level" if encoder.instance_norm and skip == "none" else skip


def next_patch_of(encoder: EncoderSettings) -> int | None:
    """Steps of a patch where arms learn to predict the patch after every patch; else None."""
    return encoder.patch if encoder.readout == "next-patch" else None
