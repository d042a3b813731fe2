"""Settings of what a model is built from: encoder, projection head, backbone and language model; read without torch."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from st2llm import plugins
from st2llm.config import Settings
from st2llm.errors import nearest

BACKBONES = ("none", "attention", "dense", "experts", "matched", "llm-random", "llm-frozen", "llm-lora")
LLM_BACKBONES = ("llm-random", "llm-frozen", "llm-lora")
"""Backbones with the architecture of a language model."""
PRETRAINED_BACKBONES = ("llm-frozen", "llm-lora")
"""Backbones with the weights of a pretrained language model."""
HEADS = ("linear", "mlp", "resampler", "reprogramming")
"""Projection heads that make soft tokens."""
CountingSkip = Literal["counts-transitions", "counts-all", "none"]
RecipeSkip = Literal["last", "level", "linear", CountingSkip]
Skip = Literal[
    "ridge",
    "ridge-plain",
    "ridge-held-out",
    "ridge-centred",
    "slot",
    "neighbours",
    RecipeSkip,
]
"""The closed-form forecast whose residual a model learns: of a suite (Skip), of a run of `st2llm align` or `finetune`
(RecipeSkip), and of a run of `st2llm pretrain` (CountingSkip)."""


class EncoderSettings(Settings):
    """The encoder that all trained predictors of a comparison share.

    Of fields (graph, grid, video):
    d_st: width. patch: time steps of a patch. patch_stride: steps between the starts of patches, which overlap where it
    is smaller than `patch` (PatchTST, Nie et al. 2023). tokens: one token for each place, or for each patch of each
    place. mixer, layers: the layers that mix the patches of a place; none leaves that to the backbone. graph: the layer
    that mixes places along the edges.
    channel_independent: each place is a sample of its own, with weights that all share (Nie et al. 2023).
    readout: what predictions are read from: the query token of each place (query), all its tokens (flatten), or the
    token of each patch, which predicts the patch after it (next-patch; longer horizons are rolled out, as in AutoTimes,
    Liu et al. 2024).
    drop_embeddings: embeddings that are left out; without `node` places differ only by their values and neighbours.
    extra_features: where a data set has them, the month, coordinates, eigenvectors of the graph's Laplacian, the
    frequencies of each place's history, frozen embeddings of text (MiniLM; of places and notes) and of images
    (EfficientNet; of the visible frames). See `encode.extra_features`.
    fusion: whether embeddings and extra features are added to the values' embedding, or scale it.
    center_windows: subtracts from each window the mean of its place, where levels drift (after RevIN, Kim et al. 2022).
    instance_norm: divides by the standard deviation of the window as well; predictions are scaled back, and without a
    `skip` start from the mean of the window (RevIN without its affine map).
    center_on: values are differences from each place's mean, or from its mean in the same slot of the calendar (for
    training windows a mean of other windows).

    Of sequences (trajectory, event): d_st, layers, dropout; causal: a point attends only to earlier points.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "without": "drop_embeddings",
        "also": "extra_features",
        "join": "fusion",
        "centre": "center_windows",
        "level": "center_on",
        "region": "region_size",
    }

    plugin: str | None = None
    """An encoder that a package adds, in place of that of st2llm; it takes `d_st` alone."""
    d_st: int = Field(64, ge=4)
    patch: int = Field(24, ge=1)
    patch_stride: int | None = Field(None, ge=1)
    """None means as many as `patch`: patches do not overlap."""
    layers: int = Field(2, ge=0)
    """0, of the mlp alone: a linear map from a place's visible values to its answer (as NLinear, Zeng et al. 2023)."""
    graph: Literal["gat", "gcn", "diffusion", "regions", "none"] = "gat"
    tokens: Literal["place", "patch"] = "place"
    mixer: Literal["transformer", "mlp", "none"] = "transformer"
    readout: Literal["query", "flatten", "next-patch"] = "query"
    channel_independent: bool = False
    drop_embeddings: tuple[Literal["step_of_day", "day_of_week", "holiday", "node", "notes"], ...] = ()
    extra_features: tuple[
        Literal["month", "coordinates", "laplacian", "frequency", "text", "image"], ...
    ] = ()
    region_size: int = Field(16, ge=1)
    """Places in a region at most, where graph is `regions`."""
    center_windows: bool = False
    instance_norm: bool = False
    center_on: Literal["place", "slot"] = "place"
    fusion: Literal["add", "scale"] = "add"
    causal: bool = False
    dropout: float = Field(0.0, ge=0, lt=1, description="rate of dropout while training")

    @model_validator(mode="after")
    def _check_depth(self) -> "EncoderSettings":
        if not self.layers and self.mixer == "transformer":
            raise ValueError(
                "encoder.layers: 0 is for mixer: mlp or none; a transformer needs a layer at least"
            )
        return self

    @model_validator(mode="after")
    def _check_patches(self) -> "EncoderSettings":
        if self.patch_stride is not None and self.patch_stride > self.patch:
            raise ValueError(
                f"encoder.patch_stride: {self.patch_stride} would skip steps between patches of {self.patch}. Take at "
                f"most encoder.patch"
            )
        if self.tokens == "place" and (self.mixer == "none" or self.readout != "query"):
            raise ValueError(
                "encoder.mixer: none and encoder.readout: flatten or next-patch are for encoder.tokens: patch, which "
                "keeps the tokens of all patches"
            )
        if self.readout == "next-patch" and self.patch_stride not in (None, self.patch):
            raise ValueError(
                "encoder.readout: next-patch is for patches that do not overlap: no patch_stride"
            )
        return self

    @model_validator(mode="after")
    def _check_channel_independence(self) -> "EncoderSettings":
        if self.channel_independent and (self.graph != "none" or self.extra_features):
            raise ValueError(
                "encoder.channel_independent makes a sample of each place, so there are no neighbours and no extra "
                "features of places: take encoder.graph: none, and no extra_features"
            )
        return self

    @property
    def of_forecasts(self) -> list[str]:
        """The names of the settings that are changed among those for values of the places of a field."""
        names = ("instance_norm", "readout", "channel_independent")
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]

    @field_validator("plugin")
    @classmethod
    def _check_plugin(cls, name: str | None) -> str | None:
        if name is not None and plugins.find("encoders", name) is None:
            added = [plugin.name for plugin in plugins.installed() if plugin.group == "encoders"]
            raise ValueError(f"no installed package adds an encoder {name!r}. {nearest(name, added)}")
        return name


