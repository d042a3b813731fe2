"""A video in words: what each frame shows by region, how things move, and answers in numbers or words read back."""

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
from st2llm.serialize.answer.series import SeriesAnswer
from st2llm.serialize.numbers import MISSING, SEQUENTIAL_STRATEGIES, Notation, Strategy, format_decimal
from st2llm.serialize.template import truncation
from st2llm.serialize.template.interface import Example, KindSpec, SerializerOptions
from st2llm.serialize.text.formatting import format_value
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
from st2llm.serialize.video.frames import LazySequence, cut_times, describe_frames, region_movements
from st2llm.types import Grammar, Prediction, Sample

FrameLabeller = Callable[[UInt8[np.ndarray, "time row col 3"]], Sequence[Sequence[tuple[str, float]]]]
"""What says of frames what is in them: for each frame labels with their probabilities, the most probable first."""

CLIP_VARIABLES: Mapping[str, str] = {
    "dataset": "name of the data set",
    "description": "what the data are, in the card's words; may be empty",
    "unit": "unit of brightness and motion: levels of 0 to 255",
    "notes": "sentences known in advance (a list)",
    "picture": "width and height of the picture in pixels: 160 x 120; may be empty",
    "fps": "frames a second, on average",
    "seen": "how many frames are shown",
    "seconds": "how long what is shown lasts",
    "regions": "the names of the regions, row by row: top left, top centre, ...",
    "looks": "some frames in words: .time, .brightness, .motion, .moves, .colours and .labels (each may be '')",
    "labelled": "whether the looks have labels; without them nobody has said what the frames show",
    "movement": "what moves in each region over all that is shown: .label and .text",
    "cuts": "the times at which a new shot begins (a list)",
}
SAMPLE_VARIABLES: Mapping[str, str] = {
    **CLIP_VARIABLES,
    "channel": "what is asked for: brightness or motion",
    "count": "how many frames are asked for",
}
PLACE_VARIABLES: Mapping[str, str] = {
    **SAMPLE_VARIABLES,
    "place": "name of the region",
    "history": "lines, oldest first, each with .label and .numbers; ? stands for what is asked for amid them",
    "asked": "label of the line to be continued: frames 13 to 18",
    "asked_frames": "the numbers of the frames that are asked for (a list)",
    "neighbours": "lines of the adjacent regions, each with .label and .numbers",
    "recent": "how many values of each neighbour are shown",
    "other": "the last `recent` values of what is not asked for (motion or brightness) in the same region",
    "other_channel": "what that is: motion or brightness",
    "number_step": "what a difference of one stands for, in the unit",
    "number_shift": "what was added to every number; 0 where nothing is negative",
    "number_note": "how to read the numbers, in a sentence; '' where they are plain numbers",
    "missing": "whether an x for a missing value is shown",
}
LABEL_VARIABLES: Mapping[str, str] = {
    **CLIP_VARIABLES,
    "question": "what is asked, in words; may be empty",
    "options": "what can be chosen from; empty where the answer is free (a list)",
}
_SERIES_TASKS = ("forecast", "impute", "interpolate", "krige")
_LABEL_TASKS = ("classify", "describe", "question-answer")
_FRAMES_PER_LINE = 10
"""Frames in a line of numbers."""


