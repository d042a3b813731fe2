"""Contrastive training of a clip encoder against frozen sentence embeddings, as in CLIP."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.encode.field_batch import FieldBatch
from st2llm.model.arm import ArmSpec, build_encoder
from st2llm.model.objectives.contrastive import info_nce
from st2llm.model.objectives.objective import SingleTermObjective


@dataclass(frozen=True)
class ClipSentenceBatch:
    """Clips, each with the frozen embedding of a sentence that describes it."""

    data: FieldBatch
    sentences: Float[Tensor, "batch d_text"]

    def __len__(self) -> int:
        return len(self.data)

    def take(self, rows: Sequence[int]) -> "ClipSentenceBatch":
        index = torch.as_tensor(list(rows), dtype=torch.int64)
        return ClipSentenceBatch(self.data.take(rows), self.sentences[index])

    def to(self, device: torch.device) -> "ClipSentenceBatch":
        return replace(self, data=self.data.to(device), sentences=self.sentences.to(device))


class VideoTextEncoder(nn.Module):
    """The two sides of CLIP (Radford et al. 2021): each ends in a linear layer and returns unit vectors."""

    def __init__(self, spec: ArmSpec, *, d_text: int, width: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = build_encoder(spec)
            self.of_clip = nn.Linear(spec.encoder.d_st, width, bias=False)
            self.of_text = nn.Linear(d_text, width, bias=False)

    def embed_clips(self, data: FieldBatch) -> Float[Tensor, "batch width"]:
        return nn.functional.normalize(self.of_clip(self.encoder(data).mean(dim=1)), dim=-1)

    def embed_texts(self, sentences: Float[Tensor, "*batch d_text"]) -> Float[Tensor, "*batch width"]:
        return nn.functional.normalize(self.of_text(sentences), dim=-1)


class VideoTextContrast(SingleTermObjective):
    """Symmetric InfoNCE between clips and their sentences, in nats; equal sentences are not negatives of each
    other.
    """

    name = "contrast"
    whole_batch = True

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def counts(self, batch: ClipSentenceBatch) -> dict[str, int]:
        return {self.name: 2 * len(batch)}

    def totals(self, arm: nn.Module, batch: ClipSentenceBatch) -> dict[str, Tensor]:
        if not isinstance(arm, VideoTextEncoder):
            raise TypeError(f"VideoTextContrast needs a VideoTextEncoder, not a {type(arm).__name__}.")
        clips, texts = arm.embed_clips(batch.data), arm.embed_texts(batch.sentences)
        same = torch.cdist(batch.sentences, batch.sentences) < 1e-4
        return {
            self.name: info_nce(clips[None], texts[None], same, self.temperature)
            + info_nce(texts[None], clips[None], same, self.temperature)
        }
