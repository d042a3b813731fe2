"""The preprocessor of sequences (trajectories, events): tensors of points, and an arm's output in raw units."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from st2llm.align.sequence_head import NOISE_SIZE, GapMixture, NextEventDistribution
from st2llm.encode.point_batch import (
    PointBatch,
    PointSequence,
    fit_point_scaler,
    local_coordinates,
    log_gap,
    points_from_sample,
    stack_points,
)
from st2llm.encode.point_scaler import PointScaler, typical_step
from st2llm.encode.sequence import SequenceShape
from st2llm.encode.trajectory_batch import (
    POINT_FEATURES,
    VISIBILITY_CODES,
    path_origin,
    path_step,
    stack_trajectories,
)
from st2llm.errors import ConfigError, nearest
from st2llm.predict.baselines.events import QUANTILE_LEVELS
from st2llm.predict.baselines.movement import (
    ConstantVelocity,
    VisitCounts,
    counts_all,
    counts_transitions,
    predictions_from_log_probs,
)
from st2llm.predict.baselines.rule import window_prediction
from st2llm.predict.preprocess.instruction import render_instruction, render_instructions, template_id
from st2llm.tasks import Task
from st2llm.types import Prediction, Sample, Serializer, TrainingWindows, check_training_windows

SKIPS = {"counts-transitions": counts_transitions, "counts-all": counts_all}
"""The counting rule behind each value of the setting `skip`: arms for the next place correct its scores."""
FORECAST_DRAWS = 100
"""Number of drawn paths of a forecast; the first KEPT_DRAWS of them are returned as draws.

The point forecast is the mean of their median and constant velocity (equal weights, Bates and Granger 1969), since the
errors of the two are weakly correlated. The draws are the arm's alone."""
KEPT_DRAWS = 20
_QUANTILES = 32