@dataclass(frozen=True)
class VideoSerializer:
    """Writes samples of clips as words, and reads the answers.

    Series of a region are asked for in numbers (see SeriesAnswer: a round trip moves a value by at most half a step);
    classes, descriptions and questions in words (see LabelAnswer). frames: how many frames are told, evenly spread.
    neighbours: how many adjacent regions are shown. recent: how many of their latest values. describe: says what is in
    frames; without it the prompt says that nobody has.
    """

    notation: Notation = field(default_factory=Notation)
    task: str = "forecast"
    per: str = "place"
    answer: AnswerFormat | None = None
    frames: int = 4
    neighbours: int = 0
    recent: int = 0
    describe: FrameLabeller | None = None

    def variables(self, sample: Sample) -> dict[str, Any]:
        if self.task in _LABEL_TASKS:
            return self._shown(sample) | self._asked_words(sample)
        words = self._shown(sample) | {
            "channel": self._channel(sample),
            "count": len(sample.wanted_steps),
        }
        return words | self._place_words(sample) if self.per == "place" else words

    def numbers(self, sample: Sample) -> Strategy:
        """The numbers of the first series that is asked for; hidden values have no part in them."""
        return self._series.series(sample)[0].numbers

    def grammar(self, sample: Sample) -> Grammar:
        return self._series.grammar(sample) if self.task in _SERIES_TASKS else self._label.grammar(sample)

    def truth(self, sample: Sample) -> str:
        if self.task in _SERIES_TASKS:
            return self._series.truth(sample)
        return self._label.truth(sample)

    def read(self, text: str, sample: Sample) -> Prediction:
        return (
            self._series.read(text, sample) if self.task in _SERIES_TASKS else self._label.read(text, sample)
        )

    def precision(self, sample: Sample) -> float | None:
        return self._series.precision(sample) if self.task in _SERIES_TASKS else None

    def example(self, solved: Sample, asked: Sample) -> Example:
        """The lines of a solved sample in its own numbers; of a clip what moves in it, and its question."""
        words = self.variables(solved)
        if self.task in _SERIES_TASKS:
            text = [f"{line.label}:{line.numbers}" for line in words["history"]]
            last = [f"{words['asked']}:"] if self.task == "forecast" else []
            same = words["place"] == plain_text(asked.side.labels[asked.wanted_nodes[0]])
            step = scale_note(self._series.series(solved)[0].numbers, words["unit"])
            first = (
                []
                if same and not step
                else [f"{words['channel']} in {words['place']},{step or ' one number a frame'}"]
            )
            return Example("\n".join([*first, *text, *last]), self.truth(solved))
        text = [f"{line.label}: {line.text}" for line in words["movement"]]
        text += [words["question"]] if words["question"] else []
        return Example("\n".join(text), self.truth(solved))

    def drop_order(self, words: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        return drop_order(words)

    @property
    def _series(self) -> SeriesAnswer:
        return SeriesAnswer(self.notation, self.task)

    @property
    def _label(self) -> LabelAnswer:
        return LabelAnswer.for_template(self.answer, f"video/{self.task}")

    def _shown(self, sample: Sample) -> dict[str, Any]:
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
            "looks": LazySequence(lambda: describe_frames(sample, self.frames, self.describe)),
            "labelled": self.describe is not None and len(steps) > 0,
            "movement": LazySequence(lambda: region_movements(sample)),
            "cuts": LazySequence(lambda: cut_times(sample)),
        }

    def _asked_words(self, sample: Sample) -> dict[str, Any]:
        if self.task == "question-answer" and not sample.question:
            raise DataError(
                f"{sample.id} asks no question. Take samples with Sample.question, or another template."
            )
        options = LabelAnswer(self.answer).options(sample) if self.answer is not None else ()
        return {"question": plain_text(sample.question), "options": options}

    def _place_words(self, sample: Sample) -> dict[str, Any]:
        """Values of PLACE_VARIABLES, for the one region that `sample` asks for."""
        self._channel(sample)
        one = self._series.series(sample)[0]
        forecast = self.task == "forecast"
        steps = slice(0, forecast_start(sample) if forecast else len(sample.time))
        recent = min(self.recent, steps.stop) if forecast else steps.stop
        other = 1 - one.channel if len(sample.side.channels) == 2 else one.channel
        words: dict[str, Any] = {
            "place": plain_text(sample.side.labels[one.node]),
            "history": self._history(sample, one, steps),
            "asked": _frame_range(one.steps),
            "asked_frames": tuple(str(step + 1) for step in one.steps.tolist()),
            "neighbours": self._neighbours(sample, one, steps, recent),
            "recent": recent,
            "other": self._other(sample, one.node, other, steps)[-recent:]
            if recent and other != one.channel
            else (),
            "other_channel": channel_name(sample, other),
            "number_step": format_decimal(one.numbers.unit),
            "number_shift": one.numbers.zero,
            "number_note": one.numbers.note,
        }
        return words | {"missing": truncation.has_missing(words)}

    def _channel(self, sample: Sample) -> str:
        """The one channel that is asked for."""
        asked = sample.wanted_channels
        if len(asked) != 1:
            raise DataError(
                f"{sample.id} asks for {len(asked)} of {', '.join(CHANNELS)}, but a prompt asks for one of them. Set "
                f"`asked` in the data card to one, or Video.asked."
            )
        return channel_name(sample, asked[0])

    def _history(self, sample: Sample, one: TargetSeries, steps: slice) -> tuple[Line, ...]:
        values = visible_values(sample, one.node, one.channel)
        asked = sample.wanted[:, one.node, one.channel] & (self.task != "forecast")
        made = []
        for begin in range(0, steps.stop, _FRAMES_PER_LINE):
            part = slice(begin, min(begin + _FRAMES_PER_LINE, steps.stop))
            numbers = write_with_hidden(one.numbers, values[part], asked[part])
            label = _frame_range(np.arange(part.start, part.stop))
            made.append(Line(label, numbers, start=label))
        return tuple(made)

    def _neighbours(self, sample: Sample, one: TargetSeries, steps: slice, recent: int) -> tuple[Line, ...]:
        near = sample.side.neighbours[one.node][: self.neighbours] if recent else ()
        return tuple(
            Line(
                label, one.numbers.write(visible_values(sample, i, one.channel)[steps][-recent:]), start=label
            )
            for i, _ in near
            for label in [plain_text(sample.side.labels[i])]
        )

    def _other(self, sample: Sample, node: int, channel: int, steps: slice) -> tuple[str, ...]:
        return tuple(
            format_value(float(value), 1) if np.isfinite(value) else MISSING
            for value in visible_values(sample, node, channel)[steps]
        )


