"""Contrastive training of windows and sequences: InfoNCE between two augmented views, excluding likely false
negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.point_batch import PointBatch
from st2llm.errors import ConfigError, nearest
from st2llm.model.objectives.objective import SingleTermObjective
from st2llm.types import Edges

AugmentableBatch = FieldBatch | PointBatch
AUGMENTATIONS = ("hide", "noise", "scale")
"""Augmentations for contrastive training."""
_LEAKING_AUGMENTATIONS = ("temporal-shift", "mixup", "label-shift")
"""Augmentations of STGCL and others that blend in steps after the window, which are the targets of later tasks."""


@dataclass(frozen=True)
class ContrastiveViews:
    """Two views of the same windows, and their time of day in days."""

    first: AugmentableBatch
    second: AugmentableBatch
    clock: Float[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: Sequence[int]) -> "ContrastiveViews":
        index = torch.as_tensor(list(rows), dtype=torch.int64)
        return ContrastiveViews(self.first.take(rows), self.second.take(rows), self.clock[index])

    def to(self, device: torch.device) -> "ContrastiveViews":
        return ContrastiveViews(self.first.to(device), self.second.to(device), self.clock.to(device))


class Contrastive(SingleTermObjective):
    """InfoNCE between two views of a window (STGCL, Liu et al. 2022), in nats, without likely false negatives.

    level: 'graph' compares windows (the mean over their places) or sequences; 'node' compares places: a place
    with itself in other windows, and with other places of its window. steps_per_day: the unit of the calendar.
    near_hours: other windows within this time of day are excluded as negatives, unless that leaves none. Among
    places, neighbours along the edges are excluded. views: augmentations, applied independently to each visible
    entry (see `augment` of batches). Raises ConfigError for augmentations that use steps after the window, since
    those are the targets.
    """

    name = "contrastive"
    whole_batch = True

    def __init__(
        self,
        edges: Edges,
        *,
        steps_per_day: int,
        level: str = "graph",
        views: Sequence[str] = ("hide",),
        near_hours: float = 2.0,
        temperature: float = 0.1,
        strength: float = 0.1,
    ) -> None:
        for view in views:
            if view in _LEAKING_AUGMENTATIONS:
                raise ConfigError(
                    f"The augmentation {view!r} blends in steps after the window, which the model predicts later, "
                    f"so it would learn from labels. Take some of {', '.join(AUGMENTATIONS)}."
                )
            if view not in AUGMENTATIONS:
                raise ConfigError(f"There is no augmentation {view!r}. {nearest(view, AUGMENTATIONS)}")
        if level not in ("graph", "node"):
            raise ConfigError(f"There is no level {level!r}. {nearest(level, ('graph', 'node'))}")
        self.edges, self.steps_per_day, self.level, self.views = edges, steps_per_day, level, tuple(views)
        self.near_days, self.temperature, self.strength = near_hours / 24, temperature, strength

    def draw(self, batch: Any, generator: torch.Generator) -> ContrastiveViews:
        clock = batch.calendar[:, -1, 0].float() / self.steps_per_day
        return ContrastiveViews(self._augment(batch, generator), self._augment(batch, generator), clock)

    def _augment(self, batch: AugmentableBatch, generator: torch.Generator) -> Any:
        augmented: Any = batch
        for augmentation in self.views:
            augmented = augmented.augment(augmentation, self.strength, generator)
        return augmented

    def counts(self, batch: ContrastiveViews) -> dict[str, int]:
        nodes = (
            batch.first.values.shape[2] if isinstance(batch.first, FieldBatch) and self.level == "node" else 1
        )
        return {self.name: len(batch) * nodes}

    def totals(self, arm: nn.Module, batch: ContrastiveViews) -> dict[str, Tensor]:
        project: nn.Module = arm.project  # type: ignore[assignment]
        first, second = (
            nn.functional.normalize(project(arm.embed(view)), dim=-1)  # type: ignore[operator]
            for view in (batch.first, batch.second)
        )
        excluded = self._excluded_negatives(batch.clock)
        if self.level == "graph":
            first, second = (
                nn.functional.normalize(z.mean(dim=1, keepdim=True), dim=-1) for z in (first, second)
            )
            return {
                self.name: info_nce(first.transpose(0, 1), second.transpose(0, 1), excluded, self.temperature)
            }
        across = first.transpose(0, 1) @ second.transpose(0, 1).transpose(1, 2) / self.temperature
        within = first @ second.transpose(1, 2) / self.temperature
        across = across.masked_fill(excluded[None], -torch.inf)
        within = within.masked_fill(self._neighbours(within.shape[1], within.device)[None], -torch.inf)
        positive = (first * second).sum(dim=-1) / self.temperature
        negatives = torch.cat([across.transpose(0, 1), within], dim=2)
        log_total = torch.logsumexp(torch.cat([positive[..., None], negatives], dim=2), dim=2)
        return {self.name: (log_total - positive).sum()}

    def _excluded_negatives(self, clock: Float[Tensor, " batch"]) -> Bool[Tensor, "batch batch"]:
        time_difference = (clock[:, None] - clock[None]).abs() % 1.0
        near = torch.minimum(time_difference, 1.0 - time_difference) <= self.near_days
        diagonal = torch.eye(len(clock), dtype=torch.bool, device=clock.device)
        # Days and clips have no time of day; where all windows begin at the same one, it tells no two of them apart.
        told_apart = ~near.all(dim=1, keepdim=True)
        return (near & told_apart) | diagonal if self.steps_per_day > 1 else diagonal

    def _neighbours(self, nodes: int, device: torch.device) -> Bool[Tensor, "node node"]:
        near = torch.eye(nodes, dtype=torch.bool)
        source, target = torch.from_numpy(self.edges.source), torch.from_numpy(self.edges.target)
        near[source, target] = near[target, source] = True
        return near.to(device)


def info_nce(
    first: Float[Tensor, "group batch d"],
    second: Float[Tensor, "group batch d"],
    excluded: Bool[Tensor, "batch batch"],
    temperature: float,
) -> Float[Tensor, ""]:
    """The sum of the negative log-share, in nats, of each positive among itself and the negatives that are not
    `excluded`.
    """
    similarity = first @ second.transpose(1, 2) / temperature
    positive = similarity.diagonal(dim1=1, dim2=2)
    negatives = similarity.masked_fill(excluded[None], -torch.inf)
    log_total = torch.logsumexp(torch.cat([positive[..., None], negatives], dim=2), dim=2)
    return (log_total - positive).sum()
