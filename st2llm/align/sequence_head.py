"""Heads that read sequences: which place is next, when (and where) the next event is, where an object goes."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.align.output_head import ClassHead
from st2llm.encode.point_batch import PointBatch
from st2llm.encode.sequence import SequenceShape

WAVES = 8
"""Numbers of noise that a draw of a path is made from."""
DRAWS = 8
"""Draws of each path in training."""
_COMPONENTS = 16
_LOG_2PI = math.log(2 * math.pi)


class PlaceHead(nn.Module):
    """Scores of all places: a share for the places of the history, point by point, and one for any place at all.

    The history's share is a pointer (Vinyals et al. 2015; pointer-generator, See et al. 2017): each point has the
    weight of the base, a counting rule, times what attention makes of it. Untrained, the ranking is the rule's but for
    ties.
    """

    def __init__(self, d_st: int, shape: SequenceShape) -> None:
        super().__init__()
        self.codes = shape.codes
        self.norm = nn.LayerNorm(d_st)
        self.query, self.key = nn.Linear(d_st, d_st), nn.Linear(d_st, d_st)
        last = nn.Linear(d_st, 1)
        self.point = nn.Sequential(nn.Linear(d_st, d_st), nn.GELU(), last)
        self.gate = nn.Linear(d_st, 1)
        self.out = nn.Linear(d_st, shape.codes)
        for layer in (last, self.query, self.out, self.gate):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.gate.bias, -6.0)

    def forward(self, z: Float[Tensor, "batch slot d_st"], batch: PointBatch) -> Float[Tensor, "batch place"]:
        """The logarithm of the probability of each place."""
        z = self.norm(z)
        points, question = z[:, :-1], z[:, -1]
        match = (self.key(points) @ self.query(question)[..., None])[..., 0] / z.shape[-1] ** 0.5
        weight = batch.base[..., 0] + match + self.point(points)[..., 0]
        known = batch.real & (batch.codes > 0)
        share = torch.softmax(weight.masked_fill(~known, -1e9), dim=1) * known
        pointed = torch.zeros((len(z), self.codes + 1), device=z.device).scatter_add(1, batch.codes, share)
        any_place = torch.log_softmax(self.out(question), dim=1)
        gate = self.gate(question)
        pointed = torch.log(pointed[:, 1:] + 1e-9)
        return torch.logaddexp(
            nn.functional.logsigmoid(-gate) + pointed, nn.functional.logsigmoid(gate) + any_place
        )

    def loss(self, said: Float[Tensor, "batch place"], batch: PointBatch) -> Float[Tensor, " batch"]:
        """Nats a stay."""
        return nn.functional.nll_loss(said, batch.label, ignore_index=-1, reduction="none")


@dataclass(frozen=True)
class GapMixture:
    """A mixture of normals of the logarithm of a gap in hours."""

    weight: Float[Tensor, "batch component"]
    mean: Float[Tensor, "batch component"]
    log_std: Float[Tensor, "batch component"]

    def log_density(self, log_gap: Float[Tensor, "batch *more"]) -> Float[Tensor, "batch *more"]:
        """Of the gap itself, an hour: that of its logarithm less the logarithm."""
        shape = (log_gap.shape[0], *([1] * (log_gap.ndim - 1)), -1)
        weight, mean, log_std = (t.reshape(shape) for t in (self.weight, self.mean, self.log_std))
        z = (log_gap[..., None] - mean) * torch.exp(-log_std)
        parts = torch.log_softmax(weight, dim=-1) - log_std - 0.5 * (z**2 + _LOG_2PI)
        return torch.logsumexp(parts, dim=-1) - log_gap


@dataclass(frozen=True)
class PlaceMixture:
    """A mixture of round normals in the plane, in the unit of the points."""

    share: Float[Tensor, "batch kernel"]
    centre: Float[Tensor, "batch kernel 2"]
    log_width: Float[Tensor, "batch kernel"]

    def log_density(self, at: Float[Tensor, "batch 2"]) -> Float[Tensor, " batch"]:
        away = ((at[:, None] - self.centre) ** 2).sum(dim=-1)
        kernel = -2 * self.log_width - _LOG_2PI - 0.5 * away * torch.exp(-2 * self.log_width)
        return torch.logsumexp(torch.log_softmax(self.share, dim=1) + kernel, dim=1)


@dataclass(frozen=True)
class NextEventSaid:
    """What is said of the next event: when, and where from the last one on."""

    gap: GapMixture
    place: PlaceMixture | None = None


class EventHead(nn.Module):
    """A log-normal mixture of the gap (Shchur et al. 2020), and of the place a mixture of kernels at past events.

    The kernels are those of a self-exciting process (Ogata 1998): one at each event that is seen, with a share and
    a width of its own, and a wide one over all of space.
    """

    def __init__(self, d_st: int, shape: SequenceShape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_st)
        self.hidden = nn.Sequential(nn.Linear(d_st, 2 * d_st), nn.GELU())
        self.out = nn.Linear(2 * d_st, 3 * _COMPONENTS)
        nn.init.normal_(self.out.weight, std=1e-3)
        quantiles = torch.tensor(shape.gaps)
        spread = float(quantiles.std()) if len(quantiles) > 1 else 1.0
        at = torch.linspace(0, len(quantiles) - 1, _COMPONENTS).round().long()
        with torch.no_grad():
            self.out.bias[:_COMPONENTS] = 0.0
            self.out.bias[_COMPONENTS : 2 * _COMPONENTS] = quantiles[at]
            self.out.bias[2 * _COMPONENTS :] = math.log(max(spread / 4, 1e-3))
        self.where, self.metres = shape.channels == 3, shape.metres
        if self.where:
            self.point = nn.Sequential(nn.Linear(2 * d_st, d_st), nn.GELU(), nn.Linear(d_st, 2))
            self.wide = nn.Linear(d_st, 2)

    def forward(self, z: Float[Tensor, "batch slot d_st"], batch: PointBatch) -> NextEventSaid:
        z = self.norm(z)
        weight, mean, log_std = self.out(self.hidden(z[:, -1])).chunk(3, dim=1)
        gap = GapMixture(weight, mean, log_std.clamp(-6.0, 4.0))
        if not self.where:
            return NextEventSaid(gap)
        points, question = z[:, :-1], z[:, -1:]
        both = torch.cat([points, question.expand_as(points)], dim=-1)
        share, width = self.point(both).unbind(dim=-1)
        wide_share, wide_width = self.wide(question).unbind(dim=-1)
        share = torch.cat([share.masked_fill(~batch.real, -1e9), wide_share], dim=1)
        centre = torch.cat([batch.position[:, :-1, :2], batch.position.new_zeros(len(z), 1, 2)], dim=1)
        log_width = torch.cat([width - 2.0, wide_width + 0.5], dim=1).clamp(-7.0, 4.0)
        return NextEventSaid(gap, PlaceMixture(share, centre, log_width))

    def loss(self, said: NextEventSaid, batch: PointBatch) -> Float[Tensor, " batch"]:
        """Nats an event: of the gap in hours, and where the place is asked of the place in units of the points."""
        nats = -said.gap.log_density(batch.target[:, 0, 0]) * batch.valid[:, 0, 0]
        if said.place is None:
            return nats
        at = batch.target[:, 0, 1:3] / self.metres
        return nats - said.place.log_density(at) * batch.valid[:, 0, 1]


class PathHead(nn.Module):
    """Draws of whole paths: a network of noise, trained by the energy score (Gneiting and Raftery 2007).

    Each draw is the base (constant velocity) and what the network adds, step by step; training minimises the energy
    score of the steps and of the path as a whole, a proper score, so that draws are neither too far apart nor too
    near (engression, Shen and Meinshausen 2024). Untrained, every draw is the base.
    """

    def __init__(self, d_st: int, shape: SequenceShape) -> None:
        super().__init__()
        self.horizon = shape.horizon
        self.norm = nn.LayerNorm(d_st)
        self.hidden = nn.Sequential(
            nn.Linear(d_st + WAVES, 2 * d_st), nn.GELU(), nn.Linear(2 * d_st, 2 * d_st), nn.GELU()
        )
        self.out = nn.Linear(2 * d_st, 2 * shape.horizon)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, z: Float[Tensor, "batch slot d_st"], batch: PointBatch
    ) -> Float[Tensor, "batch draw horizon 2"]:
        """Paths in metres in the object's own frame, one for each row of the noise (one where there is none)."""
        noise = batch.noise if batch.noise.shape[1] else batch.noise.new_zeros(len(batch), 1, WAVES)
        question = self.norm(z[:, -1:]).expand(-1, noise.shape[1], -1)
        steps = self.out(self.hidden(torch.cat([question, noise], dim=-1)))
        moved = (
            steps.reshape(*steps.shape[:2], self.horizon, 2).cumsum(dim=2) * batch.size[:, None, None, None]
        )
        paths: Tensor = batch.base[:, None] + moved
        return paths

    def loss(self, said: Float[Tensor, "batch draw horizon 2"], batch: PointBatch) -> Float[Tensor, " batch"]:
        """The energy score in metres: mean over steps, and the path as a whole, half each."""
        valid = batch.valid.all(dim=-1).float()
        truth = batch.target
        steps = valid.sum(dim=1).clamp(min=1)
        away = torch.linalg.vector_norm(said - truth[:, None], dim=-1) * valid[:, None]
        apart = (
            torch.linalg.vector_norm(said[:, :, None] - said[:, None] + 1e-9, dim=-1) * valid[:, None, None]
        )
        m = said.shape[1]
        pairs = max(1, m * (m - 1))
        by_step = (away.sum(dim=2) / steps[:, None]).mean(dim=1) - 0.5 * (
            apart.sum(dim=3) / steps[:, None, None]
        ).sum(dim=(1, 2)) / pairs
        whole = _norm(away).mean(dim=1) - 0.5 * _norm(apart).sum(dim=(1, 2)) / pairs
        score: Tensor = by_step + whole / steps.sqrt()
        return score


