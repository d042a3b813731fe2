"""Arms of one frozen language model in one pass: their soft tokens are concatenated along the batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.point_batch import PointBatch
from st2llm.errors import ConfigError
from st2llm.model.arm import Arm
from st2llm.model.backbone import LLMBackbone


@dataclass(frozen=True)
class EncodedBatch:
    """A batch of one arm, with the embeddings of the arm's encoder and the soft tokens made of them."""

    arm: Arm
    batch: Any
    """A FieldBatch or a PointBatch."""
    z: Float[Tensor, "batch slot d_st"]
    soft: Float[Tensor, "batch soft d_lm"]


class ReadOut(nn.Module):
    """An arm behind its backbone, with the states of one batch: what an objective calls in place of the arm."""

    def __init__(self, arm: Arm, z: Tensor, states: Tensor, prompt_state: Tensor) -> None:
        super().__init__()
        self.arm, self.head = arm, arm.head
        self.z, self.states, self.prompt_state = z, states, prompt_state

    def forward(self, batch: FieldBatch | PointBatch) -> Any:
        return self.arm.read_out(self.z, self.states, self.prompt_state, batch)


def encode_batch(arm: Arm, batch: Any) -> EncodedBatch:
    """Encoder and `up`, the parts of an arm that may draw random numbers (dropout)."""
    z = arm.encoder(batch)
    return EncodedBatch(arm, batch, z, arm.up(z))


def share_prompts(arms: Sequence[Arm]) -> None:
    """Lets all arms use the prompt cache of the first, so that their model reads each prompt once.

    Arms of a model whose prompts cannot be kept have none, before and after. Raises ConfigError where the arms do not
    share one frozen language model.
    """
    backbones = [
        arm.backbone
        for arm in arms
        if isinstance(arm.backbone, LLMBackbone) and arm.backbone.adaptation.frozen
    ]
    if len(backbones) < len(arms) or any(each.llm is not backbones[0].llm for each in backbones):
        raise ConfigError(
            f"A stack of {len(arms)} arms needs one frozen language model that all of them share, but their backbones "
            f"are {', '.join(type(arm.backbone).__name__ for arm in arms)}, of several models or trained. Train "
            f"these arms one after the other."
        )
    for backbone in backbones:
        backbone.prompt_cache = backbones[0].prompt_cache


def run_backbones(encoded: Sequence[EncodedBatch]) -> list[ReadOut]:
    """The states of each arm's batch, from one pass through the frozen model that all arms share.

    A row depends on its own arm alone, so its values and gradients are those of a pass of its own, up to rounding. See
    `share_prompts`.
    """
    backbones = [_llm_backbone(part.arm) for part in encoded]
    tokens = [
        backbone.with_virtual_tokens(part.soft) for backbone, part in zip(backbones, encoded, strict=True)
    ]
    prompts = tuple(chain.from_iterable(part.batch.prompts for part in encoded))
    states, prompt_states = backbones[0].read(torch.cat(tokens), prompts)
    sizes, slots = [len(each) for each in tokens], encoded[0].soft.shape[1]
    own_states = torch.split(states[:, -slots:], sizes)
    own_prompt_states = torch.split(prompt_states, sizes)
    return [
        ReadOut(part.arm, part.z, own, prompt_state)
        for part, own, prompt_state in zip(encoded, own_states, own_prompt_states, strict=True)
    ]


def _llm_backbone(arm: Arm) -> LLMBackbone:
    if not isinstance(arm.backbone, LLMBackbone):
        raise ConfigError(
            f"A stacked arm needs a language model as its backbone, but it is {type(arm.backbone).__name__}."
        )
    return arm.backbone
