"""What brings soft tokens into a language model's space: objectives on samples with descriptions.

All are for an Arm whose backbone is a language model. `Of` lets an objective of windows alone stand beside them.
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
from st2llm.llm.local import LanguageModel
from st2llm.model.arm import Arm
from st2llm.model.backbone import LLMBackbone, mean_state
from st2llm.model.objectives.contrastive import info_nce
from st2llm.model.objectives.objective import Objective, OneTerm
from st2llm.model.prompted import nats

CUE = "\nDescription:"
"""The words between soft tokens and the description that follows from them."""
_CHUNK = 16


@dataclass(frozen=True)
class Told:
    """Samples with their descriptions in words."""

    data: Any
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)

    def take(self, rows: Sequence[int]) -> "Told":
        return Told(self.data.take(rows), tuple(self.captions[i] for i in rows))

    def to(self, device: torch.device) -> "Told":
        return replace(self, data=self.data.to(device))


class Of:
    """An objective of windows, for windows that are told as well."""

    def __init__(self, term: Objective) -> None:
        self.term = term
        self.shares, self.whole_batch = term.shares, term.whole_batch
        self.counts, self.totals, self.value = term.counts, term.totals, term.value

    def draw(self, batch: Told, generator: torch.Generator) -> Any:
        return self.term.draw(batch.data, generator)


class Captioning(OneTerm):
    """Nats a token of the description, after the soft tokens (data-to-text language modelling)."""

    name = "language"

    def __init__(self, llm: LanguageModel) -> None:
        self.tokenizer = llm.tokenizer

    def counts(self, batch: Told) -> dict[str, int]:
        return {self.name: sum(len(answer) for answer in self._answers(batch))}

    def totals(self, arm: nn.Module, batch: Told) -> dict[str, Tensor]:
        llm, soft = _parts(arm, batch.data)
        cue = llm.embed(CUE)
        prompts = [torch.cat([row.to(llm.dtype), cue]) for row in soft]
        return {self.name: nats(llm, prompts, self._answers(batch))}

    def _answers(self, batch: Told) -> list[list[int]]:
        return [self.tokenizer.answer_ids(f" {caption}") for caption in batch.captions]


class Matching(OneTerm):
    """InfoNCE both ways between what soft tokens and their descriptions mean to the language model, in nats.

    Either side is the mean of the model's last states, less its mean over the batch (CLIP's loss, Radford et al. 2021).
    Equal descriptions are no negatives of each other.
    """

    name = "contrast"
    whole_batch = True

    def __init__(self, temperature: float = 0.07) -> None:
        self.temperature = temperature
        self.known: dict[str, Tensor] = {}

    def counts(self, batch: Told) -> dict[str, int]:
        return {self.name: 2 * len(batch)}

    def totals(self, arm: nn.Module, batch: Told) -> dict[str, Tensor]:
        llm, soft = _parts(arm, batch.data)
        ours, theirs = _unit(meaning(arm, soft)), _unit(self._embedded(llm, batch.captions))
        same = torch.tensor([[a == b for b in batch.captions] for a in batch.captions], device=ours.device)
        return {
            self.name: info_nce(ours[None], theirs[None], same, self.temperature)
            + info_nce(theirs[None], ours[None], same, self.temperature)
        }

    def _embedded(self, llm: LanguageModel, captions: Sequence[str]) -> Float[Tensor, "batch d_lm"]:
        unknown = sorted(set(captions) - set(self.known))
        if unknown:
            for text, row in zip(unknown, embedded(llm, unknown), strict=True):
                self.known[text] = row
        return torch.stack([self.known[caption] for caption in captions])


class Prototyped(OneTerm):
    """TEST's alignment (Sun et al. 2024) of two views of a sample with text prototypes, in nats.

    instance: a sample's views find each other among the batch. feature: what the batch's views say along each
    prototype finds itself among all prototypes. near: one less the cosine to the nearest prototype.
    """

    name = "prototypes"
    whole_batch = True

    def __init__(
        self, rows: Float[Tensor, "prototype d_lm"], *, temperature: float = 0.1, strength: float = 0.1
    ) -> None:
        self.rows, self.temperature, self.strength = _lengthened(rows), temperature, strength

    def draw(self, batch: Told, generator: torch.Generator) -> Told:
        return Told(
            _Pair(self._view(batch.data, generator), self._view(batch.data, generator)), batch.captions
        )

    def counts(self, batch: Told) -> dict[str, int]:
        return {self.name: len(batch)}

    def totals(self, arm: nn.Module, batch: Told) -> dict[str, Tensor]:
        first, second = (
            _lengthened(_parts(arm, view)[1].mean(dim=1)) for view in (batch.data.first, batch.data.second)
        )
        rows = self.rows.to(first.device)
        apart = torch.eye(len(batch), dtype=torch.bool, device=first.device)
        instance = info_nce(first[None], second[None], apart, self.temperature) / len(batch)
        along = [_lengthened((z @ rows.T).T) for z in (first, second)]
        itself = torch.eye(len(rows), dtype=torch.bool, device=first.device)
        feature = info_nce(along[0][None], along[1][None], itself, self.temperature) / len(rows)
        near = (1 - (first @ rows.T).amax(dim=1)).mean()
        return {self.name: len(batch) * (instance + feature + near)}

    def _view(self, batch: Any, generator: torch.Generator) -> Any:
        if isinstance(batch, FieldBatch):
            mask = (torch.rand(batch.visible.shape, generator=generator) < self.strength).to(
                batch.values.device
            )
            return replace(batch, values=batch.values.masked_fill(mask, 0.0), visible=batch.visible & ~mask)
        noise = torch.randn(batch.numbers.shape, generator=generator).to(batch.numbers.device)
        return replace(batch, numbers=batch.numbers + self.strength * noise * batch.real[..., None])


@dataclass(frozen=True)
class _Pair:
    first: Batch
    second: Batch

    def take(self, rows: Sequence[int]) -> "_Pair":
        return _Pair(self.first.take(rows), self.second.take(rows))

    def to(self, device: torch.device) -> "_Pair":
        return _Pair(self.first.to(device), self.second.to(device))


def meaning(arm: nn.Module, soft: Float[Tensor, "batch slot d_lm"]) -> Float[Tensor, "batch d_lm"]:
    """What soft tokens mean to the language model: the mean of its last states, no words before them."""
    backbone: LLMBackbone = arm.backbone  # type: ignore[assignment]
    states, _ = backbone(soft, ("",) * len(soft))
    mean: Tensor = states.mean(dim=1)
    return mean


@torch.no_grad()
def embedded(llm: LanguageModel, texts: Sequence[str]) -> Float[Tensor, "text d_lm"]:
    """What texts mean to the language model: the mean of its last states over their tokens, in fp32."""
    found = []
    for start in range(0, len(texts), _CHUNK):
        rows = [llm.embed(text) for text in texts[start : start + _CHUNK]]
        longest = max(len(row) for row in rows)
        batch = torch.stack([nn.functional.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
        lengths = torch.tensor([len(row) for row in rows], device=batch.device)
        real = torch.arange(longest, device=batch.device) < lengths[:, None]
        states = llm.model.base_model(
            inputs_embeds=batch, attention_mask=real.long(), use_cache=False
        ).last_hidden_state
        found.append(mean_state(states.float(), real))
    return torch.cat(found)


def _parts(
    arm: nn.Module, data: FieldBatch | PointBatch
) -> tuple[LanguageModel, Float[Tensor, "batch slot d_lm"]]:
    bridge: Arm = arm  # type: ignore[assignment]
    backbone: LLMBackbone = bridge.backbone  # type: ignore[assignment]
    return backbone.llm, bridge.soft(data)


def _unit(z: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
    return _lengthened(z - z.mean(dim=0, keepdim=True))


def _lengthened(z: Float[Tensor, "row d"]) -> Float[Tensor, "row d"]:
    made: Tensor = nn.functional.normalize(z, dim=-1)
    return made
