"""The serializer of videos: writes samples as text and reads answers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from st2llm.data.video_features import CHANNELS
from st2llm.errors import ConfigError, DataError
from st2llm.serialize.answer.formats import AnswerFormat, NumbersFormat
from st2llm.serialize.answer.labels import LabelAnswer
from st2llm.serialize.answer.series import SERIES_TASKS, SeriesAnswer
from st2llm.serialize.numbers import MISSING, Notation, Strategy, format_decimal, is_sequential
from st2llm.serialize.template import truncation
from st2llm.serialize.template.interface import Example, KindSpec, SerializerOptions
from st2llm.serialize.text.formatting import format_value
from st2llm.serialize.text.lazy_sequence import LazySequence
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.text.series import (
    Line,
    TargetSeries,
    channel_name,
    forecast_start,
    scale_note,
    visible_values,
    write_with_hidden,
)
from st2llm.serialize.text.told import ValueText, series_entries
from st2llm.serialize.video.frames import cut_times, describe_frames, region_movements
from st2llm.serialize.video.variables import drop_order, variable_names
from st2llm.types import Grammar, Prediction, Sample

FrameLabeller = Callable[[UInt8[np.ndarray, "time row col 3"]], Sequence[Sequence[tuple[str, float]]]]
"""Labels frames: for each frame labels with their probabilities, the most probable first."""

_LABEL_TASKS = ("classify", "describe", "question-answer")
_FRAMES_PER_LINE = 10
"""Number of frames in a line of numbers."""


@dataclass(frozen=True)
class VideoSerializer:
    """Writes samples of video clips as text and reads answers.

    Series of a region are answered in numbers (see SeriesAnswer: a round trip moves a value by at most half a step);
    classes, descriptions and questions as labels (see LabelAnswer). frames: number of frames that are described, evenly
    spaced. neighbours: number of adjacent regions that are shown. recent: number of their latest values. label_frames:
    labels frames; None where the prompt should not contain labels.
    """

    notation: Notation = field(default_factory=Notation)
    task: str = "forecast"
    per: str = "place"
    answer: AnswerFormat | None = None
    frames: int = 4
    neighbours: int = 0
    recent: int = 0
    label_frames: FrameLabeller | None = None

    def variables(self, sample: Sample) -> dict[str, Any]:
        if self.task in _LABEL_TASKS:
            return self._clip_variables(sample) | self._label_variables(sample)
        values = self._clip_variables(sample) | {
            "channel": self._channel(sample),
            "count": len(sample.wanted_steps),
        }
        return values | self._place_variables(sample) if self.per == "place" else values

    def numbers(self, sample: Sample) -> Strategy:
        """The notation of the first target series, fitted to visible values alone."""
        return self._series.series(sample)[0].numbers

    def grammar(self, sample: Sample) -> Grammar:
        return self._series.grammar(sample) if self.task in SERIES_TASKS else self._label.grammar(sample)

    def truth(self, sample: Sample) -> str:
        if self.task in SERIES_TASKS:
            return self._series.truth(sample)
        return self._label.truth(sample)

    def read(self, text: str, sample: Sample) -> Prediction:
        return (
            self._series.read(text, sample) if self.task in SERIES_TASKS else self._label.read(text, sample)
        )

    def precision(self, sample: Sample) -> float | None:
        return self._series.precision(sample) if self.task in SERIES_TASKS else None

    def example(self, solved: Sample, target: Sample) -> Example:
        """The history of a solved sample in its own notation; for label tasks the movement and the question."""
        variables = self.variables(solved)
        if self.task in SERIES_TASKS:
            text = [f"{line.label}:{line.numbers}" for line in variables["history"]]
            last = [f"{variables['asked']}:"] if self.task == "forecast" else []
            same = variables["place"] == plain_text(target.side.labels[target.wanted_nodes[0]])
            step = scale_note(self._series.series(solved)[0].numbers, variables["unit"])
            first = (
                []
                if same and not step
                else [f"{variables['channel']} in {variables['place']},{step or ' one number a frame'}"]
            )
            return Example("\n".join([*first, *text, *last]), self.truth(solved))
        text = [f"{line.label}: {line.text}" for line in variables["movement"]]
        text += [variables["question"]] if variables["question"] else []
        return Example("\n".join(text), self.truth(solved))

    def drop_order(self, variables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        return drop_order(variables)

    @property
    def _series(self) -> SeriesAnswer:
        return SeriesAnswer(self.notation, self.task)

    @property
    def _label(self) -> LabelAnswer:
        return LabelAnswer.for_template(self.answer, f"video/{self.task}")

    def _clip_variables(self, sample: Sample) -> dict[str, Any]:
        """Values of CLIP_VARIABLES."""
        side, steps = sample.side, sample.complete_steps
        time = sample.time[sample.visible_steps]
        rows, cols = side.frames.shape[1:3] if side.frames is not None else (0, 0)
        return {
            "dataset": plain_text(side.dataset),
            "description": plain_text(side.description),
            "unit": plain_text(side.unit),
            "notes": tuple(plain_text(note) for note in side.notes),
            "picture": f"{cols} x {rows}" if rows else "",
            "fps": format_decimal(round(side.fps, 2)) if side.fps else "",
            "seen": len(steps),
            "seconds": format_decimal(round(float(time[-1] - time[0]) / 1000, 2)) if len(time) else "0",
            "regions": tuple(plain_text(label) for label in side.labels),
            "looks": LazySequence(lambda: describe_frames(sample, self.frames, self.label_frames)),
            "labelled": self.label_frames is not None and len(steps) > 0,
            "movement": LazySequence(lambda: region_movements(sample)),
            "cuts": LazySequence(lambda: cut_times(sample)),
        }

    def _label_variables(self, sample: Sample) -> dict[str, Any]:
        if self.task == "question-answer" and not sample.question:
            raise DataError(
                f"{sample.id} asks no question. Take samples with Sample.question, or another template."
            )
        options = LabelAnswer(self.answer).options(sample) if self.answer is not None else ()
        return {"question": plain_text(sample.question), "options": options}

    def _place_variables(self, sample: Sample) -> dict[str, Any]:
        """Values of PLACE_VARIABLES, for the one region that `sample` asks for."""
        self._channel(sample)
        series = self._series.series(sample)[0]
        forecast = self.task == "forecast"
        steps = slice(0, forecast_start(sample) if forecast else len(sample.time))
        recent = min(self.recent, steps.stop) if forecast else steps.stop
        other = 1 - series.channel if len(sample.side.channels) == 2 else series.channel
        variables: dict[str, Any] = {
            "place": plain_text(sample.side.labels[series.node]),
            "history": self._history(sample, series, steps),
            "asked": _frame_range(series.steps),
            "asked_frames": tuple(str(step + 1) for step in series.steps.tolist()),
            "neighbours": self._neighbours(sample, series, steps, recent),
            "recent": recent,
            "other": self._other(sample, series.node, other, steps)[-recent:]
            if recent and other != series.channel
            else (),
            "other_channel": channel_name(sample, other),
            "number_step": format_decimal(series.numbers.unit),
            "number_shift": series.numbers.zero,
            "number_note": series.numbers.note,
        }
        return variables | {"missing": truncation.has_missing(variables)}

    def _channel(self, sample: Sample) -> str:
        """The name of the one channel that is asked for. Raises DataError where there are several."""
        wanted = sample.wanted_channels
        if len(wanted) != 1:
            raise DataError(
                f"{sample.id} asks for {len(wanted)} channels, but a prompt asks for one of {', '.join(CHANNELS)}. Set "
                f"`asked` in the data card to one, or Video.asked."
            )
        return channel_name(sample, wanted[0])

    def _history(self, sample: Sample, series: TargetSeries, steps: slice) -> tuple[Line, ...]:
        values = visible_values(sample, series.node, series.channel)
        wanted = sample.wanted[:, series.node, series.channel] & (self.task != "forecast")
        lines = []
        for begin in range(0, steps.stop, _FRAMES_PER_LINE):
            part = slice(begin, min(begin + _FRAMES_PER_LINE, steps.stop))
            numbers = write_with_hidden(series.numbers, values[part], wanted[part])
            label = _frame_range(np.arange(part.start, part.stop))
            told = series_entries(sample, series.node, series.channel, part)
            lines.append(Line(label, numbers, start=label, told=told))
        return tuple(lines)

    def _neighbours(
        self, sample: Sample, series: TargetSeries, steps: slice, recent: int
    ) -> tuple[Line, ...]:
        neighbours = sample.side.neighbours[series.node][: self.neighbours] if recent else ()
        return tuple(
            Line(
                label,
                series.numbers.write(visible_values(sample, i, series.channel)[steps][-recent:]),
                start=label,
                told=series_entries(
                    sample, i, series.channel, slice(max(0, steps.stop - recent), steps.stop)
                ),
            )
            for i, _ in neighbours
            for label in [plain_text(sample.side.labels[i])]
        )

    def _other(self, sample: Sample, node: int, channel: int, steps: slice) -> tuple[str, ...]:
        return tuple(
            ValueText(
                format_value(float(value), 1) if np.isfinite(value) else MISSING,
                series_entries(sample, node, channel, slice(step, step + 1)),
            )
            for step, value in enumerate(visible_values(sample, node, channel)[steps])
        )


def _frame_range(steps: Int64[np.ndarray, " step"]) -> str:
    """Frames as text, counted from 1: `frames 13 to 18`, `frame 4`, `frames 3, 7`."""
    first, last = int(steps[0]) + 1, int(steps[-1]) + 1
    if len(steps) == 1:
        return f"frame {first}"
    if last - first + 1 == len(steps):
        return f"frames {first} to {last}"
    return "frames " + ", ".join(str(step + 1) for step in steps.tolist())


def _make(plan: SerializerOptions) -> VideoSerializer:
    if plan.per == "place" and plan.task not in SERIES_TASKS:
        raise ConfigError(f"video/{plan.task} is about the whole clip; set `per: sample`.")
    if plan.per == "sample" and plan.task in SERIES_TASKS and plan.answer is not None:
        raise ConfigError(f"video/{plan.task} is answered region by region; set `per: place`.")
    head = plan.answer if isinstance(plan.answer, NumbersFormat) else NumbersFormat()
    if plan.task in SERIES_TASKS[1:] and is_sequential(head.strategy):
        raise ConfigError(
            f"video/{plan.task} cannot be written in {head.strategy}, which go on from one value to the next. Choose "
            f"another `strategy` in `answer`."
        )
    settings = dict(plan.settings)
    top = settings.pop("labels")
    label_frames: FrameLabeller | None = partial(_imagenet_labels, top=top) if top else None
    return VideoSerializer(
        head.notation, plan.task, plan.per, plan.answer, **settings, label_frames=label_frames
    )


def _imagenet_labels(
    frames: UInt8[np.ndarray, "time row col 3"], *, top: int
) -> Sequence[Sequence[tuple[str, float]]]:
    """The `top` most probable ImageNet classes of each frame. Imports torch only when a template needs labels."""
    labels: FrameLabeller = partial(import_module("st2llm.features.image").load().labels, top=top)
    return labels(frames)


KIND = KindSpec(
    tasks={
        **dict.fromkeys(SERIES_TASKS, ("numbers",)),
        "classify": ("choice", "ranking"),
        "describe": ("text",),
        "question-answer": ("text", "choice", "ranking", "numbers", "time"),
    },
    variables=variable_names,
    make=_make,
    settings={"frames": 4, "neighbours": 0, "recent": 0, "labels": 0},
)
