"""An arm: the shared encoder, up projection, backbone, down projection and shared head, added to a baseline
prediction.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from st2llm.align.output_head import ClassificationHead, FlattenHead, NextPatchHead, ValueHead, roll_out
from st2llm.align.projection import DownProjection, build_down_projection, build_up_projection
from st2llm.align.prototypes import EmbeddingVocabulary, embedding_vocabulary
from st2llm.align.sequence_head import build_sequence_head, reads_query_alone
from st2llm.config.model import BACKBONES, FROZEN, Adaptation, EncoderSettings, Projection
from st2llm.encode.batch import Encoder
from st2llm.encode.field import FieldEncoder, FieldEncoderOptions, FieldShape, patch_count
from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.point_batch import PointBatch
from st2llm.encode.regions import RegionPartition
from st2llm.encode.sequence import SequenceEncoder, SequenceEncoderOptions, SequenceShape
from st2llm.errors import ConfigError, nearest
from st2llm.llm.local import LanguageModel
from st2llm.model.backbone import (
    AttentionBackbone,
    BlockBackbone,
    LLMBackbone,
    MatchedBackbone,
    NoBackbone,
    matched_size,
    trained_parameter_count,
)
from st2llm.model.mixture_of_experts import MixtureOfExperts, feed_forward
from st2llm.model.prompt_cache import PromptCache
from st2llm.plugins import WithPlugins
from st2llm.types import Edges


@dataclass(frozen=True)
class ArmSpec:
    """Everything an arm is built from, except the language model of its backbone."""

    shape: FieldShape | SequenceShape
    edges: Edges
    d_lm: int
    token_rms: float
    heads: int
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    up: Projection = field(default_factory=Projection)
    vocabulary: EmbeddingVocabulary | None = None
    """The embedding table for a reprogramming head."""
    place_features: Float[Tensor, "node feature"] | None = None
    """Values of `encoder.extra_features` for each place; for sequences, for each code (a place or a mark)."""
    partition: RegionPartition | None = None
    """The regions of places, where `encoder.graph` is `regions`."""


EncoderFactory = Callable[[FieldShape | SequenceShape, Edges, int], Encoder]


def _encoder_factory(loaded: object) -> EncoderFactory | None:
    return cast(EncoderFactory, loaded) if callable(loaded) else None


ENCODERS: Mapping[str, EncoderFactory] = WithPlugins(
    "encoders", {}, _encoder_factory, "a class or function of shape, edges and d_st that returns an Encoder"
)
"""The encoders that packages add."""
MOST_PROMPTS = 128
"""Number of training prompts that `fit_prompt_norm` reads."""
_PROMPTS_AT_ONCE = 16


class EncoderWithHead(nn.Module):
    """The encoder with an output head and no backbone; trains the encoder from which all arms then start."""

    def __init__(self, spec: ArmSpec, *, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = build_encoder(spec)
            self.head = build_head(spec)

    def forward(self, batch: FieldBatch | PointBatch) -> Any:
        """The prediction for a batch: values of fields, scores of places, draws of paths."""
        encoder = self.encoder
        if (
            isinstance(encoder, SequenceEncoder)
            and isinstance(batch, PointBatch)
            and reads_query_alone(self.head)
        ):
            return self.head(encoder.query(batch), batch)
        return self.head(self.encoder(batch)[:, self.encoder.output_slots], batch)


class SoftTokenModel(nn.Module):
    """The encoder and the up projection, which turn samples into soft tokens."""

    def __init__(self, spec: ArmSpec, *, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build_modules(spec)

    def _build_modules(self, spec: ArmSpec) -> None:
        self.encoder = build_encoder(spec)
        self.up = build_up_projection(
            spec.up, spec.encoder.d_st, spec.d_lm, token_rms=spec.token_rms, vocabulary=spec.vocabulary
        )

    def soft_tokens(self, batch: FieldBatch | PointBatch) -> Float[Tensor, "batch slot d_lm"]:
        """The soft tokens of a batch."""
        tokens: Tensor = self.up(self.encoder(batch))
        return tokens


class Arm(SoftTokenModel):
    """encoder -> up -> backbone -> down -> head, added to the base prediction; all in standardised units."""

    def __init__(self, spec: ArmSpec, *, seed: int, init_weights: Mapping[str, Tensor] | None = None) -> None:
        """Builds the shared parts from `seed` (and `init_weights`, the encoder's state and, as `head.*`,
        optionally the head's) before the backbone exists.
        """
        super().__init__(spec, seed=seed)
        if init_weights is not None:
            head = {
                name.removeprefix("head."): t for name, t in init_weights.items() if name.startswith("head.")
            }
            self.encoder.load_state_dict({n: t for n, t in init_weights.items() if not n.startswith("head.")})
            if head:
                self.head.load_state_dict(head)
        self.backbone: nn.Module = NoBackbone()
        self.shared_sha256 = state_sha256(self)

    def _build_modules(self, spec: ArmSpec) -> None:
        super()._build_modules(spec)
        self.down = build_down_projection(spec.up, spec.d_lm, spec.encoder.d_st)
        self.head = build_head(spec)

    def forward(self, batch: FieldBatch | PointBatch) -> Any:
        if isinstance(self.head, NextPatchHead) and isinstance(batch, FieldBatch) and not self.training:
            history = (self.head.tokens - 1) * self.head.patch
            return roll_out(self._predict, batch, history=history, patch=self.head.patch)
        return self._predict(batch)

    def _predict(self, batch: FieldBatch | PointBatch) -> Any:
        z = self.encoder(batch)
        states, prompt_state = self.backbone(self.up(z), batch.prompts)
        return self.read_out(z, states, prompt_state, batch)

    def read_out(
        self,
        z: Float[Tensor, "batch slot d_st"],
        states: Float[Tensor, "batch token d_lm"],
        prompt_state: Float[Tensor, "batch d_lm"],
        batch: FieldBatch | PointBatch,
    ) -> Any:
        """The prediction from the encoder's embeddings and the backbone's states: `down`, then the head."""
        return self.head(self.down(z, states, prompt_state, self.encoder.output_slots), batch)


def build_arm(
    backbone: str,
    spec: ArmSpec,
    *,
    seed: int,
    init_weights: Mapping[str, Tensor] | None = None,
    llm: LanguageModel | None = None,
    adaptation: Adaptation = FROZEN,
) -> Arm:
    """An arm with the named backbone. Shared parts depend on spec, seed and init_weights only, never on the
    backbone.

    init_weights: state of an encoder trained before (`EncoderWithHead`), and of its head. llm: required by
    `llm-*` and `matched`, and modified in place where any of it is trained (adapters are injected). adaptation:
    which of the model is trained in `llm-lora`, and in `llm-random` as its twin; `matched` takes its parameter
    count from it. Raises ConfigError for an unknown backbone, a missing language model, and for `llm-lora` with
    nothing to train.
    """
    if backbone not in BACKBONES:
        raise ConfigError(f"There is no backbone {backbone!r}. {nearest(backbone, BACKBONES)}")
    arm = Arm(spec, seed=seed, init_weights=init_weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        arm.backbone = _build_backbone(backbone, spec, llm, adaptation)
    return arm


def fit_prompt_norm(arm: Arm, prompts: Sequence[str]) -> None:
    """Standardises what an arm reads of its prompts by those of training; nothing for arms that read none.

    At most MOST_PROMPTS different ones are read, evenly spaced in alphabetical order, by the model as it is now.
    """
    if not isinstance(arm.backbone, LLMBackbone) or not isinstance(arm.down, DownProjection):
        return
    distinct = sorted(set(prompts) - {""})
    if not distinct:
        return
    chosen = distinct[:: -(-len(distinct) // MOST_PROMPTS)]
    cache = arm.backbone.prompt_cache or PromptCache(arm.backbone.llm)
    states = [
        cache.lookup(chosen[i : i + _PROMPTS_AT_ONCE])[2] for i in range(0, len(chosen), _PROMPTS_AT_ONCE)
    ]
    arm.down.fit_prompts(torch.cat(states))


def arm_spec(
    shape: FieldShape | SequenceShape,
    edges: Edges,
    encoder: EncoderSettings,
    *,
    llm: LanguageModel | None,
    up: Projection,
    place_features: Float[Tensor, "node feature"] | None = None,
    partition: RegionPartition | None = None,
) -> ArmSpec:
    """A spec with the language model's width; with the encoder's width where there is none."""
    if llm is None:
        return ArmSpec(
            shape,
            edges,
            encoder.d_st,
            1.0,
            4,
            encoder,
            up,
            place_features=place_features,
            partition=partition,
        )
    vocabulary = embedding_vocabulary(llm, up.prototype_words) if up.head == "reprogramming" else None
    heads = int(llm.model.config.num_attention_heads)
    return ArmSpec(
        shape, edges, llm.d_lm, llm.token_rms, heads, encoder, up, vocabulary, place_features, partition
    )


def build_encoder(spec: ArmSpec) -> Encoder:
    """A newly initialised encoder for fields or for sequences, depending on the shape, or that of a package.

    Raises ConfigError for settings that it does not have.
    """
    shape, settings = spec.shape, spec.encoder
    if settings.plugin is not None:
        return _plugin_encoder(settings.plugin, spec)
    if settings.of_forecasts and (isinstance(shape, SequenceShape) or shape.classes):
        raise ConfigError(
            f"encoder.{settings.of_forecasts[0]} is for values of places. Leave it out for sequences and classes."
        )
    if isinstance(shape, SequenceShape):
        if settings.center_on != "place" or settings.fusion != "add":
            raise ConfigError(
                "encoder.center_on and encoder.fusion are for fields, whose values have a place and slots of a "
                "calendar. Leave them out for sequences."
            )
        if settings.extra_features and spec.place_features is None:
            raise ConfigError(
                f"encoder.extra_features: {', '.join(settings.extra_features)} takes numbers about each place or "
                f"mark, but none came. Give `code_features(sample, extra_features)`."
            )
        sequence_options = SequenceEncoderOptions(
            settings.d_st, settings.layers, settings.mixer, settings.causal, settings.dropout
        )
        return SequenceEncoder(shape, sequence_options, code_features=spec.place_features)
    options = FieldEncoderOptions(
        d_st=settings.d_st,
        patch=settings.patch,
        layers=settings.layers,
        graph=settings.graph,
        tokens=settings.tokens,
        mixer=settings.mixer,
        drop_embeddings=settings.drop_embeddings,
        center_windows=settings.center_windows,
        extra_features=settings.extra_features,
        region_size=settings.region_size,
        fusion=settings.fusion,
        patch_stride=settings.patch_stride,
        readout=settings.readout,
        instance_norm=settings.instance_norm,
    )
    return FieldEncoder(
        shape,
        spec.edges,
        options,
        place_features=spec.place_features,
        partition=spec.partition,
    )


def _plugin_encoder(name: str, spec: ArmSpec) -> Encoder:
    shape, d_st = spec.shape, spec.encoder.d_st
    own = (item for item in EncoderSettings.model_fields.items() if item[0] not in ("plugin", "d_st"))
    if changed := [key for key, field in own if getattr(spec.encoder, key) != field.default]:
        raise ConfigError(
            f"encoder.{changed[0]} is a setting of st2llm's own encoder. Leave it out beside `plugin`."
        )
    slots = shape.points + 1 if isinstance(shape, SequenceShape) else shape.nodes
    encoder = ENCODERS[name](shape, spec.edges, d_st)
    if not isinstance(encoder, Encoder) or encoder.slots != slots:
        came = f"has {encoder.slots}" if isinstance(encoder, Encoder) else f"is a {type(encoder).__name__}"
        raise ConfigError(
            f"The encoder {name!r} should be a st2llm.encode.batch.Encoder with {slots} slots (one for each place, "
            f"or for each point and the question), but it {came}. Correct its package."
        )
    return encoder


def build_head(spec: ArmSpec) -> nn.Module:
    """A newly initialised output head for the shape."""
    shape, d_st = spec.shape, spec.encoder.d_st
    if isinstance(shape, SequenceShape):
        return build_sequence_head(d_st, shape)
    if shape.classes:
        return ClassificationHead(d_st, shape.classes)
    return _value_head(shape, spec.encoder)


def _value_head(shape: FieldShape, encoder: EncoderSettings) -> nn.Module:
    """The head of values that fits what is read of the encoder's tokens (`encoder.readout`)."""
    tokens = patch_count(shape.history, encoder.patch, encoder.patch_stride) + 1
    if encoder.readout == "next-patch":
        if shape.amid or shape.ahead or shape.history % encoder.patch:
            raise ConfigError(
                f"encoder.readout: next-patch forecasts after a history of whole patches of encoder.patch "
                f"({encoder.patch}) steps, without covariates that are known ahead, but the history has "
                f"{shape.history} steps and {len(shape.ahead)} such covariates. Take readout: flatten."
            )
        return NextPatchHead(
            encoder.d_st,
            tokens=tokens,
            patch=encoder.patch,
            channels=shape.channels,
            instance_norm=encoder.instance_norm,
        )
    flatten = encoder.readout == "flatten"
    values = ValueHead(
        encoder.d_st * (tokens if flatten else 1),
        context=shape.context,
        horizon=shape.horizon,
        channels=shape.channels,
        linear=flatten or not encoder.layers,
        instance_norm=encoder.instance_norm,
    )
    return FlattenHead(tokens, values) if flatten else values


def _build_backbone(name: str, spec: ArmSpec, llm: LanguageModel | None, adaptation: Adaptation) -> nn.Module:
    if name == "none":
        return NoBackbone()
    if name == "attention":
        return AttentionBackbone(spec.d_lm, heads=spec.heads)
    if name in ("dense", "experts"):  # an expert is half as wide, and each token uses two: equal cost
        d = spec.d_lm
        feed = feed_forward(d, 2 * d) if name == "dense" else MixtureOfExperts(d, d)
        return BlockBackbone(d, heads=spec.heads, feed=feed)
    if llm is None:
        raise ConfigError(
            f"The backbone {name!r} needs a language model: give `llm: {{name: ...}}` in the suite."
        )
    if name == "llm-lora" and adaptation.frozen:
        raise ConfigError(
            "The backbone 'llm-lora' trains part of its language model, but nothing of it is to be trained. Give "
            "`adapt: {rank: ..., target_modules: [...]}`."
        )
    make_llm_backbone = partial(
        LLMBackbone, virtual_tokens=spec.up.virtual_tokens, neighbour_mask=_neighbour_mask(spec)
    )
    if name == "matched":
        parameter_count = trained_parameter_count(make_llm_backbone(llm, adaptation))
        width, feedforward, layers = matched_size(spec.d_lm, parameter_count)
        return MatchedBackbone(spec.d_lm, width=width, feedforward=feedforward, layers=layers)
    return make_llm_backbone(llm, FROZEN if name == "llm-frozen" else adaptation)


def _neighbour_mask(spec: ArmSpec) -> Bool[Tensor, "slot slot"] | None:
    """True where a place attends to another one (up.attention_mask: adjacency); None for causal attention."""
    if spec.up.attention_mask != "adjacency":
        return None
    shape, edges = spec.shape, spec.edges
    if isinstance(shape, SequenceShape) or spec.encoder.tokens != "place":
        raise ConfigError(
            "up.attention_mask: adjacency is for soft tokens that are places of a field (encoder.tokens: place)."
        )
    mask = torch.eye(shape.nodes, dtype=torch.bool)
    mask[torch.from_numpy(edges.target), torch.from_numpy(edges.source)] = True
    return mask


def state_sha256(module: nn.Module) -> str:
    """A hash of all parameters and persistent buffers, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
