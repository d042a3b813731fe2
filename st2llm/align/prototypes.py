"""Text prototypes: rows derived from a language model's vocabulary, of which reprogrammed soft tokens are
mixtures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from torch import Tensor, nn

from st2llm.config.model import Projection
from st2llm.errors import ConfigError
from st2llm.llm.local import LanguageModel


class Prototypes(nn.Module):
    """Rows of width d_lm: fixed, or (as in Time-LLM) `count` rows of a trained linear map over the frozen
    vocabulary.

    The learned map uses 2,048 rows of the vocabulary, sampled once, where Time-LLM's uses all: a map of 50,000
    rows would dominate an arm's parameters and time.
    """

    def __init__(self, rows: Float[Tensor, "row d_lm"], *, count: int | None = None) -> None:
        super().__init__()
        self.register_buffer("rows", rows.float(), persistent=True)
        self.map = None if count is None else nn.Linear(len(rows), count, bias=False)

    def forward(self) -> Float[Tensor, "prototype d_lm"]:
        rows: Tensor = self.rows  # type: ignore[assignment]
        if self.map is None:
            return rows
        # A row of the map sums over many table rows; scaled so that a prototype has the scale of a token.
        mapped: Tensor = self.map.weight @ rows
        return mapped * (
            rows.square().mean().sqrt() / mapped.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
        )


_LEARNED_ROWS = 2048
_SEED = 0


@dataclass(frozen=True)
class EmbeddingVocabulary:
    """A language model's embedding table, and the mean rows of the words that a config names."""

    table: Float[Tensor, "token d_lm"]
    word_rows: Float[Tensor, "word d_lm"] | None = None


def build_prototypes(settings: Projection, vocabulary: EmbeddingVocabulary) -> Prototypes:
    """Prototypes according to `settings.prototype_source`: learned, kmeans, pca, words.

    Raises ConfigError for more prototypes than there are rows, or words without rows.
    """
    if settings.prototype_source == "words":
        if vocabulary.word_rows is None:
            raise ConfigError("Prototypes by words need the embeddings of these words in the vocabulary.")
        return Prototypes(vocabulary.word_rows)
    rows = vocabulary.table.detach().float().cpu()
    if (
        settings.prototypes > min(rows.shape) and settings.prototype_source == "pca"
    ) or settings.prototypes > len(rows):
        raise ConfigError(
            f"There cannot be {settings.prototypes} prototypes by {settings.prototype_source} of a vocabulary of "
            f"{len(rows)} rows of width {rows.shape[1]}. Lower up.prototypes."
        )
    if settings.prototype_source == "learned":
        generator = torch.Generator().manual_seed(_SEED)
        sampled = torch.randperm(len(rows), generator=generator)[:_LEARNED_ROWS].sort().values
        return Prototypes(rows[sampled], count=settings.prototypes)
    if settings.prototype_source == "kmeans":
        clusters = MiniBatchKMeans(settings.prototypes, random_state=_SEED, n_init=1, batch_size=4096).fit(
            rows.numpy()
        )
        return Prototypes(torch.from_numpy(clusters.cluster_centers_.astype(np.float32)))
    fitted = PCA(settings.prototypes, random_state=_SEED, svd_solver="randomized").fit(rows.numpy())
    axes = fitted.components_ * np.sqrt(fitted.explained_variance_)[:, None]
    scale = float(rows.square().mean().sqrt()) / np.sqrt((axes**2).mean(axis=1, keepdims=True))
    return Prototypes(torch.from_numpy((axes * scale).astype(np.float32)))


def embedding_vocabulary(llm: LanguageModel, words: Sequence[str]) -> EmbeddingVocabulary:
    """A model's embedding table, and for each word or phrase the mean of its tokens' embeddings."""
    word_rows = torch.stack([llm.embed(word).float().mean(dim=0) for word in words]) if words else None
    return EmbeddingVocabulary(llm.model.get_input_embeddings().weight.detach(), word_rows)
