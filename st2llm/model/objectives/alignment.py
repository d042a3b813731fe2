"""Objectives that align soft tokens with a language model's embedding space, on samples with captions.

All are for an Arm whose backbone is a language model. `WithoutCaptions` combines them with objectives that need
no captions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.encode.batch import Batch
from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.point_batch import PointBatch
from st2llm.llm.architecture.base_model import base_of, check_context
from st2llm.llm.architecture.text_lengths import TextLengths
from st2llm.llm.local import LanguageModel
from st2llm.model.arm import Arm
from st2llm.model.backbone import LLMBackbone
from st2llm.model.objectives.contrastive import info_nce
from st2llm.model.objectives.objective import Objective, SingleTermObjective
from st2llm.model.prompt_cache import mean_state
from st2llm.model.prompted import answer_nats

CAPTION_CUE = "\nDescription:"
"""The text between the soft tokens and the caption."""
_TEXTS_PER_PASS = 16


@dataclass(frozen=True)
class CaptionedBatch:
    """Samples with their captions."""

    data: Any
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)

    def take(self, rows: Sequence[int]) -> "CaptionedBatch":
        return CaptionedBatch(self.data.take(rows), tuple(self.captions[i] for i in rows))

    def to(self, device: torch.device) -> "CaptionedBatch":
        return replace(self, data=self.data.to(device))


class WithoutCaptions:
    """Applies an objective of samples to samples with captions."""

    def __init__(self, term: Objective) -> None:
        self.term = term
        self.term_weights, self.whole_batch = term.term_weights, term.whole_batch
        self.weighting = term.weighting
        self.counts, self.totals, self.selection_score = term.counts, term.totals, term.selection_score

    def draw(self, batch: CaptionedBatch, generator: torch.Generator) -> Any:
        return self.term.draw(batch.data, generator)


class CaptioningObjective(SingleTermObjective):
    """Negative log-likelihood in nats per caption token, after the soft tokens (data-to-text language modelling)."""

    name = "language"

    def __init__(self, llm: LanguageModel) -> None:
        self.tokenizer = llm.tokenizer

    def counts(self, batch: CaptionedBatch) -> dict[str, int]:
        return {self.name: sum(len(answer) for answer in self._answers(batch))}

    def totals(self, arm: nn.Module, batch: CaptionedBatch) -> dict[str, Tensor]:
        llm, soft = _llm_and_soft_tokens(arm, batch.data)
        cue = llm.embed(CAPTION_CUE)
        prompts = [torch.cat([row.to(llm.dtype), cue]) for row in soft]
        return {self.name: answer_nats(llm, prompts, self._answers(batch))}

    def _answers(self, batch: CaptionedBatch) -> list[list[int]]:
        return [self.tokenizer.answer_ids(f" {caption}") for caption in batch.captions]


class ContrastiveAlignment(SingleTermObjective):
    """Symmetric InfoNCE in nats between the language model's representations of soft tokens and of captions.

    Either side is the mean of the model's last states, centred over the batch (CLIP's loss, Radford et al.
    2021). Equal captions are not negatives of each other.
    """

    name = "contrast"
    whole_batch = True

    def __init__(self, temperature: float = 0.07) -> None:
        self.temperature = temperature
        self.embedded_captions: dict[str, Tensor] = {}

    def counts(self, batch: CaptionedBatch) -> dict[str, int]:
        return {self.name: 2 * len(batch)}

    def totals(self, arm: nn.Module, batch: CaptionedBatch) -> dict[str, Tensor]:
        llm, soft = _llm_and_soft_tokens(arm, batch.data)
        soft, text = (
            _centre_and_normalise(mean_soft_state(arm, soft)),
            _centre_and_normalise(self._embed_captions(llm, batch.captions)),
        )
        same = torch.tensor([[a == b for b in batch.captions] for a in batch.captions], device=soft.device)
        return {
            self.name: info_nce(soft[None], text[None], same, self.temperature)
            + info_nce(text[None], soft[None], same, self.temperature)
        }

    def _embed_captions(self, llm: LanguageModel, captions: Sequence[str]) -> Float[Tensor, "batch d_lm"]:
        missing = sorted(set(captions) - set(self.embedded_captions))
        if missing:
            for text, row in zip(missing, mean_text_states(llm, missing), strict=True):
                self.embedded_captions[text] = row
        return torch.stack([self.embedded_captions[caption] for caption in captions])


class PrototypeAlignment(SingleTermObjective):
    """TEST's alignment (Sun et al. 2024) of two views of a sample with text prototypes, in nats.

    instance: contrast between the views of a sample and other samples. feature: contrast between the batch's
    similarities to each prototype and those to other prototypes. near: one minus the cosine to the nearest
    prototype.
    """

    name = "prototypes"
    whole_batch = True

    def __init__(
        self, rows: Float[Tensor, "prototype d_lm"], *, temperature: float = 0.1, strength: float = 0.1
    ) -> None:
        self.prototypes, self.temperature, self.strength = _normalise(rows), temperature, strength

    def draw(self, batch: CaptionedBatch, generator: torch.Generator) -> CaptionedBatch:
        return CaptionedBatch(
            _ViewPair(self._augment(batch.data, generator), self._augment(batch.data, generator)),
            batch.captions,
        )

    def counts(self, batch: CaptionedBatch) -> dict[str, int]:
        return {self.name: len(batch)}

    def totals(self, arm: nn.Module, batch: CaptionedBatch) -> dict[str, Tensor]:
        first, second = (
            _normalise(_llm_and_soft_tokens(arm, view)[1].mean(dim=1))
            for view in (batch.data.first, batch.data.second)
        )
        prototypes = self.prototypes.to(first.device)
        diagonal = torch.eye(len(batch), dtype=torch.bool, device=first.device)
        instance = info_nce(first[None], second[None], diagonal, self.temperature) / len(batch)
        feature_rows = [_normalise((z @ prototypes.T).T) for z in (first, second)]
        feature_diagonal = torch.eye(len(prototypes), dtype=torch.bool, device=first.device)
        feature = info_nce(
            feature_rows[0][None], feature_rows[1][None], feature_diagonal, self.temperature
        ) / len(prototypes)
        near = (1 - (first @ prototypes.T).amax(dim=1)).mean()
        return {self.name: len(batch) * (instance + feature + near)}

    def _augment(self, batch: Any, generator: torch.Generator) -> Any:
        if isinstance(batch, FieldBatch):
            mask = (torch.rand(batch.visible.shape, generator=generator) < self.strength).to(
                batch.values.device
            )
            return replace(batch, values=batch.values.masked_fill(mask, 0.0), visible=batch.visible & ~mask)
        noise = torch.randn(batch.numbers.shape, generator=generator).to(batch.numbers.device)
        return replace(batch, numbers=batch.numbers + self.strength * noise * batch.real[..., None])


@dataclass(frozen=True)
class _ViewPair:
    first: Batch
    second: Batch

    def take(self, rows: Sequence[int]) -> "_ViewPair":
        return _ViewPair(self.first.take(rows), self.second.take(rows))

    def to(self, device: torch.device) -> "_ViewPair":
        return _ViewPair(self.first.to(device), self.second.to(device))


def mean_soft_state(arm: nn.Module, soft: Float[Tensor, "batch slot d_lm"]) -> Float[Tensor, "batch d_lm"]:
    """The mean of the language model's last states over the soft tokens, without a prompt before them, [batch,
    d_lm].
    """
    backbone: LLMBackbone = arm.backbone  # type: ignore[assignment]
    states, _ = backbone(soft, ("",) * len(soft))
    mean: Tensor = states.mean(dim=1)
    return mean


@torch.no_grad()
def mean_text_states(llm: LanguageModel, texts: Sequence[str]) -> Float[Tensor, "text d_lm"]:
    """The mean of the language model's last states over the tokens of each text, in fp32, [text, d_lm]."""
    lengths = TextLengths(base_of(llm.model))
    means: dict[int, Tensor] = {}
    for length_class, members in lengths.groups([len(llm.tokenizer.encode(text)) for text in texts]):
        with lengths.reading(length_class):
            for start in range(0, len(members), _TEXTS_PER_PASS):
                chunk = members[start : start + _TEXTS_PER_PASS]
                means.update(zip(chunk, _mean_states(llm, [texts[i] for i in chunk]), strict=True))
    return torch.stack([means[i] for i in range(len(texts))])


