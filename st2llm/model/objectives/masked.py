"""Masked pre-training of whole windows and whole paths."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.trajectory_batch import TrajectoryBatch
from st2llm.errors import ConfigError
from st2llm.model.objectives.masks import draw_mask
from st2llm.model.objectives.objective import SingleTermObjective
from st2llm.model.objectives.supervised import Likelihood
from st2llm.types import NO_EDGES, Edges

TRAJECTORY_POLICIES = ("random", "span", "future")
"""Mask policies for the points of a path."""


class MaskedReconstruction(SingleTermObjective):
    """Mean absolute (or squared) error, standardised, over hidden entries of whole windows; the mask is drawn anew at
    each step.

    policies: one is drawn for each step, as in UniST (Yuan et al. 2024). ratio: share of a window that is
    hidden. squared: as in MAE (He et al. 2022).
    """

    name = "masked"

    def __init__(
        self,
        edges: Edges,
        *,
        policies: Sequence[str] = ("random",),
        ratio: float = 0.5,
        squared: bool = False,
    ) -> None:
        self.edges, self.policies, self.ratio, self.squared = edges, tuple(policies), ratio, squared
        for policy in self.policies:  # an unknown policy is refused now, not when it is drawn
            draw_mask(policy, ratio, (1, 2, 1), NO_EDGES, torch.Generator())

    def draw(self, batch: FieldBatch, generator: torch.Generator) -> FieldBatch:
        policy = self.policies[int(torch.randint(len(self.policies), (1,), generator=generator))]
        mask = draw_mask(policy, self.ratio, _mask_shape(batch), self.edges, generator)
        return batch.unmask().mask_out(mask.to(batch.visible.device))

    def counts(self, batch: FieldBatch) -> dict[str, int]:
        return {self.name: int(batch.valid.sum())}

    def totals(self, arm: nn.Module, batch: FieldBatch) -> dict[str, Tensor]:
        error = arm(batch) - batch.target
        return {self.name: ((error**2 if self.squared else error.abs()) * batch.valid).sum()}


class MaskedTrajectories(Likelihood):
    """Recovery of hidden points of whole paths; the mask is drawn anew at each step (TrajFM, Lin et al. 2024).

    policies: random points, a span of them, or the last ones (UniTraj, Zhu et al. 2025); one is drawn for each
    step. ratio: share of a path's points. Whether place, time or both of a point are hidden is drawn for each
    point (of a span and of the last ones, for each path).
    """

    name = "masked"

    def __init__(self, *, policies: Sequence[str] = ("random",), ratio: float = 0.5) -> None:
        for policy in policies:
            if policy not in TRAJECTORY_POLICIES:
                raise ConfigError(
                    f"Points of a path are hidden by {', '.join(TRAJECTORY_POLICIES)}, but the policy is {policy!r}, "
                    f"which needs places. Correct objectives.masked.policies."
                )
        self.policies, self.ratio = tuple(policies), ratio

    def draw(self, batch: TrajectoryBatch, generator: torch.Generator) -> TrajectoryBatch:
        policy = self.policies[int(torch.randint(len(self.policies), (1,), generator=generator))]
        b, p = batch.real.shape
        points = draw_mask(policy, self.ratio, (b, p, 1), NO_EDGES, generator)[:, :, 0]
        # 0: place and time, 1: place only, 2: time only
        part = torch.randint(3, (b, p if policy == "random" else 1, 1), generator=generator)
        hidden = points & torch.cat([part != 2, part != 1], dim=-1)
        return batch.mask_out(hidden.to(batch.real.device))


def _mask_shape(batch: FieldBatch) -> tuple[int, int, int]:
    b, t, n, _ = batch.values.shape
    return b, t, n