@dataclass(frozen=True)
class SequencePreprocessor:
    """Fitted on training samples alone, then the same for all arms. See `Preprocessor`.

    base_rule: the counting rule whose scores arms for the next place correct, or None. template: writes the
    instruction before the soft tokens. slots: number of soft tokens.
    """

    data_family: ClassVar[str] = "sequence"

    scaler: PointScaler
    shape: SequenceShape
    base_rule: VisitCounts | None = None
    template: Serializer | None = None
    slots: int = 0

    def collate(self, samples: Sequence[Sample], *, with_instructions: bool) -> PointBatch:
        if self.shape.task == "track":
            tracks = stack_trajectories(samples, points=self.shape.points, step_m=self.scaler.step_m)
            return self.with_instructions(tracks, samples) if with_instructions else tracks
        batch = stack_points(_points(samples, self.base_rule), self.scaler, points=self.shape.points)
        return self.with_instructions(batch, samples) if with_instructions else batch

    def for_training(self, batch: Any) -> Any:
        """The batch unchanged: sequences are trained on what is asked of them."""
        return batch

    def rows(self, samples: int, places: int) -> int:
        """One row for each sample."""
        return samples

    def with_instructions(self, batch: Any, samples: Sequence[Sample]) -> Any:
        return replace(batch, prompts=render_instructions(self.template, samples, self.slots))

    def instruction(self, sample: Sample) -> str:
        """The text before the soft tokens of one sample; see `render_instruction`."""
        return render_instruction(self.template, sample, self.slots)

    def task_shape(self, sample: Sample, task: Task) -> SequenceShape:
        """The sizes that were fitted, whatever the sample."""
        return self.shape

    def window_shape(self, sample: Sample) -> SequenceShape:
        """The sizes that were fitted, whatever the sample."""
        return self.shape

    def config(self) -> dict[str, Any]:
        return {"words": [], "instruction": template_id(self.template)}

    def scaler_state(self) -> dict[str, Any]:
        return dict(self.scaler.to_json())

    def error_scale(self, sample: Sample) -> Tensor:
        """The standard deviations: the heads of sequences have losses of their own."""
        return torch.from_numpy(self.scaler.std).float()

    def with_sampling_noise(self, batch: Any) -> Any:
        """The batch with the noise that path forecasts are drawn from, the same for every sample and arm."""
        if self.shape.task != "forecast":
            return batch
        noise = torch.randn((1, FORECAST_DRAWS, NOISE_SIZE), generator=torch.Generator().manual_seed(0))
        return replace(batch, noise=noise.expand(len(batch), -1, -1).to(batch.numbers.device))

    def postprocess(
        self, samples: Sequence[Sample], outputs: "Tensor | NextEventDistribution"
    ) -> list[Prediction]:
        """An arm's output as predictions in raw units: rankings of places, gaps and positions of events, or paths."""
        if isinstance(outputs, NextEventDistribution):
            return [self._next_event(sample, outputs, row) for row, sample in enumerate(samples)]
        rows = outputs.cpu().numpy().astype(np.float64)
        if self.shape.task in ("next-place", "classify", "next-mark"):
            return predictions_from_log_probs(samples, rows)
        if self.shape.task == "track":
            paths = [row[-len(s.time) :] for s, row in zip(samples, rows, strict=True)]
            return [
                window_prediction(s, _wanted_positions(s, path))
                for s, path in zip(samples, paths, strict=True)
            ]
        return [self._path(sample, row) for sample, row in zip(samples, rows, strict=True)]

    def postprocess_draws(
        self, samples: Sequence[Sample], draws: Float[Tensor, "draw batch point 2"]
    ) -> list[Prediction]:
        """Predictions of the wanted positions of paths: the median and the draws."""
        rows, predictions = draws.cpu().numpy().astype(np.float64), []
        for row, sample in enumerate(samples):
            paths = rows[:, row, -len(sample.time) :]
            positions = np.stack([_wanted_positions(sample, path) for path in paths])
            median = window_prediction(sample, _wanted_positions(sample, np.median(paths, axis=0)))
            predictions.append(replace(median, samples=positions))
        return predictions

    def _path(self, sample: Sample, paths: Float64[np.ndarray, "draw horizon 2"]) -> Prediction:
        coordinates = local_coordinates(sample)
        at = [sample.side.channels.index(name) for name in ("x", "y")]

        def sample_values(xy: np.ndarray) -> np.ndarray:
            value = np.full((*np.shape(xy)[:-2], *sample.values.shape), np.nan)
            value[..., sample.first_wanted_step :, 0, at[0]] = coordinates.to_global(xy)[..., 0]
            value[..., sample.first_wanted_step :, 0, at[1]] = coordinates.to_global(xy)[..., 1]
            return np.where(sample.wanted, value, np.nan)

        constant_velocity = ConstantVelocity().path(sample)[sample.first_wanted_step :]
        median = sample_values(np.median(paths, axis=0))
        point = (median + sample_values(coordinates.to_local(constant_velocity))) / 2
        return Prediction(window_prediction(sample, point).value, samples=sample_values(paths[:KEPT_DRAWS]))

    def _next_event(self, sample: Sample, output: NextEventDistribution, row: int) -> Prediction:
        mixture = GapMixture(
            *(
                t[row : row + 1].cpu().double()
                for t in (output.gap.weight, output.gap.mean, output.gap.log_std)
            )
        )
        gap_at = sample.side.channels.index("gap_h")
        low, median, high = _gap_quantiles(mixture)
        value = np.full(sample.values.shape, np.nan)
        value[-1, 0, gap_at] = median
        if output.location is not None:
            share = torch.softmax(output.location.share[row], dim=0)[:, None]
            offset_m = (share * output.location.centre[row]).sum(dim=0).cpu().numpy() * self.scaler.metres
            for i, name in enumerate(("x", "y")):
                channel = sample.side.channels.index(name)
                value[-1, 0, channel] = sample.values[-2, 0, channel] + offset_m[i]
        quantiles = {}
        for level, gap in zip(QUANTILE_LEVELS, (low, median, high), strict=True):
            quantiles[level] = np.full(value.shape, np.nan)
            quantiles[level][-1, 0, gap_at] = gap
        return Prediction(
            value=np.where(sample.wanted, value, np.nan),
            quantiles=quantiles,
            log_density={"gap_h": partial(_log_density, mixture)},
        )


def _wanted_positions(
    sample: Sample, path: Float64[np.ndarray, "time part"]
) -> Float64[np.ndarray, "time 1 channel"]:
    """The wanted positions of a path given relative to its first position (x, y and perhaps more); NaN elsewhere."""
    value, origin = np.full(sample.values.shape, np.nan), path_origin(sample)
    for i, name in enumerate(("x", "y")):
        value[:, 0, sample.side.channels.index(name)] = path[:, i] + origin[i]
    return np.where(sample.wanted, value, np.nan)


def _log_density(mixture: GapMixture, hours: np.ndarray) -> np.ndarray:
    gaps = torch.from_numpy(log_gap(hours))
    return np.asarray(mixture.log_density(gaps.reshape(1, -1)).numpy()[0].reshape(np.shape(hours)))


