"""Samples of fields stacked into tensors once, so that a training step only picks rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from st2llm.data.calendar import month_of_year
from st2llm.encode.batch import TensorBatch, label_index, random_scales
from st2llm.encode.extra_features import window_features
from st2llm.encode.scaler import FieldScaler
from st2llm.errors import DataError
from st2llm.types import Sample, TrainingWindows, check_training_windows

_LEAST_VARIANCE = 1e-5
"""Added to the variance of a window, as RevIN does, so that a constant window is not divided by 0."""
_FIELDS_OF_PLACES = ("values", "visible", "base", "target", "valid")
"""The tensors of a batch with an axis of places."""


@dataclass(frozen=True)
class FieldBatch(TensorBatch):
    """Stacked windows of one field with all their steps; masks separate what is visible from what is predicted.

    values: standardised, 0 where not visible. base: standardised baseline prediction of the target entries,
    which an arm corrects (0 where there is none). target: standardised truth, 0 where not valid. valid: target
    entries whose truth is known. calendar columns: step of day, day of week, holiday (0 or 1), month (0 to 11).
    notes: ids of note words in the training vocabulary, padded with 0. features: window features of frozen
    encoders (see `encode.extra_features`), of size 0 where none is used. label: class index of each window; -1
    where none is asked for, or it is not known. prompts: the text that a language model reads before the soft
    tokens ('' for none).
    """

    values: Float32[Tensor, "batch time node channel"]
    visible: Bool[Tensor, "batch time node channel"]
    calendar: Int64[Tensor, "batch time 4"]
    base: Float32[Tensor, "batch time node channel"]
    target: Float32[Tensor, "batch time node channel"]
    valid: Bool[Tensor, "batch time node channel"]
    notes: Int64[Tensor, "batch note"]
    features: Float32[Tensor, "batch feature"]
    label: Int64[Tensor, " batch"]
    prompts: tuple[str, ...]

    def unmask(self) -> "FieldBatch":
        """The same windows with known target entries visible: whole windows for pre-training."""
        return replace(
            self,
            values=torch.where(self.valid, self.target, self.values),
            visible=self.visible | self.valid,
            valid=torch.zeros_like(self.valid),
        )

    def mask_out(self, mask: Bool[Tensor, "batch time node channel"]) -> "FieldBatch":
        """The same windows with `mask` hidden; the entries that were visible under the mask become the target.

        Former targets are dropped; base and features are set to 0, because they were computed from entries that
        are hidden now.
        """
        newly_hidden = mask & self.visible
        return replace(
            self,
            values=self.values.masked_fill(mask, 0.0),
            visible=self.visible & ~mask,
            base=torch.zeros_like(self.base),
            features=torch.zeros_like(self.features),
            target=self.values.masked_fill(~newly_hidden, 0.0),
            valid=newly_hidden,
        )

    def instance_statistics(
        self, history: int | None = None
    ) -> tuple[Float32[Tensor, "batch 1 node channel"], Float32[Tensor, "batch 1 node channel"]]:
        """Mean and standard deviation of the visible values of each place in each window (RevIN, Kim et al. 2022).

        history: of the first so many steps; None means of all.
        """
        values = self.values[:, :history]
        mask = self.visible[:, :history].to(values.dtype)
        count = mask.sum(dim=1, keepdim=True).clamp(min=1)
        mean = (values * mask).sum(dim=1, keepdim=True) / count
        variance = ((values - mean) ** 2 * mask).sum(dim=1, keepdim=True) / count
        return mean, (variance + _LEAST_VARIANCE).sqrt()

    def split_places(self) -> "FieldBatch":
        """Each place of each window as a row of its own, the places of a window one after the other.

        Without prompts; `prompts` of the rows are set afterwards.
        """
        places = self.values.shape[2]
        fields = {name: getattr(self, name) for name in self.tensor_names()}
        rows = {
            name: tensor.movedim(2, 1).flatten(0, 1).unsqueeze(2)
            if name in _FIELDS_OF_PLACES
            else tensor.repeat_interleave(places, dim=0)
            for name, tensor in fields.items()
        }
        return replace(self, prompts=("",) * (len(self) * places), **rows)

    def with_next_patch_targets(self, patch: int) -> "FieldBatch":
        """The same windows with all steps from the second patch to the first of the horizon as target.

        Every patch is then followed by a target, as every word of a text is in the training of language models.
        """
        steps = torch.arange(self.values.shape[1], device=self.values.device)[:, None, None]
        context = self.visible.any(dim=(0, 2, 3)).nonzero().max() + 1
        first = self.valid & (steps < context + patch)
        seen = self.visible & (steps >= patch)
        return replace(self, target=torch.where(seen, self.values, self.target), valid=first | seen)

    def steps(self, first: int, end: int) -> "FieldBatch":
        """The steps of these windows from `first` to before `end`."""
        names = ("values", "visible", "calendar", "base", "target", "valid")
        return replace(self, **{name: getattr(self, name)[:, first:end] for name in names})

    def continued(self, start: int, x: Float32[Tensor, "batch step node channel"]) -> "FieldBatch":
        """The same windows with the steps from `start` on visible, with the values `x`."""
        values, visible, end = self.values.clone(), self.visible.clone(), start + x.shape[1]
        values[:, start:end], visible[:, start:end] = x, True
        return replace(self, values=values, visible=visible)

    @property
    def target_mask(self) -> Bool[Tensor, "batch time node channel"]:
        """The target entries whose truth is known; noise is learned on them."""
        return self.valid

    @property
    def hidden_mask(self) -> Bool[Tensor, "batch time node channel"]:
        """The entries that are not visible, which a diffusion model samples."""
        return ~self.visible

    def residual(self) -> Float32[Tensor, "batch time node channel"]:
        """The target minus the base, 0 outside valid entries."""
        return (self.target - self.base) * self.valid

    def add_base(
        self, x: Float32[Tensor, "batch time node channel"]
    ) -> Float32[Tensor, "batch time node channel"]:
        """The prediction whose residual is `x`."""
        return self.base + x

    def with_noised(self, x: Float32[Tensor, "batch time node channel"]) -> "FieldBatch":
        """The same windows with `x` in place of hidden entries."""
        return replace(self, values=torch.where(self.visible, self.values, x))

    def augment(self, augmentation: str, strength: float, generator: torch.Generator) -> "FieldBatch":
        """An augmented copy: entries hidden ('hide'), Gaussian noise ('noise'), or whole windows scaled ('scale')."""
        device, shape = self.values.device, self.values.shape
        if augmentation == "hide":
            mask = torch.rand(shape, generator=generator).to(device) < strength
            return replace(self, values=self.values.masked_fill(mask, 0.0), visible=self.visible & ~mask)
        if augmentation == "noise":
            noise = torch.randn(shape, generator=generator).to(device)
            return replace(self, values=self.values + strength * noise * self.visible)
        return replace(self, values=self.values * random_scales(len(self), 4, strength, generator).to(device))


@dataclass(frozen=True)
class NoteVocabulary:
    """Words of the training notes, numbered from 2; 1 is a word not seen in training, 0 is padding."""

    words: tuple[str, ...]

    def ids(self, notes: Sequence[str]) -> list[int]:
        id_of = {word: i + 2 for i, word in enumerate(self.words)}
        return [id_of.get(word, 1) for word in _note_words(notes)]


def fit_note_vocabulary(train: TrainingWindows) -> NoteVocabulary:
    """The vocabulary of the notes of the training windows (empty where there are no notes)."""
    check_training_windows(train, "A vocabulary of notes")
    return NoteVocabulary(
        tuple(sorted({word for sample in train for word in _note_words(sample.side.notes)}))
    )


def _note_words(notes: Sequence[str]) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in " ".join(notes).lower()).split()


def stack_fields(
    samples: Sequence[Sample],
    scaler: FieldScaler,
    vocabulary: NoteVocabulary,
    *,
    base: Float64[np.ndarray, "batch time node channel"] | None = None,
    level: Float64[np.ndarray, "batch time node channel"] | None = None,
    extra_features: Sequence[str] = (),
) -> FieldBatch:
    """Stacks samples of one task.

    base: baseline prediction in raw units, NaN where it has no value; without it, arms predict from 0. level:
    reference values in raw units from which values are expressed as differences; without it, the scaler's mean.
    extra_features: the window features that are computed. A sample without truth gets an all-False `valid`.
    Raises DataError for samples of different sizes.
    """
    mismatched = next((s for s in samples if s.values.shape != samples[0].values.shape), None)
    if mismatched is not None:
        raise DataError(
            f"Windows of one size are stacked, but {samples[0].id} has {samples[0].values.shape} steps, places and "
            f"channels and {mismatched.id} has {mismatched.values.shape}. Ask for windows of one length "
            f"(task.classify.length)."
        )
    values = np.stack([s.values for s in samples])
    visible = np.stack([s.visible for s in samples])
    wanted = np.stack([s.wanted for s in samples])
    nan_truth = np.full(samples[0].values.shape, np.nan)
    truth = np.stack([nan_truth if s.truth is None else s.truth for s in samples])
    valid = wanted & np.isfinite(truth)
    ids = [vocabulary.ids(s.side.notes) for s in samples]
    width = max(1, max(len(row) for row in ids))
    scaled_base = np.zeros(truth.shape) if base is None else np.nan_to_num(scaler.scale(base, level))
    return FieldBatch(
        values=_float(np.where(visible, scaler.scale(values, level), 0.0)),
        visible=torch.from_numpy(visible),
        calendar=torch.from_numpy(np.stack([_calendar_columns(s) for s in samples])),
        base=_float(scaled_base),
        target=_float(np.where(valid, scaler.scale(truth, level), 0.0)),
        valid=torch.from_numpy(valid),
        notes=torch.tensor([row + [0] * (width - len(row)) for row in ids], dtype=torch.int64),
        features=window_features(samples, extra_features),
        label=torch.tensor([label_index(s) for s in samples], dtype=torch.int64),
        prompts=("",) * len(samples),
    )


def _calendar_columns(sample: Sample) -> Int64[np.ndarray, "time 4"]:
    calendar = sample.side.calendar
    holiday = np.array([bool(name) for name in calendar.holiday], dtype=np.int64)
    month = month_of_year(sample.time, sample.side.freq_s)
    return np.stack([calendar.step_of_day, calendar.day_of_week, holiday, month], axis=1)


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