class TrackHead(nn.Module):
    """Says of every point of a path where it is and how long after the one before (TrajFM, Lin et al. 2024).

    What is said is a correction of the base, places on straight lines between those seen, in mean steps of the path.
    Untrained, it is the base.
    """

    def __init__(self, d_st: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_st)
        self.hidden = nn.Sequential(nn.Linear(d_st, d_st), nn.GELU())
        self.out = nn.Linear(d_st, 3)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, z: Float[Tensor, "batch slot d_st"], batch: PointBatch
    ) -> Float[Tensor, "batch point 3"]:
        """x and y in metres, and the logarithm of 1 and the seconds since the point before."""
        said = self.out(self.hidden(self.norm(z[:, :-1])))
        unit = torch.stack([batch.size, batch.size, torch.ones_like(batch.size)], dim=1)
        moved: Tensor = batch.base + said * unit[:, None]
        return moved

    def loss(self, said: Float[Tensor, "batch point 3"], batch: PointBatch) -> Float[Tensor, " batch"]:
        """Of each path the mean over its hidden points of how far off they are, in mean steps, and of their log gap."""
        error = (said - batch.target) * batch.valid
        away = _norm(error[..., :2].abs()) / batch.size[:, None] * batch.valid[..., 0]
        count = batch.valid[..., ::2].sum(dim=(1, 2)).clamp(min=1)
        total: Tensor = (away.sum(dim=1) + error[..., 2].abs().sum(dim=1)) / count
        return total


def _norm(distance: Float[Tensor, "*row step"]) -> Float[Tensor, "*row"]:
    return ((distance**2).sum(dim=-1) + 1e-12).sqrt()


def sequence_head(d_st: int, shape: SequenceShape) -> nn.Module:
    """The head of a task."""
    if shape.task == "next-place":
        return PlaceHead(d_st, shape)
    if shape.task == "classify":
        return ClassHead(d_st, shape.codes)
    if shape.task == "track":
        return TrackHead(d_st)
    return EventHead(d_st, shape) if shape.task == "next-event" else PathHead(d_st, shape)
