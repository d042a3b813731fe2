"""An arm: the shared encoder, up, a backbone, down and the shared head, plus a closed-form base forecast."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from st2llm.align.output_head import ClassificationHead, ValueHead
from st2llm.align.projection import build_down_projection, build_up_projection
from st2llm.align.prototypes import EmbeddingVocabulary, embedding_vocabulary
from st2llm.align.sequence_head import build_sequence_head
from st2llm.config.model import BACKBONES, FROZEN, Adaptation, EncoderSettings, Projection
from st2llm.encode.field import FieldEncoder, FieldEncoderOptions, FieldShape
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
    trained,
)
from st2llm.model.mixture_of_experts import Experts, feed_forward
from st2llm.types import Edges


@dataclass(frozen=True)
class Blueprint:
    """All that an arm is built from, but for its backbone's language model."""

    shape: FieldShape | SequenceShape
    edges: Edges
    d_lm: int
    token_rms: float
    heads: int
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    up: Projection = field(default_factory=Projection)
    vocabulary: EmbeddingVocabulary | None = None
    """Where a reprogramming head speaks in the rows of a language model."""
    places: Float[Tensor, "node feature"] | None = None
    """What `encoder.extra_features` tells of each place; of sequences, of each code (a place or a mark)."""
    partition: RegionPartition | None = None
    """The regions that places mix through, where `encoder.graph` is `regions`."""


