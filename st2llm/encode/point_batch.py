"""Samples of trajectories, stays and events stacked into tensors: one row per point, the query last."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from st2llm.encode.batch import TensorBatch, label_index, random_scales
from st2llm.encode.point_scaler import PointScaler, fit_query_scaler, typical_step
from st2llm.types import DAY_S, HOUR_S, Sample
from st2llm.types.rounding import real_spread

DAY_PARTS = 48
"""Number of parts of a day; the time of day of a point is given as one of them."""
MIN_STEP_SHARE = 0.01
"""Smallest mean step as a share of the typical one of the training paths; slower paths are not scaled up further."""
_MIN_GAP_H = 0.5 / 3600
"""Smallest gap in hours: timestamps are whole seconds, so a gap of 0 counts as half a second."""


@dataclass(frozen=True)
class PointBatch(TensorBatch):
    """Stacked sequences, padded on the left to the same number of points.

    numbers: standardised features of each point. codes: place or mark of each point, from 1; 0 for none.
    calendar: part of the day and day of the week of each point, then of the query. position: x, y and time of
    each point, then of the query (whose x and y are 0), for rotary attention. real: False where padded. base:
    the prediction of an untrained arm: the log weight of each point (next place), or a path (forecast).
    mean_step_m: the mean step of a path in metres, the unit of corrections of the base. target, valid: [step,
    channel]. noise: input of generated draws. query: what is known of the event that is asked for (`QueryScaler`).
    prompts: the text that a language model reads before the soft tokens ('' for none).
    """

    numbers: Float32[Tensor, "batch point feature"]
    codes: Int64[Tensor, "batch point"]
    calendar: Int64[Tensor, "batch slot 2"]
    position: Float32[Tensor, "batch slot 3"]
    real: Bool[Tensor, "batch point"]
    base: Float32[Tensor, "batch row part"]
    target: Float32[Tensor, "batch horizon channel"]
    valid: Bool[Tensor, "batch horizon channel"]
    noise: Float32[Tensor, "batch draw wave"]
    mean_step_m: Float32[Tensor, " batch"]
    query: Float32[Tensor, "batch known"]
    prompts: tuple[str, ...]

    @property
    def needs_draws(self) -> bool:
        """Whether several steps are predicted at once, by draws of a whole path."""
        return self.target.shape[1] > 1

    @property
    def label(self) -> Int64[Tensor, " batch"]:
        """The target code (a place or a class); -1 where it is not known."""
        return torch.where(self.valid[:, 0, 0], self.target[:, 0, 0].long(), -1)

    def augment(self, augmentation: str, strength: float, generator: torch.Generator) -> "PointBatch":
        """An augmented copy: points missing but never the last ('hide'), noised ('noise'), or scaled ('scale')."""
        device, shape = self.numbers.device, self.numbers.shape
        if augmentation == "hide":
            missing = (torch.rand(self.real.shape, generator=generator) < strength).to(device)
            missing[:, -1] = False
            return replace(self, real=self.real & ~missing)
        if augmentation == "noise":
            noise = torch.randn(shape, generator=generator).to(device)
            return replace(self, numbers=self.numbers + strength * noise * self.real[..., None])
        return replace(
            self, numbers=self.numbers * random_scales(len(self), 3, strength, generator).to(device)
        )

    def with_noise(self, draws: int, waves: int, generator: torch.Generator) -> "PointBatch":
        """The same batch with new standard normal noise for `draws` draws."""
        noise = torch.randn((len(self), draws, waves), generator=generator)
        return replace(self, noise=noise.to(self.numbers.device))


@dataclass(frozen=True)
class PointSequence:
    """The points of one sample before stacking; see PointBatch. mean_step_m: NaN where it is not known. query: the
    numbers of the event that is asked for, NaN where one is not known.
    """

    numbers: Float64[np.ndarray, "point feature"]
    codes: Int64[np.ndarray, " point"]
    calendar: Int64[np.ndarray, "slot 2"]
    position: Float64[np.ndarray, "slot 3"]
    base: Float64[np.ndarray, "row part"]
    target: Float64[np.ndarray, "horizon channel"]
    mean_step_m: float = np.nan
    query: Float64[np.ndarray, " number"] = field(default_factory=lambda: np.zeros(0))
    base_per_point: bool = False
    """Whether the base has one row per point, to be cut and padded with the points."""


@dataclass(frozen=True)
class LocalCoordinates:
    """Coordinates relative to an object's last position and direction, in which paths of different objects are
    comparable.
    """

    origin: Float64[np.ndarray, " 2"]
    rotation: Float64[np.ndarray, "2 2"]

    def to_local(self, xy: Float64[np.ndarray, "*step 2"]) -> Float64[np.ndarray, "*step 2"]:
        return np.asarray((xy - self.origin) @ self.rotation, dtype=np.float64)

    def to_global(self, xy: Float64[np.ndarray, "*step 2"]) -> Float64[np.ndarray, "*step 2"]:
        return np.asarray(xy @ self.rotation.T + self.origin, dtype=np.float64)


def local_coordinates(sample: Sample) -> LocalCoordinates:
    """Coordinates whose origin is the last visible position and whose first axis is the direction of the last
    step.
    """
    xy = _positions(sample)
    visible = xy[np.isfinite(xy).all(axis=1)]
    step = visible[-1] - visible[-2] if len(visible) > 1 else np.zeros(2)
    length = float(np.hypot(*step))
    forward = step / length if length > 0 else np.array([1.0, 0.0])
    left = np.array([-forward[1], forward[0]])
    # The second axis points to the side that the object came from, so that mirrored bends are equal.
    side = 1.0 if float(((visible - visible[-1]) @ left).mean()) >= 0 else -1.0
    return LocalCoordinates(visible[-1].copy(), np.stack([forward, side * left], axis=1))


def points_from_sample(
    sample: Sample, *, weights: Float64[np.ndarray, " point"] | None = None
) -> PointSequence:
    """The points of a sample of the task forecast, next-place, next-event or classify.

    weights: weight of each stay in a counting rule, whose logarithm an arm corrects; 1 by default.
    """
    if sample.task == "next-place":
        return _stay_points(sample, weights)
    if sample.task == "next-event":
        return _event_points(sample)
    return _classification_points(sample) if sample.task == "classify" else _forecast_points(sample)


def _forecast_points(sample: Sample) -> PointSequence:
    """The visible fixes before the first wanted one; missing fixes are dropped."""
    coordinates, xy = local_coordinates(sample), _positions(sample)
    count = sample.first_wanted_step
    at = np.flatnonzero(np.isfinite(xy[:count]).all(axis=1))
    local = coordinates.to_local(xy[at])
    numbers, step, mean_step_m = _movement_features(local, sample.time[at])
    truth = coordinates.to_local(positions_of(sample, sample.truth)[count:])
    steps_ahead = np.arange(count, len(sample.time)) - at[-1]
    base = step[-1] / (at[-1] - at[-2] if len(at) > 1 else 1) * steps_ahead[:, None]
    t = np.append(at - (count - 1), 1).astype(np.float64)
    return PointSequence(
        numbers=numbers,
        codes=np.zeros(len(at), dtype=np.int64),
        calendar=calendar_slots(sample, count)[np.append(at, count)],
        position=np.column_stack([np.vstack([local, [0.0, 0.0]]), t]),
        base=base,
        target=truth,
        mean_step_m=mean_step_m,
    )


def _movement_features(
    local: Float64[np.ndarray, "point 2"], time: Int64[np.ndarray, " point"]
) -> tuple[Float64[np.ndarray, "point feature"], Float64[np.ndarray, "point 2"], float]:
    """Features of each point of a path, its steps, and the mean step in metres; NaN for a single point."""
    step = np.diff(local, axis=0, prepend=local[:1])
    seconds = np.diff(time, prepend=time[:1]).astype(np.float64)
    mean_step_m = float(np.hypot(*step[1:].T).mean()) if len(step) > 1 else np.nan
    numbers = np.column_stack([local, step, np.hypot(*step.T), np.log1p(seconds)])
    return numbers, step, mean_step_m


def _classification_points(sample: Sample) -> PointSequence:
    """A whole path relative to its last fix; missing fixes are dropped."""
    xy = _positions(sample)
    visible = np.flatnonzero(np.isfinite(xy).all(axis=1))
    local = local_coordinates(sample).to_local(xy[visible])
    numbers, _, mean_step_m = _movement_features(local, sample.time[visible])
    calendar = calendar_slots(sample, len(sample.time))[visible]
    label = label_index(sample)
    t = np.arange(-len(visible) + 1, 2, dtype=np.float64)
    return PointSequence(
        numbers=numbers,
        codes=np.zeros(len(visible), dtype=np.int64),
        calendar=np.vstack([calendar, calendar[-1:]]),
        position=np.column_stack([np.vstack([local, [0.0, 0.0]]), t]),
        base=np.zeros((1, 1)),
        target=np.array([[np.nan if label < 0 else float(label)]]),
        mean_step_m=mean_step_m,
    )


def _stay_points(sample: Sample, weights: Float64[np.ndarray, " point"] | None) -> PointSequence:
    channel = sample.side.channels.index("place")
    place = sample.values[:-1, 0, channel]
    code = np.where(np.isfinite(place), place, -1).astype(np.int64) + 1
    hours = (sample.time[-1] - sample.time[:-1]) / HOUR_S
    other = [i for i, name in enumerate(sample.side.channels) if name not in ("place", "x", "y")]
    other_values = np.log1p(np.nan_to_num(np.abs(sample.values[:-1, 0][:, other])))
    previous, second_previous = np.roll(code, 1), np.roll(code, 2)
    previous[:1], second_previous[:2] = 0, 0
    latest, second = code[-1], code[-2] if len(code) > 1 else 0
    minute = sample.side.calendar.step_of_day * (sample.side.freq_s / 60)
    minutes_apart = np.abs(minute[:-1] - minute[-1])
    clock_hours = np.minimum(minutes_apart, 1440 - minutes_apart) / 60
    weekend = sample.side.calendar.day_of_week >= 5
    count = np.array([(code == place_code).sum() for place_code in code])
    flags = [
        code == latest,
        previous == latest,
        (previous == latest) & (second_previous == second),
        weekend[:-1] == weekend[-1],
        sample.side.calendar.day_of_week[:-1] == sample.side.calendar.day_of_week[-1],
    ]
    numbers = [
        np.log1p(hours),
        np.exp(-clock_hours / 2),
        np.exp(-clock_hours / 8),
        np.log1p(count),
        np.arange(len(code))[::-1] / 10,
    ]
    weight = np.ones(len(code)) if weights is None else weights
    truth = np.nan if sample.truth is None else sample.truth[-1, 0, channel]
    days = (sample.time - sample.time[-1]) / DAY_S
    return PointSequence(
        numbers=np.column_stack([*numbers, *flags, other_values]).astype(np.float64),
        codes=code,
        calendar=calendar_slots(sample, len(code)),
        position=np.column_stack([np.zeros((len(days), 2)), days]),
        base=np.log(np.maximum(weight, 1e-4))[:, None],
        target=np.array([[truth]]),
        base_per_point=True,
    )


def _event_points(sample: Sample) -> PointSequence:
    channels = sample.side.channels
    count = len(sample.time) - 1
    visible = sample.values[:count, 0]
    gap = log_gap(np.nan_to_num(visible[:, channels.index("gap_h")], nan=1.0))
    hours = (sample.time[count] - sample.time[:count]) / HOUR_S
    age = log_gap(hours)
    xy = _positions(sample)[:count] if "x" in channels else np.zeros((count, 2))
    offset = xy - xy[-1]
    other = [i for i, name in enumerate(channels) if name not in ("gap_h", "x", "y", "mark")]
    code = np.zeros(count, dtype=np.int64)
    if "mark" in channels:
        mark = visible[:, channels.index("mark")]
        code = np.where(np.isfinite(mark), mark, -1).astype(np.int64) + 1
    return PointSequence(
        numbers=np.column_stack([gap, age, offset, np.hypot(*offset.T), np.nan_to_num(visible[:, other])]),
        codes=code,
        calendar=calendar_slots(sample, count),
        position=np.column_stack(
            [np.vstack([offset, [0.0, 0.0]]), np.append(-np.log1p(np.maximum(hours, 0)), 0.0)]
        ),
        base=np.zeros((1, 1)),
        target=np.array([_event_target(sample, xy[-1])]),
        query=np.where(sample.visible[-1, 0, other], sample.values[-1, 0, other], np.nan),
    )


def _event_target(sample: Sample, last: Float64[np.ndarray, " 2"]) -> list[float]:
    """The mark of the next event where it is asked for, else the logarithm of its gap and, where events have a place,
    its offset in metres from the last one.
    """
    channels = sample.side.channels
    truth = sample.truth if sample.truth is not None else np.full(sample.values.shape, np.nan)
    if "mark" in channels and sample.wanted[-1, 0, channels.index("mark")]:
        return [float(truth[-1, 0, channels.index("mark")])]
    gap = float(log_gap(truth[-1, 0, channels.index("gap_h")]))
    return [gap, *(positions_of(sample, truth)[-1] - last)] if "x" in channels else [gap]


def log_gap(hours: np.ndarray | float) -> np.ndarray:
    """The natural logarithm of gaps in hours; a gap of 0 counts as half a second."""
    return np.asarray(np.log(np.maximum(hours, _MIN_GAP_H)), dtype=np.float64)


def fit_point_scaler(train: Sequence[PointSequence]) -> PointScaler:
    """Statistics of the training points; a constant feature keeps its unit."""
    rows = np.concatenate([points.numbers for points in train])
    std = real_spread(rows.std(axis=0), np.abs(rows).max(axis=0))
    paths = np.concatenate([points.position[:, :2] for points in train])
    metres = float(np.sqrt((paths**2).mean()))
    return PointScaler(
        mean=rows.mean(axis=0),
        std=np.where(std > 0, std, 1.0),
        metres=metres if metres > 0 else 1.0,
        step_m=typical_step([points.mean_step_m for points in train]),
        query=fit_query_scaler(np.stack([points.query for points in train])),
    )


def stack_points(rows: Sequence[PointSequence], scaler: PointScaler, *, points: int) -> PointBatch:
    """Stacks samples, the last `points` points of each; space is expressed in units of the scaler."""
    numbers = [(row.numbers[-points:] - scaler.mean) / scaler.std for row in rows]
    space = np.array([scaler.metres, scaler.metres, 1.0])
    lengths = [len(row) for row in numbers]
    real = np.stack([np.arange(points) >= points - length for length in lengths])
    targets = np.stack([row.target for row in rows])
    base = np.stack(
        [_pad_left(row.base[-points:], points) if row.base_per_point else row.base for row in rows]
    )
    return PointBatch(
        numbers=_float(np.stack([_pad_left(sample_numbers, points) for sample_numbers in numbers])),
        codes=torch.from_numpy(np.stack([_pad_left(row.codes[-points:], points) for row in rows])),
        calendar=torch.from_numpy(
            np.stack([_pad_left(row.calendar[-points - 1 :], points + 1) for row in rows])
        ),
        position=_float(
            np.stack([_pad_left(row.position[-points - 1 :] / space, points + 1) for row in rows])
        ),
        real=torch.from_numpy(real),
        base=_float(base),
        target=_float(np.nan_to_num(targets)),
        valid=torch.from_numpy(np.isfinite(targets)),
        noise=torch.zeros((len(rows), 0, 0)),
        mean_step_m=torch.tensor(
            [_step_unit(row.mean_step_m, scaler.step_m) for row in rows], dtype=torch.float32
        ),
        query=_float(scaler.query.scale(np.stack([row.query for row in rows]))),
        prompts=("",) * len(rows),
    )


def _step_unit(mean_step_m: float, typical_m: float) -> float:
    """The unit of a path's corrections in metres: its mean step, the typical one where it has none."""
    return typical_m if np.isnan(mean_step_m) else max(mean_step_m, MIN_STEP_SHARE * typical_m)


