"""An arm: the shared encoder, up, a backbone, down and the shared head, plus a closed-form base forecast."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from st2llm.align.head import DownHead, NumberHead, UpHead
from st2llm.align.sequence_head import sequence_head
from st2llm.encode.batch import FieldBatch
from st2llm.encode.field import FieldEncoder, FieldShape
from st2llm.encode.points import PointBatch
from st2llm.encode.sequence import SequenceEncoder, SequenceShape
from st2llm.errors import ConfigError, nearest
from st2llm.llm.local import LanguageModel
from st2llm.model.backbone import (
    AttentionBackbone,
    LLMBackbone,
    MatchedBackbone,
    NoBackbone,
    matched_size,
    trained,
)
from st2llm.model.names import BACKBONES
from st2llm.model.recipe import EncoderSettings
from st2llm.types import Edges


@dataclass(frozen=True)
class Adapter:
    """LoRA rank and the linear layers it goes beside."""

    rank: int = 8
    targets: tuple[str, ...] = ("q_proj", "v_proj")


@dataclass(frozen=True)
class Blueprint:
    """All that an arm is built from, but for its backbone's language model."""

    shape: FieldShape | SequenceShape
    edges: Edges
    d_lm: int
    token_rms: float
    heads: int
    encoder: EncoderSettings = field(default_factory=EncoderSettings)


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
        return self.head(self.encoder(batch)[:, self.encoder.asked], batch)


class Arm(nn.Module):
    """encoder -> up -> backbone -> down -> head, added to the base forecast; all in standardised units."""

    def __init__(self, blueprint: Blueprint, *, seed: int, warm: Mapping[str, Tensor] | None = None) -> None:
        """Builds the shared parts from `seed` (and `warm`, the encoder's state) before any backbone exists."""
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            b, e = blueprint, blueprint.encoder
            self.encoder = encoder_of(b)
            if warm is not None:
                self.encoder.load_state_dict(dict(warm))
            self.up = UpHead(e.d_st, b.d_lm, token_rms=b.token_rms)
            self.down = DownHead(b.d_lm, e.d_st)
            self.head = head_of(b)
        self.backbone: nn.Module = NoBackbone()
        self.shared_sha256 = state_sha256(self)

    def forward(self, batch: FieldBatch | PointBatch) -> Any:
        soft = self.up(self.encoder(batch))
        states, words = self.backbone(soft, batch.words)
        return self.head(self.down(states[:, self.encoder.asked], words), batch)


def build(
    backbone: str,
    blueprint: Blueprint,
    *,
    seed: int,
    warm: Mapping[str, Tensor] | None = None,
    llm: LanguageModel | None = None,
    adapter: Adapter | None = None,
) -> Arm:
    """An arm with the named backbone. Shared parts depend on blueprint, seed and warm alone, never on the backbone.

    warm: state of an encoder trained before (`Probe`). llm: needed by `llm-*` and `matched`, and used up by them
    where there is an adapter (it is put in place). adapter: trained beside `llm-lora`, and beside `llm-random` when
    it is to be the twin of a LoRA arm; `matched` takes its size from it. Raises ConfigError for an unknown
    backbone, or where the language model is missing.
    """
    if backbone not in BACKBONES:
        raise ConfigError(f"There is no backbone {backbone!r}. {nearest(backbone, BACKBONES)}")
    arm = Arm(blueprint, seed=seed, warm=warm)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        arm.backbone = _backbone(backbone, blueprint, llm, adapter)
    return arm


def encoder_of(blueprint: Blueprint) -> FieldEncoder | SequenceEncoder:
    """A fresh encoder for fields or for sequences, as the shape says."""
    shape, e = blueprint.shape, blueprint.encoder
    if isinstance(shape, SequenceShape):
        return SequenceEncoder(
            shape, d_st=e.d_st, layers=e.layers, mixer=e.mixer, causal=e.causal, dropout=e.dropout
        )
    return FieldEncoder(
        shape,
        blueprint.edges,
        d_st=e.d_st,
        patch=e.patch,
        layers=e.layers,
        graph=e.graph,
        tokens=e.tokens,
        mixer=e.mixer,
        without=e.without,
        centre=e.centre,
    )


def head_of(blueprint: Blueprint) -> nn.Module:
    """A fresh head for what the shape asks."""
    shape, d_st = blueprint.shape, blueprint.encoder.d_st
    if isinstance(shape, SequenceShape):
        return sequence_head(d_st, shape)
    return NumberHead(d_st, context=shape.context, horizon=shape.horizon, channels=shape.channels)


def _backbone(
    name: str, blueprint: Blueprint, llm: LanguageModel | None, adapter: Adapter | None
) -> nn.Module:
    if name == "none":
        return NoBackbone()
    if name == "attention":
        return AttentionBackbone(blueprint.d_lm, heads=blueprint.heads)
    if llm is None:
        raise ConfigError(
            f"The backbone {name!r} needs a language model: give `llm: {{name: ...}}` in the suite."
        )
    rank, targets = (adapter.rank, adapter.targets) if adapter else (0, ())
    if name == "matched":
        wanted = trained(LLMBackbone(llm, rank=rank, targets=targets))
        width, feedforward, layers = matched_size(blueprint.d_lm, wanted)
        return MatchedBackbone(blueprint.d_lm, width=width, feedforward=feedforward, layers=layers)
    if name == "llm-frozen":
        return LLMBackbone(llm)
    if name == "llm-lora" and not rank:
        raise ConfigError(
            "The backbone 'llm-lora' needs `lora: {rank: ..., targets: [...]}` with a rank above 0."
        )
    return LLMBackbone(llm, rank=rank, targets=targets)


def state_sha256(module: nn.Module) -> str:
    """Hash of all parameters and persistent buffers, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