def _gap_quantiles(mixture: GapMixture) -> tuple[float, float, float]:
    """Quantiles of the gap in hours at QUANTILE_LEVELS, by bisection on the logarithm."""
    weight = torch.softmax(mixture.weight, dim=1)
    std = torch.exp(mixture.log_std)
    shares = torch.tensor(QUANTILE_LEVELS, dtype=torch.float64)
    low = (mixture.mean - 8 * std).min().expand(3).clone()
    high = (mixture.mean + 8 * std).max().expand(3).clone()
    for _ in range(60):
        middle = (low + high) / 2
        below = (weight[0] * torch.special.ndtr((middle[:, None] - mixture.mean[0]) / std[0])).sum(dim=1)
        low, high = torch.where(below < shares, middle, low), torch.where(below < shares, high, middle)
    gaps = torch.exp((low + high) / 2).tolist()
    return gaps[0], gaps[1], gaps[2]


def fit_sequence_preprocessor(
    train: TrainingWindows,
    *,
    skip: str,
    points: int,
    template: Serializer | None = None,
    slots: int | None = None,
    whole: bool = False,
) -> SequencePreprocessor:
    """Fits the scaler, the encoder's sizes and the base rule on training samples.

    skip: 'none', or a key of SKIPS for the next place (ConfigError otherwise). points: number of last points that are
    read; 0 reads as many as the longest training sample has. slots: number of soft tokens; None means one for each
    point and one for the question. whole: reads whole paths with the wanted positions as hidden points
    (`encode.trajectory_batch`), as recovery always does.
    """
    check_training_windows(train, "A preprocessor")
    task = trained_task(train[0])
    if skip != "none" and (task != "next-place" or skip not in SKIPS):
        known = ("none", *SKIPS) if task == "next-place" else ("none",)
        raise ConfigError(f"{task} has no skip {skip!r}. {nearest(skip, known)}")
    if whole or task == "recover":
        return _fit_paths(train, template, slots)
    rule = SKIPS[skip](train) if skip != "none" else None
    rows = _points(train, rule)
    points = points or max(len(row.numbers) for row in rows)
    scaler = fit_point_scaler(rows)
    gaps: tuple[float, ...] = ()
    if task == "next-event":
        known_gaps = np.array([row.target[0, 0] for row in rows])
        gaps = tuple(np.nanquantile(known_gaps, np.linspace(0.01, 0.99, _QUANTILES)).tolist())
    horizon, channels = rows[0].target.shape
    wanted_channels = {train[0].side.channels[i] for i in train[0].wanted_channels}
    if task == "next-event" and not {"x", "y"} <= wanted_channels:
        channels = 1
    shape = SequenceShape(
        task=task,
        points=points,
        features=rows[0].numbers.shape[1],
        codes=len(train[0].side.options),
        horizon=horizon,
        channels=channels,
        gaps=gaps,
        metres=scaler.metres,
        query=2 * len(scaler.query.at),
    )
    return SequencePreprocessor(scaler, shape, rule, template, points + 1 if slots is None else slots)


def trained_task(sample: Sample) -> str:
    """The task of an arm for a sequence: of the next event, next-event (its gap, perhaps its location) or next-mark.

    Raises ConfigError where something else of the next event is asked for.
    """
    if sample.task != "next-event":
        return sample.task
    asked = {sample.side.channels[i] for i in sample.wanted_channels}
    if asked == {"mark"}:
        return "next-mark"
    if asked in ({"gap_h"}, {"gap_h", "x", "y"}):
        return "next-event"
    raise ConfigError(
        f"A trained arm predicts the gap of the next event ([gap_h]), its gap and location ([gap_h, x, y]) or its mark "
        f"([mark]), but the task asks for [{', '.join(sorted(asked))}]. Change `asked`, or take rules, readers of "
        f"texts (`text_features`) and text arms, which predict every channel."
    )


def _fit_paths(
    train: TrainingWindows, template: Serializer | None, slots: int | None
) -> SequencePreprocessor:
    """A preprocessor of whole paths. Each path is scaled by its own mean step; fitted are the maximal length and the
    typical mean step, in which the own one is told.
    """
    points = max(len(sample.time) for sample in train)
    shape = SequenceShape("track", points, POINT_FEATURES, VISIBILITY_CODES, horizon=points, channels=3)
    step_m = typical_step([path_step(sample) for sample in train])
    unit = PointScaler(np.zeros(POINT_FEATURES), np.ones(POINT_FEATURES), 1.0, step_m)
    return SequencePreprocessor(unit, shape, None, template, points + 1 if slots is None else slots)


def _points(samples: Sequence[Sample], rule: VisitCounts | None) -> list[PointSequence]:
    return [
        points_from_sample(s, weights=None if rule is None else rule.weights(s).sum(axis=0)) for s in samples
    ]