class Probe(nn.Module):
    """The encoder with a head of its own and nothing between: trains the encoder that all arms then start from."""

    def __init__(self, blueprint: Blueprint, *, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = encoder_of(blueprint)
            self.head = head_of(blueprint)

    def forward(self, batch: FieldBatch | PointBatch) -> Any:
        """What the head says of a batch: numbers of fields, scores of places, draws of paths."""
        return self.head(self.encoder(batch)[:, self.encoder.output_slots], batch)


class Speaking(nn.Module):
    """The encoder and the head that makes soft tokens of what it says."""

    def __init__(self, blueprint: Blueprint, *, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._make(blueprint)

    def _make(self, b: Blueprint) -> None:
        self.encoder = encoder_of(b)
        self.up = build_up_projection(
            b.up, b.encoder.d_st, b.d_lm, token_rms=b.token_rms, vocabulary=b.vocabulary
        )

    def soft(self, batch: FieldBatch | PointBatch) -> Float[Tensor, "batch slot d_lm"]:
        """The soft tokens of a batch."""
        tokens: Tensor = self.up(self.encoder(batch))
        return tokens


class Arm(Speaking):
    """encoder -> up -> backbone -> down -> head, added to the base forecast; all in standardised units."""

    def __init__(self, blueprint: Blueprint, *, seed: int, warm: Mapping[str, Tensor] | None = None) -> None:
        """Builds the shared parts from `seed` (and `warm`, the encoder's state and, as `head.*`, perhaps the head's)
        before any backbone exists."""
        super().__init__(blueprint, seed=seed)
        if warm is not None:
            head = {name.removeprefix("head."): t for name, t in warm.items() if name.startswith("head.")}
            self.encoder.load_state_dict({n: t for n, t in warm.items() if not n.startswith("head.")})
            if head:
                self.head.load_state_dict(head)
        self.backbone: nn.Module = NoBackbone()
        self.shared_sha256 = state_sha256(self)

    def _make(self, b: Blueprint) -> None:
        super()._make(b)
        self.down = build_down_projection(b.up, b.d_lm, b.encoder.d_st)
        self.head = head_of(b)

    def forward(self, batch: FieldBatch | PointBatch) -> Any:
        z = self.encoder(batch)
        states, words = self.backbone(self.up(z), batch.prompts)
        return self.head(self.down(z, states, words, self.encoder.output_slots), batch)


def build(
    backbone: str,
    blueprint: Blueprint,
    *,
    seed: int,
    warm: Mapping[str, Tensor] | None = None,
    llm: LanguageModel | None = None,
    how: Adaptation = FROZEN,
) -> Arm:
    """An arm with the named backbone. Shared parts depend on blueprint, seed and warm alone, never on the backbone.

    warm: state of an encoder trained before (`Probe`), and of its head. llm: needed by `llm-*` and `matched`, and used
    up by them where any of it is trained (adapters are put in place). how: what of the model is trained in `llm-lora`,
    and in `llm-random` when it is to be the twin of such an arm; `matched` takes its size from it. Raises ConfigError
    for an unknown backbone, where the language model is missing, and for `llm-lora` with nothing to train.
    """
    if backbone not in BACKBONES:
        raise ConfigError(f"There is no backbone {backbone!r}. {nearest(backbone, BACKBONES)}")
    arm = Arm(blueprint, seed=seed, warm=warm)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        arm.backbone = _backbone(backbone, blueprint, llm, how)
    return arm


def blueprint_of(
    shape: FieldShape | SequenceShape,
    edges: Edges,
    encoder: EncoderSettings,
    *,
    llm: LanguageModel | None,
    up: Projection,
    places: Float[Tensor, "node feature"] | None = None,
    partition: RegionPartition | None = None,
) -> Blueprint:
    """A blueprint as wide as the language model; as wide as the encoder where there is none."""
    if llm is None:
        return Blueprint(shape, edges, encoder.d_st, 1.0, 4, encoder, up, places=places, partition=partition)
    vocabulary = embedding_vocabulary(llm, up.prototype_words) if up.head == "reprogramming" else None
    heads = int(llm.model.config.num_attention_heads)
    return Blueprint(shape, edges, llm.d_lm, llm.token_rms, heads, encoder, up, vocabulary, places, partition)


def encoder_of(blueprint: Blueprint) -> FieldEncoder | SequenceEncoder:
    """A fresh encoder for fields or for sequences, as the shape says."""
    shape, e = blueprint.shape, blueprint.encoder
    if isinstance(shape, SequenceShape):
        if e.center_on != "place" or e.fusion != "add":
            raise ConfigError(
                "encoder.center_on and encoder.fusion are for fields, whose values have a place and slots of a "
                "calendar. Leave them out for sequences."
            )
        if e.extra_features and blueprint.places is None:
            raise ConfigError(
                f"encoder.extra_features: {', '.join(e.extra_features)} takes numbers about each place or mark, but "
                f"none came. Give `code_features(sample, extra_features)`."
            )
        sequence_options = SequenceEncoderOptions(e.d_st, e.layers, e.mixer, e.causal, e.dropout)
        return SequenceEncoder(shape, sequence_options, code_features=blueprint.places)
    options = FieldEncoderOptions(
        d_st=e.d_st,
        patch=e.patch,
        layers=e.layers,
        graph=e.graph,
        tokens=e.tokens,
        mixer=e.mixer,
        drop_embeddings=e.drop_embeddings,
        center_windows=e.center_windows,
        extra_features=e.extra_features,
        region_size=e.region_size,
        fusion=e.fusion,
    )
    return FieldEncoder(
        shape,
        blueprint.edges,
        options,
        place_features=blueprint.places,
        partition=blueprint.partition,
    )


def head_of(blueprint: Blueprint) -> nn.Module:
    """A fresh head for what the shape asks."""
    shape, d_st = blueprint.shape, blueprint.encoder.d_st
    if isinstance(shape, SequenceShape):
        return build_sequence_head(d_st, shape)
    if shape.classes:
        return ClassificationHead(d_st, shape.classes)
    linear = not blueprint.encoder.layers
    return ValueHead(
        d_st, context=shape.context, horizon=shape.horizon, channels=shape.channels, linear=linear
    )


def _backbone(name: str, blueprint: Blueprint, llm: LanguageModel | None, how: Adaptation) -> nn.Module:
    if name == "none":
        return NoBackbone()
    if name == "attention":
        return AttentionBackbone(blueprint.d_lm, heads=blueprint.heads)
    if name in ("dense", "experts"):  # an expert is half as wide, and each token takes two: the same cost
        d = blueprint.d_lm
        feed = feed_forward(d, 2 * d) if name == "dense" else Experts(d, d)
        return BlockBackbone(d, heads=blueprint.heads, feed=feed)
    if llm is None:
        raise ConfigError(
            f"The backbone {name!r} needs a language model: give `llm: {{name: ...}}` in the suite."
        )
    if name == "llm-lora" and how.frozen:
        raise ConfigError(
            "The backbone 'llm-lora' trains part of its language model, but nothing of it is to be trained. Give "
            "`adapt: {rank: ..., target_modules: [...]}`."
        )
    through = partial(LLMBackbone, virtual_tokens=blueprint.up.virtual_tokens, near=_near(blueprint))
    if name == "matched":
        wanted = trained(through(llm, how))
        width, feedforward, layers = matched_size(blueprint.d_lm, wanted)
        return MatchedBackbone(blueprint.d_lm, width=width, feedforward=feedforward, layers=layers)
    return through(llm, FROZEN if name == "llm-frozen" else how)


def _near(blueprint: Blueprint) -> Bool[Tensor, "slot slot"] | None:
    """Which places hear which, where soft tokens are places that hear their neighbours."""
    if blueprint.up.attention_mask != "adjacency":
        return None
    shape, edges = blueprint.shape, blueprint.edges
    if isinstance(shape, SequenceShape) or blueprint.encoder.tokens != "place":
        raise ConfigError(
            "up.attention_mask: adjacency is for soft tokens that are places of a field (encoder.tokens: place)."
        )
    near = torch.eye(shape.nodes, dtype=torch.bool)
    near[torch.from_numpy(edges.target), torch.from_numpy(edges.source)] = True
    return near


def state_sha256(module: nn.Module) -> str:
    """Hash of all parameters and persistent buffers, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
