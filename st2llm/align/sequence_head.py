"""Output heads for sequences: the next place, the next event's time and location or its mark, and paths."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.align.output_head import ClassificationHead
from st2llm.encode.layers.linear import Linear
from st2llm.encode.point_batch import PointBatch
from st2llm.encode.sequence import SequenceShape

NOISE_SIZE = 8
"""Numbers of noise from which a draw of a path is generated."""
TRAINING_DRAWS = 8
"""Draws of each path in training."""
_COMPONENTS = 16
_LOG_2PI = math.log(2 * math.pi)


def reads_query_alone(head: nn.Module) -> bool:
    """Whether a head of sequences reads no slot but the last one, that of the query."""
    return isinstance(head, (TrajectoryForecastHead, ClassificationHead)) or (
        isinstance(head, NextEventHead) and not head.predicts_location
    )


class NextPlaceHead(nn.Module):
    """Scores of all places: a pointer distribution over the places of the history, mixed with one over all places.

    The pointer (Vinyals et al. 2015; pointer-generator, See et al. 2017) multiplies the weight of each point in
    the base, a counting rule, by learned attention. Untrained, the ranking is that of the rule except for ties.
    """

    def __init__(self, d_st: int, shape: SequenceShape) -> None:
        super().__init__()
        self.codes = shape.codes
        self.norm = nn.LayerNorm(d_st)
        self.query, self.key = Linear(d_st, d_st), Linear(d_st, d_st)
        last = Linear(d_st, 1)
        self.point = nn.Sequential(Linear(d_st, d_st), nn.GELU(), last)
        self.gate = Linear(d_st, 1)
        self.out = Linear(d_st, shape.codes)
        for layer in (last, self.query, self.out, self.gate):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.gate.bias, -6.0)

    def forward(self, z: Float[Tensor, "batch slot d_st"], batch: PointBatch) -> Float[Tensor, "batch place"]:
        """The log-probability of each place."""
        z = self.norm(z)
        points, query = z[:, :-1], z[:, -1]
        match = (self.key(points) @ self.query(query)[..., None])[..., 0] / z.shape[-1] ** 0.5
        weight = batch.base[..., 0] + match + self.point(points)[..., 0]
        known = batch.real & (batch.codes > 0)
        pointer = torch.softmax(weight.masked_fill(~known, -1e9), dim=1) * known
        pointed = torch.zeros((len(z), self.codes + 1), device=z.device).scatter_add(1, batch.codes, pointer)
        any_place = torch.log_softmax(self.out(query), dim=1)
        gate = self.gate(query)
        pointed = torch.log(pointed[:, 1:] + 1e-9)
        return torch.logaddexp(
            nn.functional.logsigmoid(-gate) + pointed, nn.functional.logsigmoid(gate) + any_place
        )

    def loss(self, log_probs: Float[Tensor, "batch place"], batch: PointBatch) -> Float[Tensor, " batch"]:
        """Cross-entropy in nats for each stay."""
        return nn.functional.nll_loss(log_probs, batch.label, ignore_index=-1, reduction="none")


@dataclass(frozen=True)
class GapMixture:
    """A mixture of normal distributions of the logarithm of a gap in hours."""

    weight: Float[Tensor, "batch component"]
    mean: Float[Tensor, "batch component"]
    log_std: Float[Tensor, "batch component"]

    def log_density(self, log_gap: Float[Tensor, "batch *more"]) -> Float[Tensor, "batch *more"]:
        """The log-density of the gap itself, per hour: that of its logarithm minus the logarithm."""
        shape = (log_gap.shape[0], *([1] * (log_gap.ndim - 1)), -1)
        weight, mean, log_std = (t.reshape(shape) for t in (self.weight, self.mean, self.log_std))
        z = (log_gap[..., None] - mean) * torch.exp(-log_std)
        parts = torch.log_softmax(weight, dim=-1) - log_std - 0.5 * (z**2 + _LOG_2PI)
        return torch.logsumexp(parts, dim=-1) - log_gap


@dataclass(frozen=True)
class LocationMixture:
    """A mixture of isotropic normal distributions in the plane, in the unit of the points."""

    share: Float[Tensor, "batch kernel"]
    centre: Float[Tensor, "batch kernel 2"]
    log_width: Float[Tensor, "batch kernel"]

    def log_density(self, at: Float[Tensor, "batch 2"]) -> Float[Tensor, " batch"]:
        squared_distance = ((at[:, None] - self.centre) ** 2).sum(dim=-1)
        kernel = -2 * self.log_width - _LOG_2PI - 0.5 * squared_distance * torch.exp(-2 * self.log_width)
        return torch.logsumexp(torch.log_softmax(self.share, dim=1) + kernel, dim=1)


@dataclass(frozen=True)
class NextEventDistribution:
    """The distribution of the next event: its gap, and its location relative to the last event."""

    gap: GapMixture
    location: LocationMixture | None = None


class NextEventHead(nn.Module):
    """A log-normal mixture of the gap (Shchur et al. 2020), and a mixture of kernels at past events for the
    location.

    The kernels are those of a self-exciting process (Ogata 1998): one at each visible event, with its own
    weight and width, and a wide one over all of space.
    """

    def __init__(self, d_st: int, shape: SequenceShape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_st)
        self.hidden = nn.Sequential(Linear(d_st, 2 * d_st), nn.GELU())
        self.out = Linear(2 * d_st, 3 * _COMPONENTS)
        nn.init.normal_(self.out.weight, std=1e-3)
        quantiles = torch.tensor(shape.gaps)
        spread = float(quantiles.std()) if len(quantiles) > 1 else 1.0
        at = torch.linspace(0, len(quantiles) - 1, _COMPONENTS).round().long()
        with torch.no_grad():
            self.out.bias[:_COMPONENTS] = 0.0
            self.out.bias[_COMPONENTS : 2 * _COMPONENTS] = quantiles[at]
            self.out.bias[2 * _COMPONENTS :] = math.log(max(spread / 4, 1e-3))
        self.predicts_location, self.metres = shape.channels == 3, shape.metres
        if self.predicts_location:
            self.point = nn.Sequential(Linear(2 * d_st, d_st), nn.GELU(), Linear(d_st, 2))
            self.wide = Linear(d_st, 2)

    def forward(self, z: Float[Tensor, "batch slot d_st"], batch: PointBatch) -> NextEventDistribution:
        z = self.norm(z)
        weight, mean, log_std = self.out(self.hidden(z[:, -1])).chunk(3, dim=1)
        gap = GapMixture(weight, mean, log_std.clamp(-6.0, 4.0))
        if not self.predicts_location:
            return NextEventDistribution(gap)
        points, query = z[:, :-1], z[:, -1:]
        point_and_query = torch.cat([points, query.expand_as(points)], dim=-1)
        share, width = self.point(point_and_query).unbind(dim=-1)
        wide_share, wide_width = self.wide(query).unbind(dim=-1)
        share = torch.cat([share.masked_fill(~batch.real, -1e9), wide_share], dim=1)
        centre = torch.cat([batch.position[:, :-1, :2], batch.position.new_zeros(len(z), 1, 2)], dim=1)
        log_width = torch.cat([width - 2.0, wide_width + 0.5], dim=1).clamp(-7.0, 4.0)
        return NextEventDistribution(gap, LocationMixture(share, centre, log_width))

    def loss(self, distribution: NextEventDistribution, batch: PointBatch) -> Float[Tensor, " batch"]:
        """Negative log-density in nats: of the gap in hours and, where a location is predicted, of the location in
        units of the points.
        """
        nats = -distribution.gap.log_density(batch.target[:, 0, 0]) * batch.valid[:, 0, 0]
        if distribution.location is None:
            return nats
        at = batch.target[:, 0, 1:3] / self.metres
        return nats - distribution.location.log_density(at) * batch.valid[:, 0, 1]


class TrajectoryForecastHead(nn.Module):
    """Draws of whole paths from noise, trained by the energy score (Gneiting and Raftery 2007).

    Each draw is the base (constant velocity) plus learned step corrections; training minimises the energy score
    of the steps and of the whole path, a proper score that calibrates the spread of draws (engression, Shen and
    Meinshausen 2024). Untrained, every draw is the base.
    """

    def __init__(self, d_st: int, shape: SequenceShape) -> None:
        super().__init__()
        self.horizon = shape.horizon
        self.norm = nn.LayerNorm(d_st)
        self.hidden = nn.Sequential(
            Linear(d_st + NOISE_SIZE, 2 * d_st), nn.GELU(), Linear(2 * d_st, 2 * d_st), nn.GELU()
        )
        self.out = Linear(2 * d_st, 2 * shape.horizon)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, z: Float[Tensor, "batch slot d_st"], batch: PointBatch
    ) -> Float[Tensor, "batch draw horizon 2"]:
        """Paths in metres in the object's local coordinates, one for each row of the noise (one where there is
        none).
        """
        noise = batch.noise if batch.noise.shape[1] else batch.noise.new_zeros(len(batch), 1, NOISE_SIZE)
        query = self.norm(z[:, -1:]).expand(-1, noise.shape[1], -1)
        steps = self.out(self.hidden(torch.cat([query, noise], dim=-1)))
        displacement = (
            steps.reshape(*steps.shape[:2], self.horizon, 2).cumsum(dim=2)
            * batch.mean_step_m[:, None, None, None]
        )
        paths: Tensor = batch.base[:, None] + displacement
        return paths

    def loss(
        self, paths: Float[Tensor, "batch draw horizon 2"], batch: PointBatch
    ) -> Float[Tensor, " batch"]:
        """The energy score in metres: that averaged over steps, plus that of the whole path."""
        valid = batch.valid.all(dim=-1).float()
        truth = batch.target
        steps = valid.sum(dim=1).clamp(min=1)
        error = torch.linalg.vector_norm(paths - truth[:, None], dim=-1) * valid[:, None]
        spread = (
            torch.linalg.vector_norm(paths[:, :, None] - paths[:, None] + 1e-9, dim=-1) * valid[:, None, None]
        )
        m = paths.shape[1]
        pairs = max(1, m * (m - 1))
        step_score = (error.sum(dim=2) / steps[:, None]).mean(dim=1) - 0.5 * (
            spread.sum(dim=3) / steps[:, None, None]
        ).sum(dim=(1, 2)) / pairs
        path_score = _path_norm(error).mean(dim=1) - 0.5 * _path_norm(spread).sum(dim=(1, 2)) / pairs
        score: Tensor = step_score + path_score / steps.sqrt()
        return score


class TrajectoryRecoveryHead(nn.Module):
    """Predicts the place of every point of a path and the time since the point before (TrajFM, Lin et al. 2024).

    The prediction is a correction of the base, straight lines between visible points, in mean steps of the
    path. Untrained, it is the base.
    """

    def __init__(self, d_st: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_st)
        self.hidden = nn.Sequential(Linear(d_st, d_st), nn.GELU())
        self.out = Linear(d_st, 3)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, z: Float[Tensor, "batch slot d_st"], batch: PointBatch
    ) -> Float[Tensor, "batch point 3"]:
        """x and y in metres, and the logarithm of 1 plus the seconds since the point before."""
        correction = self.out(self.hidden(self.norm(z[:, :-1])))
        unit = torch.stack([batch.mean_step_m, batch.mean_step_m, torch.ones_like(batch.mean_step_m)], dim=1)
        output: Tensor = batch.base + correction * unit[:, None]
        return output

    def loss(self, predicted: Float[Tensor, "batch point 3"], batch: PointBatch) -> Float[Tensor, " batch"]:
        """For each path, the mean error of its hidden places, in mean steps, and of its hidden log gaps."""
        error = (predicted - batch.target) * batch.valid
        distance = _path_norm(error[..., :2].abs()) / batch.mean_step_m[:, None] * batch.valid[..., 0]
        count = batch.valid[..., ::2].sum(dim=(1, 2)).clamp(min=1)
        total: Tensor = (distance.sum(dim=1) + error[..., 2].abs().sum(dim=1)) / count
        return total


def _path_norm(distance: Float[Tensor, "*row step"]) -> Float[Tensor, "*row"]:
    return ((distance**2).sum(dim=-1) + 1e-12).sqrt()


def build_sequence_head(d_st: int, shape: SequenceShape) -> nn.Module:
    """The newly initialised head for the shape's task."""
    if shape.task == "next-place":
        return NextPlaceHead(d_st, shape)
    if shape.task in ("classify", "next-mark"):
        return ClassificationHead(d_st, shape.codes)
    if shape.task == "track":
        return TrajectoryRecoveryHead(d_st)
    return NextEventHead(d_st, shape) if shape.task == "next-event" else TrajectoryForecastHead(d_st, shape)
