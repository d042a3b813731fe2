"""Whole trajectories in which places, times or both may be hidden; the task is defined by the mask.

After TrajFM (Lin et al. 2024): the code of each point states whether its place and its time are visible. A
forecast hides the places of the last points, a recovery those in the middle, and arrival time the last
timestamp.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from st2llm.encode.point_batch import MIN_STEP_SHARE, PointBatch, calendar_slots, positions_of
from st2llm.errors import DataError
from st2llm.types import Sample

POINT_FEATURES = 8
"""Number of features of a point."""
VISIBILITY_CODES = 4
"""Codes of a point: place and time visible, place hidden, time hidden, both hidden."""
_STEPS_PER_UNIT = 10.0
"""Mean steps that make one unit of space for rotary attention."""


@dataclass(frozen=True)
class TrajectoryBatch(PointBatch):
    """Stacked paths, padded on the left; base, target and valid have one row per point: x, y in metres, log gap.

    path: x, y in metres from the first visible fix, and seconds from the first point, wherever known. known:
    whether place and time of each point are known, hidden or not. visible: whether they are visible. typical_step_m:
    the typical mean step of the training paths in metres, in which the mean step of a path is told.
    """

    path: Float32[Tensor, "batch point 3"]
    known: Bool[Tensor, "batch point 2"]
    visible: Bool[Tensor, "batch point 2"]
    typical_step_m: Float32[Tensor, " batch"]

    @property
    def needs_draws(self) -> bool:
        """False: each point has one prediction."""
        return False

    def mask_out(self, mask: Bool[Tensor, "batch point 2"]) -> "TrajectoryBatch":
        """The same paths with everything known visible except the mask, whose places and times become the target.

        The first point of a path stays visible.
        """
        first = self.real & (self.real.cumsum(dim=1) == 1)
        return with_visibility(self, self.known & ~(mask & self.real[..., None] & ~first[..., None]))

    @property
    def target_mask(self) -> Bool[Tensor, "batch point 2"]:
        """The target coordinates whose truth is known; noise is learned on them."""
        return self.valid[..., :2]

    @property
    def hidden_mask(self) -> Bool[Tensor, "batch point 2"]:
        """The hidden coordinates, which a diffusion model samples."""
        return (self.real & ~self.visible[..., 0])[..., None].expand(-1, -1, 2)

    def residual(self) -> Float32[Tensor, "batch point 2"]:
        """The target places minus the base, in mean steps."""
        return (self.target - self.base)[..., :2] / self.mean_step_m[:, None, None] * self.target_mask

    def add_base(self, x: Float32[Tensor, "batch point 2"]) -> Float32[Tensor, "batch point 2"]:
        """The places in metres whose residual is `x`."""
        return self.base[..., :2] + x * self.mean_step_m[:, None, None]

    def with_noised(self, x: Float32[Tensor, "batch point 2"]) -> "TrajectoryBatch":
        """The same paths with point features shifted by `x`."""
        moved = x.diff(dim=1, prepend=x[:, :1])
        offsets = torch.cat([x / _STEPS_PER_UNIT, moved, torch.zeros_like(self.numbers[..., 4:])], dim=-1)
        return replace(self, numbers=self.numbers + offsets * self.real[..., None])


def path_step(sample: Sample) -> float:
    """The mean step of a path in metres, between its known positions; NaN for fewer than two."""
    positions, truth = positions_of(sample, sample.values), positions_of(sample, sample.truth)
    path = np.where(np.isfinite(positions), positions, truth)
    known = path[np.isfinite(path).all(axis=1)]
    return float(np.hypot(*np.diff(known, axis=0).T).mean()) if len(known) > 1 else np.nan


def stack_trajectories(samples: Sequence[Sample], *, points: int, step_m: float = 1.0) -> TrajectoryBatch:
    """Stacks whole paths of at most `points` points; target places are hidden. Raises DataError for longer paths.

    step_m: the typical mean step of the training paths in metres.
    """
    too_long = next((sample for sample in samples if len(sample.time) > points), None)
    if too_long is not None:
        raise DataError(
            f"{too_long.id} has {len(too_long.time)} points, but the model reads {points} at most. Ask for a "
            f"shorter path."
        )
    count = len(samples)
    path = np.zeros((count, points, 3))
    known, visible_parts = np.zeros((count, points, 2), dtype=bool), np.zeros((count, points, 2), dtype=bool)
    calendar = np.zeros((count, points + 1, 2), dtype=np.int64)
    for row, sample in enumerate(samples):
        at = slice(points - len(sample.time), points)
        positions, truth = positions_of(sample, sample.values), positions_of(sample, sample.truth)
        visible = np.isfinite(positions).all(axis=1)
        filled = np.where(visible[:, None], positions, truth)
        path[row, at, :2] = np.nan_to_num(filled - path_origin(sample))
        path[row, at, 2] = sample.time - sample.time[0]
        known[row, at] = np.stack([np.isfinite(filled).all(axis=1), np.ones(len(filled), dtype=bool)], axis=1)
        visible_parts[row, at] = np.stack([visible, np.ones(len(filled), dtype=bool)], axis=1)
        slots = calendar_slots(sample, len(sample.time) - 1)
        calendar[row, points - len(sample.time) :] = np.vstack([slots, slots[-1:]])
    blank = torch.zeros((count, points, 3))
    batch = TrajectoryBatch(
        numbers=torch.zeros((count, points, POINT_FEATURES)),
        codes=torch.zeros((count, points), dtype=torch.int64),
        calendar=torch.from_numpy(calendar),
        position=torch.zeros((count, points + 1, 3)),
        real=torch.from_numpy(np.arange(points) >= points - np.array([[len(s.time)] for s in samples])),
        base=blank,
        target=blank,
        valid=blank.bool(),
        noise=torch.zeros((count, 0, 0)),
        mean_step_m=torch.ones(count),
        query=torch.zeros((count, 0)),
        prompts=("",) * count,
        path=torch.from_numpy(path.astype(np.float32)),
        known=torch.from_numpy(known),
        visible=torch.from_numpy(visible_parts),
        typical_step_m=torch.full((count,), step_m),
    )
    return with_visibility(batch, batch.visible)


def path_origin(sample: Sample) -> Float64[np.ndarray, " 2"]:
    """The first visible position, the origin of a path. Raises DataError where no position is visible."""
    xy = positions_of(sample, sample.values)
    visible = np.flatnonzero(np.isfinite(xy).all(axis=1))
    if not len(visible):
        raise DataError(
            f"{sample.id} has no visible position, so its path cannot be predicted. Leave it out."
        )
    return np.asarray(xy[visible[0]], dtype=np.float64)


def with_visibility(batch: TrajectoryBatch, visible: Bool[Tensor, "batch point 2"]) -> TrajectoryBatch:
    """The batch with exactly these parts visible and the remaining known parts as the target."""
    real, index = batch.real, torch.arange(batch.real.shape[1], device=batch.real.device).float()
    position_visible, time_visible = visible[..., 0] & real, visible[..., 1] & real
    seconds = _interpolate(batch.path[..., 2:], time_visible, index.expand_as(real))
    xy = _interpolate(batch.path[..., :2], position_visible, seconds[..., 0])
    steps = real[:, :-1]  # padding comes first
    mean_step_m = (torch.linalg.vector_norm(xy.diff(dim=1), dim=-1) * steps).sum(dim=1) / steps.sum(
        dim=1
    ).clamp(min=1)
    mean_step_m = torch.maximum(mean_step_m, MIN_STEP_SHARE * batch.typical_step_m)
    scale = mean_step_m[:, None, None]
    gap = torch.log1p(seconds.diff(dim=1, prepend=seconds[:, :1]).clamp(min=0))
    steps_since, steps_until = (
        _steps_since_visible(position_visible),
        _steps_since_visible(position_visible.flip(1)).flip(1),
    )
    moved = xy.diff(dim=1, prepend=xy[:, :1]) / scale
    numbers = torch.cat(
        [
            xy / (_STEPS_PER_UNIT * scale),
            moved,
            gap / 5,
            (torch.log(scale / batch.typical_step_m[:, None, None]) / 5).expand(-1, len(index), -1),
            torch.log1p(steps_since)[..., None],
            torch.log1p(steps_until)[..., None],
        ],
        dim=-1,
    )
    codes = 1 + (~position_visible).long() + 2 * (~time_visible).long()
    place = torch.cat([xy / (_STEPS_PER_UNIT * scale), index[None, :, None].expand(len(real), -1, 1)], dim=-1)
    truth = torch.log1p(batch.path[..., 2:].diff(dim=1, prepend=batch.path[:, :1, 2:]).clamp(min=0))
    target_mask = batch.known & ~visible & real[..., None]
    return replace(
        batch,
        numbers=numbers * real[..., None],
        codes=codes * real,
        calendar=_known_calendar(batch.calendar, time_visible),
        position=torch.cat([place, place[:, -1:]], dim=1),
        base=torch.cat([xy, gap], dim=-1),
        target=torch.cat([batch.path[..., :2], truth], dim=-1),
        valid=target_mask[..., (0, 0, 1)],
        mean_step_m=mean_step_m,
        visible=visible,
    )


def _interpolate(
    values: Float[Tensor, "batch point part"],
    visible: Bool[Tensor, "batch point"],
    clock: Float[Tensor, "batch point"],
) -> Float[Tensor, "batch point part"]:
    """Hidden points on straight lines between visible neighbours; extrapolated at constant speed after the last."""
    b, p, parts = values.shape
    index = torch.arange(p, device=values.device).expand(b, p)
    before = torch.where(visible, index, -1).cummax(dim=1).values
    after = torch.where(visible, index, p).flip(1).cummin(dim=1).values.flip(1)
    # After the last visible point, the last two extrapolate; before the first, the position is constant.
    last = before[:, -1:]
    earlier = torch.where(visible & (index < last), index, -1).amax(dim=1, keepdim=True)
    ends = after == p
    low = torch.where(ends, earlier, before).clamp(min=0)
    high = torch.where(ends, last, after).clamp(min=0, max=p - 1)
    low = torch.where((before < 0) | (ends & (earlier < 0)), high, low)
    span = clock.gather(1, high) - clock.gather(1, low)
    share = torch.where(span > 0, (clock - clock.gather(1, low)) / span.clamp(min=1e-6), 0.0)[..., None]

    def gather(rows: Int64[Tensor, "batch point"]) -> Float[Tensor, "batch point part"]:
        return values.gather(1, rows[..., None].expand(-1, -1, parts))

    return torch.where(visible[..., None], values, gather(low) + share * (gather(high) - gather(low)))


def _steps_since_visible(visible: Bool[Tensor, "batch point"]) -> Float[Tensor, "batch point"]:
    """Steps since the last visible point; the length of the path where there is none."""
    index = torch.arange(visible.shape[1], device=visible.device).expand_as(visible)
    last = torch.where(visible, index, -1).cummax(dim=1).values
    return torch.where(last >= 0, index - last, visible.shape[1]).float()


def _known_calendar(
    calendar: Int64[Tensor, "batch slot 2"], time_visible: Bool[Tensor, "batch point"]
) -> Int64[Tensor, "batch slot 2"]:
    """Part of the day and day of the week of each point; where its time is hidden, those of the last visible one."""
    index = torch.arange(time_visible.shape[1], device=time_visible.device).expand_as(time_visible)
    last = torch.where(time_visible, index, -1).cummax(dim=1).values.clamp(min=0)
    last = torch.cat([last, last[:, -1:]], dim=1)
    return calendar.gather(1, last[..., None].expand(-1, -1, 2))