def drop_order(words: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What may go to save tokens, one by one: neighbours (last first), the values that are not asked for, colours of
    the looks, every other look (again and again, newest first, until one is left), movement, the description, the
    oldest lines of history.

    Yields what went and the words that are left. One look, the newest line of history, lines with an entry that is
    asked for, and one neighbour of a region without history stay.
    """
    left = dict(words)
    for gone in truncation.drop_neighbours(left):
        yield gone, truncation.with_missing_flag(left)
    if left.get("other"):
        left["other"] = ()
        yield (
            f"values of {left.get('other_channel', 'the other channel')}",
            truncation.with_missing_flag(left),
        )
    if any(look.colours for look in left.get("looks", ())):
        left["looks"] = tuple(look.without_colours() for look in left["looks"])
        yield "colours", truncation.with_missing_flag(left)
    while len(left.get("looks", ())) > 1:
        for position in range(len(left["looks"]) - 2, -1, -2):
            look = left["looks"][position]
            left["looks"] = (*left["looks"][:position], *left["looks"][position + 1 :])
            yield f"look at {look.time}", truncation.with_missing_flag(left)
    if left.get("movement"):
        left["movement"] = ()
        yield "movement", truncation.with_missing_flag(left)
    if left.get("description"):
        left["description"] = ""
        yield "description", truncation.with_missing_flag(left)
    for gone in truncation.drop_history(left):
        yield gone, truncation.with_missing_flag(left)


def _frame_range(steps: Int64[np.ndarray, " step"]) -> str:
    """`frames 13 to 18`, counted from 1; single frames by their numbers."""
    first, last = int(steps[0]) + 1, int(steps[-1]) + 1
    if len(steps) == 1:
        return f"frame {first}"
    if last - first + 1 == len(steps):
        return f"frames {first} to {last}"
    return "frames " + ", ".join(str(step + 1) for step in steps.tolist())


def _variables(task: str, per: str) -> Mapping[str, str]:
    if task in _SERIES_TASKS:
        return PLACE_VARIABLES if per == "place" else SAMPLE_VARIABLES
    return LABEL_VARIABLES


def _make(plan: SerializerOptions) -> VideoSerializer:
    if plan.per == "place" and plan.task not in _SERIES_TASKS:
        raise ConfigError(f"video/{plan.task} is about the whole clip; set `per: sample`.")
    if plan.per == "sample" and plan.task in _SERIES_TASKS and plan.answer is not None:
        raise ConfigError(f"video/{plan.task} is answered region by region; set `per: place`.")
    head = plan.answer if isinstance(plan.answer, NumbersFormat) else NumbersFormat()
    if plan.task in _SERIES_TASKS[1:] and head.strategy in SEQUENTIAL_STRATEGIES:
        raise ConfigError(
            f"video/{plan.task} cannot be written in {head.strategy}, which go on from one value to the next. Choose "
            f"another `strategy` in `answer`."
        )
    settings = dict(plan.settings)
    top = settings.pop("labels")
    describe: FrameLabeller | None = partial(_imagenet_labels, top=top) if top else None
    return VideoSerializer(head.notation, plan.task, plan.per, plan.answer, **settings, describe=describe)


def _imagenet_labels(
    frames: UInt8[np.ndarray, "time row col 3"], *, top: int
) -> Sequence[Sequence[tuple[str, float]]]:
    """The `top` most probable ImageNet classes of each frame; torch is loaded here, where a template asks for them."""
    labels: FrameLabeller = partial(import_module("st2llm.features.image").load().labels, top=top)
    return labels(frames)


KIND = KindSpec(
    tasks={
        **dict.fromkeys(_SERIES_TASKS, ("numbers",)),
        "classify": ("choice", "ranking"),
        "describe": ("text",),
        "question-answer": ("text", "choice", "ranking", "numbers", "time"),
    },
    variables=_variables,
    make=_make,
    settings={"frames": 4, "neighbours": 0, "recent": 0, "labels": 0},
)
