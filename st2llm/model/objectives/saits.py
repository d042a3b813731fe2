"""SAITS (Du et al. 2023): imputation by two blocks of self-attention over time, and the loss that trains them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import FieldBatch
from st2llm.model.objectives.masks import draw_mask
from st2llm.model.objectives.objective import SingleTermObjective
from st2llm.types import NO_EDGES

_HEADS = 4


class DiagonallyMaskedLayer(nn.Module):
    """A transformer layer in which no step attends to itself, so that each is estimated from the others."""

    def __init__(self, width: int, *, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, _HEADS, dropout=dropout, batch_first=True)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, z: Float[Tensor, "batch time width"]
    ) -> tuple[Float[Tensor, "batch time width"], Float[Tensor, "batch time time"]]:
        """The new states, and the attention between steps, as the mean of the heads."""
        normed = self.norm1(z)
        itself = torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
        attended, weights = self.attention(normed, normed, normed, attn_mask=itself)
        z = z + self.dropout(attended)
        return z + self.dropout(self.feed(self.norm2(z))), weights


class DiagonallyMaskedBlock(nn.Module):
    """Reconstructs all readings of all steps from readings and their mask: one token for each step."""

    def __init__(self, readings: int, steps: int, *, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Linear(2 * readings, width)
        self.position = nn.Parameter(0.02 * torch.randn(steps, width))
        self.layers = nn.ModuleList(DiagonallyMaskedLayer(width, dropout=dropout) for _ in range(layers))
        self.leave = nn.Linear(width, readings)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(
        self, x: Float[Tensor, "batch time reading"], mask: Float[Tensor, "batch time reading"]
    ) -> tuple[Float[Tensor, "batch time reading"], Float[Tensor, "batch time time"]]:
        """The correction of the readings, and the attention of the last layer."""
        z = self.enter(torch.cat([x, mask], dim=-1)) + self.position
        for layer in self.layers:
            z, weights = layer(z)
        return self.leave(z), weights


class Saits(nn.Module):
    """Imputes windows of a field: two blocks, the second of which reads what the first filled in, and their mixture.

    A token holds the readings of all places at a step; with `per_place`, those of one place, and all places share the
    weights. width, layers, dropout: of each block. Unlike the authors' model, blocks correct a straight line between
    visible readings, and positions are learned.
    """

    def __init__(
        self,
        shape: FieldShape,
        *,
        width: int,
        layers: int,
        dropout: float,
        seed: int,
        per_place: bool = False,
    ) -> None:
        super().__init__()
        self.per_place = per_place
        readings = shape.channels if per_place else shape.nodes * shape.channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first, self.second = (
                DiagonallyMaskedBlock(readings, shape.history, width=width, layers=layers, dropout=dropout)
                for _ in range(2)
            )
            self.mix = nn.Linear(readings + shape.history, readings)

    def forward(self, batch: FieldBatch) -> Float[Tensor, "batch time node channel"]:
        """The mixture of both blocks, standardised."""
        return self.reconstructions(batch)[-1]

    def reconstructions(self, batch: FieldBatch) -> tuple[Float[Tensor, "batch time node channel"], ...]:
        """All entries as the first block, the second and their mixture reconstruct them, standardised."""
        mask = self._tokens(batch.visible.to(batch.values.dtype))
        line = self._tokens(interpolate(batch.values, batch.visible))
        first = line + self.first(line, mask)[0]
        filled = torch.where(mask > 0, line, first)
        correction, attention = self.second(filled, mask)
        second = line + correction
        share = torch.sigmoid(self.mix(torch.cat([mask, attention], dim=-1)))
        mixed = (1 - share) * first + share * second
        return tuple(self._entries(x, batch) for x in (first, second, mixed))

    def _tokens(self, x: Float[Tensor, "batch time node channel"]) -> Float[Tensor, "row time reading"]:
        return x.transpose(1, 2).flatten(0, 1) if self.per_place else x.flatten(2)

    def _entries(
        self, x: Float[Tensor, "row time reading"], batch: FieldBatch
    ) -> Float[Tensor, "batch time node channel"]:
        if not self.per_place:
            return x.reshape(batch.values.shape)
        b, t, n, c = batch.values.shape
        return x.reshape(b, n, t, c).transpose(1, 2)


def interpolate(
    values: Float[Tensor, "batch time node channel"], visible: Bool[Tensor, "batch time node channel"]
) -> Float[Tensor, "batch time node channel"]:
    """A straight line in time between visible values, the nearest one before the first and after the last of them, and
    0 where none is visible.
    """
    length = values.shape[1]
    step = torch.arange(length, device=values.device).reshape(1, -1, 1, 1).expand(values.shape)
    before = torch.where(visible, step, -1).cummax(dim=1).values
    after = torch.where(visible, step, length).flip(1).cummin(dim=1).values.flip(1)
    left, right = torch.where(before < 0, after, before), torch.where(after >= length, before, after)
    known = left < length
    left, right = left.clamp(max=length - 1), right.clamp(min=0)
    share = (step - left) / (right - left).clamp(min=1)
    line = values.gather(1, left) * (1 - share) + values.gather(1, right) * share
    return line.where(known, 0.0)


class SaitsObjective(SingleTermObjective):
    """Absolute error, in raw units, of the mixture at readings that are hidden anew at each step, and of all three
    reconstructions at visible readings, weighted by `observed` (masked imputation and observed reconstruction).

    scale: raw units per standardised unit. ratio: share of a window's readings that is hidden.
    """

    name = "saits"

    def __init__(self, scale: Float[Tensor, "node channel"], *, ratio: float, observed: float) -> None:
        self.scale, self.ratio, self.observed = scale, ratio, observed
        self.typical_size = float(scale.mean())

    def draw(self, batch: FieldBatch, generator: torch.Generator) -> FieldBatch:
        b, t, n, _ = batch.values.shape
        mask = draw_mask("random", self.ratio, (b, t, n), NO_EDGES, generator)
        return batch.unmask().mask_out(mask.to(batch.visible.device))

    def counts(self, batch: FieldBatch) -> dict[str, int]:
        return {self.name: int(batch.valid.sum())}

    def totals(self, arm: nn.Module, batch: FieldBatch) -> dict[str, Tensor]:
        found = arm.reconstructions(batch)  # type: ignore[operator]
        scale = self.scale.to(batch.values.device)
        hidden = ((found[-1] - batch.target).abs() * scale * batch.valid).sum()
        seen = sum(((x - batch.values).abs() * scale * batch.visible).sum() for x in found) / len(found)
        per_hidden = self.ratio / (1 - self.ratio)  # visible readings are this much more than hidden ones
        return {self.name: hidden + self.observed * per_hidden * seen}