def _pad_left(rows: np.ndarray, length: int) -> np.ndarray:
    """The rows with rows of zeros before them."""
    missing = length - len(rows)
    return np.concatenate([np.zeros((missing, *rows.shape[1:]), dtype=rows.dtype), rows])


def _positions(sample: Sample) -> Float64[np.ndarray, "time 2"]:
    return positions_of(sample, sample.values)


def positions_of(sample: Sample, values: np.ndarray | None) -> Float64[np.ndarray, "time 2"]:
    """x and y of each step of the values (NaN where the truth is None), [time, 2]."""
    if values is None:
        return np.full((len(sample.time), 2), np.nan)
    at = [sample.side.channels.index(name) for name in ("x", "y")]
    return np.asarray(values[:, 0][:, at], dtype=np.float64)


def calendar_slots(sample: Sample, count: int) -> Int64[np.ndarray, "slot 2"]:
    """Part of the day and day of the week of the points, and of the first predicted step."""
    calendar = sample.side.calendar
    part = calendar.step_of_day[: count + 1] * sample.side.freq_s * DAY_PARTS // DAY_S
    return np.stack([np.clip(part, 0, DAY_PARTS - 1), calendar.day_of_week[: count + 1]], axis=1).astype(
        np.int64
    )


def _float(array: Float[np.ndarray, "*shape"]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
