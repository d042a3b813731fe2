"""One set of weights for several fields: a module over their arms, and the error of all of them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from st2llm.config.objectives import Weighting
from st2llm.encode.joined_batch import JoinedBatch
from st2llm.errors import ConfigError
from st2llm.model.arm import Arm


class JointArm(nn.Module):
    """Arms of several data sets, which differ in places and edges and share all weights.

    Raises ConfigError where the weights of two arms have other shapes: what belongs to places or notes.
    """

    def __init__(self, arms: Mapping[str, Arm]) -> None:
        super().__init__()
        self.names = tuple(arms)
        self.arms = nn.ModuleList(arms.values())
        for other in self.arms[1:]:
            tie(self.arms[0], other)

    def of(self, name: str) -> nn.Module:
        """The arm of a data set."""
        return self.arms[self.names.index(name)]


def tie(first: nn.Module, other: nn.Module) -> None:
    """Gives a module the parameters of another one. Raises ConfigError where their names or shapes differ."""
    own = dict(other.named_parameters())
    for name, parameter in first.named_parameters():
        if name not in own or own[name].shape != parameter.shape:
            raise ConfigError(
                f"The weights {name} belong to one data set alone, so they cannot be shared. Leave out what belongs to "
                f"places and notes: encoder.drop_embeddings: [node, notes], and encoder.graph: regions or none."
            )
        path, _, leaf = name.rpartition(".")
        setattr(other.get_submodule(path), leaf, parameter)


class JointRegression:
    """Mean absolute error, standardised by place, of each data set; all data sets count alike."""

    whole_batch = False

    def __init__(self, names: tuple[str, ...], *, weighting: Weighting = "fixed") -> None:
        self.names, self.weighting = names, weighting

    @property
    def term_weights(self) -> dict[str, float]:
        return {name: 1 / len(self.names) for name in self.names}

    def draw(self, batch: JoinedBatch, generator: torch.Generator) -> JoinedBatch:
        return batch

    def counts(self, batch: JoinedBatch) -> dict[str, int]:
        return {name: int(part.valid.sum()) for name, part in batch.parts.items()}

    def totals(self, arm: nn.Module, batch: JoinedBatch) -> dict[str, Tensor]:
        joint: Any = arm
        return {
            name: ((joint.of(name)(part) - part.target).abs() * part.valid).sum()
            if len(part)
            else torch.zeros(())
            for name, part in batch.parts.items()
        }

    def selection_score(self, means: Mapping[str, float]) -> float:
        return sum(means.values()) / len(means)