class LLMSettings(Settings):
    """Which language model, and how it is loaded; see `load_llm`."""

    name: str = Field(
        description="a name of `st2llm list models`, a Hugging Face id, a folder, random:ID or openai:URL#MODEL"
    )
    depth: int | None = None
    """Keeps only the first layers, so many of them; None keeps all."""
    dtype: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the weights; auto chooses by device"
    )
    quant: Literal["none", "int8", "nf4"] = Field("none", description="stores the weights in 8 or 4 bits")


class Adaptation(Settings):
    """Which weights of a language model are trained.

    frozen: none. lora: low-rank adapters of the linear layers `target_modules` (Hu et al. 2022), scaled by
    alpha / rank, or by alpha / sqrt(rank) with `rslora` (Kalajdzievski 2023), with a trained magnitude with `dora` (Liu
    et al. 2024); over a quantised model this is QLoRA (Dettmers et al. 2023). norms: norms and learned positions
    (GPT4TS, Zhou et al. 2023). partial: these, and the attention of the last `layers` layers (ST-LLM, Liu et al. 2024).
    full: all but the embedding table. layers: only the last so many have adapters (lora) or train their attention
    (partial); None means all.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "targets": "target_modules",
        "checkpointing": "gradient_checkpointing",
    }

    method: Literal["frozen", "lora", "norms", "partial", "full"] = Field(
        "frozen", description="which weights are trained"
    )
    rank: int = Field(8, ge=1, description="of the low-rank adapters")
    alpha: float | None = Field(None, gt=0)
    """None means twice the rank."""
    target_modules: tuple[str, ...] = Field(
        ("q_proj", "v_proj"), min_length=1, description="the linear layers that get adapters"
    )
    layers: int | None = Field(None, ge=1)
    dora: bool = Field(False, description="adds a trained magnitude")
    rslora: bool = Field(False, description="scales adapters by alpha / sqrt(rank)")
    gradient_checkpointing: bool = False
    """Recomputes the layers in the backward pass instead of keeping activations: less memory, more time."""

    @property
    def frozen(self) -> bool:
        return self.method == "frozen"


FROZEN = Adaptation()


class Projection(Settings):
    """How embeddings become soft tokens, and how the states of the language model are read.

    head: one of HEADS, or none, which passes embeddings unchanged to backbones without a language model. tokens: soft
    tokens that a resampler makes of all embeddings (Q-Former, Li et al. 2023; Perceiver, Jaegle et al. 2021).
    prototypes: rows of the vocabulary that a reprogramming head attends to (Time-LLM, Jin et al. 2024).
    prototype_source: how they are found: a learned map of the table, k-means, principal components, or the embeddings
    of `prototype_words`. virtual_tokens: learned vectors before the soft tokens (prompt tuning, Lester et al. 2021).
    attention_mask: a soft token attends to earlier soft tokens (causal), or to those of neighbouring places (adjacency;
    ST-LLM+). token_scale: the size of soft tokens, as a multiple of that of the model's token embeddings.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "by": "prototype_source",
        "words": "prototype_words",
        "prompt": "virtual_tokens",
        "mask": "attention_mask",
    }

    head: Literal["linear", "mlp", "resampler", "reprogramming", "none"] = "mlp"
    tokens: int = Field(16, ge=1)
    prototypes: int = Field(64, ge=2)
    prototype_source: Literal["learned", "kmeans", "pca", "words"] = "learned"
    prototype_words: tuple[str, ...] = Field((), description="the words of prototype_source: words")
    virtual_tokens: int = Field(0, ge=0)
    attention_mask: Literal["causal", "adjacency"] = "causal"
    token_scale: float = Field(1.0, gt=0)
    """Each layer adds more to a state than a token of size 1 holds: behind 6 layers of SmolLM2, states correlate with
    their tokens by 0.04 at 1, and by 0.3 at 20."""

    @model_validator(mode="after")
    def _check_prototypes_and_mask(self) -> "Projection":
        if (self.prototype_source == "words") != bool(self.prototype_words):
            raise ValueError(
                "`prototype_words` belong to `prototype_source: words`, and only to that: give both or neither"
            )
        if self.attention_mask == "adjacency" and self.head == "resampler":
            raise ValueError(
                "the tokens of a resampler are no places, so they have no neighbours: take attention_mask: causal"
            )
        return self
