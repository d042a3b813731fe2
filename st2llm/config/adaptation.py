"""How an encoder is joined to a language model, and what of that is trained: settings alone, read without torch."""

from typing import Literal

from pydantic import Field, model_validator

from st2llm.config import Settings

HEADS = ("linear", "mlp", "resampler", "reprogramming")


class Adaptation(Settings):
    """What of a language model is trained.

    frozen: nothing. lora: low-rank adapters beside `targets` (Hu et al. 2022), scaled by alpha / rank, or by
    alpha / sqrt(rank) with `rslora` (Kalajdzievski 2023), with a trained magnitude with `dora` (Liu et al. 2024); over
    a quantised model that is QLoRA (Dettmers et al. 2023). norms: norms and learned positions alone (GPT4TS, Zhou et
    al. 2023). partial: these, and the attention of the last `layers` layers (ST-LLM, Liu et al. 2024). full: all but
    the embedding table. layers: the last so many alone have adapters (lora) or train their attention (partial); None
    means all.
    """

    method: Literal["frozen", "lora", "norms", "partial", "full"] = "frozen"
    rank: int = Field(8, ge=1)
    alpha: float | None = Field(None, gt=0)
    """None means twice the rank."""
    targets: tuple[str, ...] = Field(("q_proj", "v_proj"), min_length=1)
    layers: int | None = Field(None, ge=1)
    dora: bool = False
    rslora: bool = False
    checkpointing: bool = False
    """Layers are computed again on the way back, in place of keeping what they made: less memory, more time."""

    @property
    def frozen(self) -> bool:
        return self.method == "frozen"


FROZEN = Adaptation()


class Projection(Settings):
    """How embeddings become soft tokens, and how the language model's states are read.

    head: one of HEADS, or none, which hands embeddings to native backbones as they are. tokens: how many a resampler
    makes of all that the encoder says (Q-Former, Li et al. 2023; Perceiver, Jaegle et al. 2021). prototypes: how many
    rows of the vocabulary a reprogramming head speaks in (Time-LLM, Jin et al. 2024), found by `by`: a learned map of
    the table, k-means, principal components, or the embeddings of `words`. prompt: learned vectors before the soft
    tokens (Lester et al. 2021). mask: what soft tokens hear of each other: those before them (causal), or those of
    neighbouring places (adjacency; ST-LLM+).
    """

    head: Literal["linear", "mlp", "resampler", "reprogramming", "none"] = "mlp"
    tokens: int = Field(16, ge=1)
    prototypes: int = Field(64, ge=2)
    by: Literal["learned", "kmeans", "pca", "words"] = "learned"
    words: tuple[str, ...] = ()
    prompt: int = Field(0, ge=0)
    mask: Literal["causal", "adjacency"] = "causal"

    @model_validator(mode="after")
    def _whole(self) -> "Projection":
        if (self.by == "words") != bool(self.words):
            raise ValueError(
                "`words` are the prototypes of `by: words`, and only of that: give both or neither"
            )
        if self.mask == "adjacency" and self.head == "resampler":
            raise ValueError(
                "the tokens of a resampler are no places, so they have no neighbours: take mask: causal"
            )
        return self
