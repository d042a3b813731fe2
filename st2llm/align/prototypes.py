"""Text prototypes: a few directions of a language model's vocabulary that soft tokens are made of."""

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
    """`count` rows of width d_lm: fixed, or (Time-LLM's way) a trained linear map over the frozen vocabulary.

    The learned map goes over 2,048 rows of the vocabulary, drawn once and for all, where Time-LLM's goes over all: a
    map of 50,000 rows would be most of an arm's weights and of its time.
    """

    def __init__(self, rows: Float[Tensor, "row d_lm"], *, count: int | None = None) -> None:
        super().__init__()
        self.register_buffer("rows", rows.float(), persistent=True)
        self.map = None if count is None else nn.Linear(len(rows), count, bias=False)

    def forward(self) -> Float[Tensor, "prototype d_lm"]:
        rows: Tensor = self.rows  # type: ignore[assignment]
        if self.map is None:
            return rows
        # A row of the map sums over many table rows; scaled so that a prototype is about as loud as a token.
        made: Tensor = self.map.weight @ rows
        return made * (
            rows.square().mean().sqrt() / made.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
        )


_LEARNED_OVER = 2048
_SEED = 0


@dataclass(frozen=True)
class Vocabulary:
    """A language model's embedding table, and the mean rows of the words that a config names."""

    table: Float[Tensor, "token d_lm"]
    named: Float[Tensor, "word d_lm"] | None = None


def prototypes_of(how: Projection, vocabulary: Vocabulary) -> Prototypes:
    """Prototypes found as `how.prototype_source` says: learned, kmeans, pca, words.

    Raises ConfigError for more prototypes than there are rows, or words without rows.
    """
    if how.prototype_source == "words":
        if vocabulary.named is None:
            raise ConfigError("Prototypes by words need the embeddings of these words in the vocabulary.")
        return Prototypes(vocabulary.named)
    rows = vocabulary.table.detach().float().cpu()
    if (how.prototypes > min(rows.shape) and how.prototype_source == "pca") or how.prototypes > len(rows):
        raise ConfigError(
            f"There cannot be {how.prototypes} prototypes by {how.prototype_source} of a vocabulary of {len(rows)} "
            f"rows of width {rows.shape[1]}. Lower up.prototypes."
        )
    if how.prototype_source == "learned":
        generator = torch.Generator().manual_seed(_SEED)
        kept = torch.randperm(len(rows), generator=generator)[:_LEARNED_OVER].sort().values
        return Prototypes(rows[kept], count=how.prototypes)
    if how.prototype_source == "kmeans":
        found = MiniBatchKMeans(how.prototypes, random_state=_SEED, n_init=1, batch_size=4096).fit(
            rows.numpy()
        )
        return Prototypes(torch.from_numpy(found.cluster_centers_.astype(np.float32)))
    fitted = PCA(how.prototypes, random_state=_SEED, svd_solver="randomized").fit(rows.numpy())
    axes = fitted.components_ * np.sqrt(fitted.explained_variance_)[:, None]
    scale = float(rows.square().mean().sqrt()) / np.sqrt((axes**2).mean(axis=1, keepdims=True))
    return Prototypes(torch.from_numpy((axes * scale).astype(np.float32)))


def vocabulary_of(llm: LanguageModel, words: Sequence[str]) -> Vocabulary:
    """A model's table, and for each word or phrase the mean of its tokens' embeddings."""
    named = torch.stack([llm.embed(word).float().mean(dim=0) for word in words]) if words else None
    return Vocabulary(llm.model.get_input_embeddings().weight.detach(), named)