def _mean_states(llm: LanguageModel, texts: Sequence[str]) -> Float[Tensor, "text d_lm"]:
    """The mean states of texts in one pass, padded on the right."""
    rows = [llm.embed(text) for text in texts]
    longest = max(len(row) for row in rows)
    check_context(llm.model, longest)
    batch = torch.stack([nn.functional.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
    lengths = torch.tensor([len(row) for row in rows], device=batch.device)
    real = torch.arange(longest, device=batch.device) < lengths[:, None]
    states = base_of(llm.model)(
        inputs_embeds=batch, attention_mask=real.long(), use_cache=False
    ).last_hidden_state
    return mean_state(states.float(), real)


def _llm_and_soft_tokens(
    arm: nn.Module, data: FieldBatch | PointBatch
) -> tuple[LanguageModel, Float[Tensor, "batch slot d_lm"]]:
    aligned_arm: Arm = arm  # type: ignore[assignment]
    backbone: LLMBackbone = aligned_arm.backbone  # type: ignore[assignment]
    return backbone.llm, aligned_arm.soft_tokens(data)


def _centre_and_normalise(z: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
    return _normalise(z - z.mean(dim=0, keepdim=True))


def _normalise(z: Float[Tensor, "row d"]) -> Float[Tensor, "row d"]:
    made: Tensor = nn.functional.normalize(z, dim=-1)
    return made
