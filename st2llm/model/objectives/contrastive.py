"""Windows and sequences compared with each other: InfoNCE between two views, without negatives that are alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.point_batch import PointBatch
from st2llm.errors import ConfigError, nearest
from st2llm.model.objectives.objective import OneTerm
from st2llm.types import Edges

Viewed = FieldBatch | PointBatch
VIEWS = ("hide", "noise", "scale")
"""Augmentations of a window for contrastive training."""
_FROM_LABELS = ("temporal-shift", "mixup", "label-shift")
"""Augmentations of STGCL and others that blend in steps after the window, which is what is asked later on."""


@dataclass(frozen=True)
class Views:
    """Two views of the same windows, and their time of day in days."""

    first: Viewed
    second: Viewed
    clock: Float[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: Sequence[int]) -> "Views":
        index = torch.as_tensor(list(rows), dtype=torch.int64)
        return Views(self.first.take(rows), self.second.take(rows), self.clock[index])

    def to(self, device: torch.device) -> "Views":
        return Views(self.first.to(device), self.second.to(device), self.clock.to(device))


class Contrastive(OneTerm):
    """InfoNCE between two views of a window (STGCL, Liu et al. 2022), in nats, without negatives that are alike.

    level: 'graph' compares windows (the mean over their places) or sequences, 'node' places: a place with itself in
    other windows, and with other places of its window. steps_per_day: in which the calendar counts. near_hours: other
    windows whose time of day is as near as that are left out. Neighbours along the edges are left out among places.
    views: how a window is changed, each seen entry for itself (see `altered` of batches); augmentations that use what
    comes after the window are refused (ConfigError), since that is what is asked.
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
            if view in _FROM_LABELS:
                raise ConfigError(
                    f"The augmentation {view!r} blends in steps after the window, which is what is asked of the "
                    f"model later: it would learn from labels. Take some of {', '.join(VIEWS)}."
                )
            if view not in VIEWS:
                raise ConfigError(f"There is no augmentation {view!r}. {nearest(view, VIEWS)}")
        if level not in ("graph", "node"):
            raise ConfigError(f"There is no level {level!r}. {nearest(level, ('graph', 'node'))}")
        self.edges, self.steps_per_day, self.level, self.views = edges, steps_per_day, level, tuple(views)
        self.near_days, self.temperature, self.strength = near_hours / 24, temperature, strength

    def draw(self, batch: Any, generator: torch.Generator) -> Views:
        clock = batch.calendar[:, -1, 0].float() / self.steps_per_day
        return Views(self._view(batch, generator), self._view(batch, generator), clock)

    def _view(self, batch: Viewed, generator: torch.Generator) -> Any:
        made: Any = batch
        for view in self.views:
            made = made.augment(view, self.strength, generator)
        return made

    def counts(self, batch: Views) -> dict[str, int]:
        nodes = (
            batch.first.values.shape[2] if isinstance(batch.first, FieldBatch) and self.level == "node" else 1
        )
        return {self.name: len(batch) * nodes}

    def totals(self, arm: nn.Module, batch: Views) -> dict[str, Tensor]:
        project: nn.Module = arm.project  # type: ignore[assignment]
        first, second = (
            nn.functional.normalize(project(arm.embedded(view)), dim=-1)  # type: ignore[operator]
            for view in (batch.first, batch.second)
        )
        alike = self._alike(batch.clock)
        if self.level == "graph":
            first, second = (
                nn.functional.normalize(z.mean(dim=1, keepdim=True), dim=-1) for z in (first, second)
            )
            return {
                self.name: info_nce(first.transpose(0, 1), second.transpose(0, 1), alike, self.temperature)
            }
        across = first.transpose(0, 1) @ second.transpose(0, 1).transpose(1, 2) / self.temperature
        within = first @ second.transpose(1, 2) / self.temperature
        across = across.masked_fill(alike[None], -torch.inf)
        within = within.masked_fill(self._neighbours(within.shape[1], within.device)[None], -torch.inf)
        positive = (first * second).sum(dim=-1) / self.temperature
        negatives = torch.cat([across.transpose(0, 1), within], dim=2)
        every = torch.logsumexp(torch.cat([positive[..., None], negatives], dim=2), dim=2)
        return {self.name: (every - positive).sum()}

    def _alike(self, clock: Float[Tensor, " batch"]) -> Bool[Tensor, "batch batch"]:
        apart = (clock[:, None] - clock[None]).abs() % 1.0
        near = torch.minimum(apart, 1.0 - apart) <= self.near_days
        itself = torch.eye(len(clock), dtype=torch.bool, device=clock.device)
        return near | itself if self.steps_per_day > 1 else itself  # days and clips have no time of day

    def _neighbours(self, nodes: int, device: torch.device) -> Bool[Tensor, "node node"]:
        near = torch.eye(nodes, dtype=torch.bool)
        source, target = torch.from_numpy(self.edges.source), torch.from_numpy(self.edges.target)
        near[source, target] = near[target, source] = True
        return near.to(device)


def info_nce(
    first: Float[Tensor, "group batch d"],
    second: Float[Tensor, "group batch d"],
    alike: Bool[Tensor, "batch batch"],
    temperature: float,
) -> Float[Tensor, ""]:
    """The sum of -log of the share of each positive among itself and the negatives that are not `alike` (nats)."""
    similar = first @ second.transpose(1, 2) / temperature
    positive = similar.diagonal(dim1=1, dim2=2)
    negatives = similar.masked_fill(alike[None], -torch.inf)
    every = torch.logsumexp(torch.cat([positive[..., None], negatives], dim=2), dim=2)
    return (every - positive).sum()
