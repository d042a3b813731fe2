"""Answers of events: time until the next event, its position and magnitude, or a choice of type or map square."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from st2llm.errors import ConfigError, DataError
from st2llm.serialize.answer.formats import AnswerFormat, NumbersFormat, PairFormat, RankingFormat
from st2llm.serialize.answer.selection import parse_selection
from st2llm.serialize.answer.unread import Unread, unread_reason
from st2llm.serialize.event import variables
from st2llm.serialize.numbers import Notation, Strategy, format_decimal
from st2llm.serialize.text import cells, sequence
from st2llm.serialize.text.once import once_per_object
from st2llm.serialize.trajectory.answer import (
    PositionAnswer,
    decimals_for_steps,
    fit_strategy,
    position_unit,
    visible_positions,
)
from st2llm.types import Choice, Grammar, Prediction, Ranking, Sample

_GAPS = (("minutes", 1 / 60, 0.5), ("hours", 1.0, 48.0), ("days", 24.0, np.inf))
"""Unit, its length in hours, and the largest typical gap in hours for which it is used."""
_NUMERIC = ("gap_h", "x", "y", "magnitude")


@dataclass(frozen=True)
class NumberField:
    """One number of an answer.

    channel: its channel. unit: the unit as text. scale: units of the data in one unit. base: the value from which it is
    counted. numbers: its notation.
    """

    channel: str
    unit: str
    scale: float
    base: float
    numbers: Strategy

    @property
    def description(self) -> str:
        """`hours since the event before`, `kilometres east of the last event`."""
        step = "" if self.numbers.unit == 1 else f"steps of {format_decimal(self.numbers.unit)} "
        if self.channel == "gap_h":
            return f"{step}{self.unit} since the event before"
        if self.channel == "magnitude":
            return f"{step.removesuffix(' ')} of the magnitude".strip() if step else "magnitude"
        return f"{step}{self.unit} {'east' if self.channel == 'x' else 'north'} of the last event seen"

    @property
    def limits(self) -> tuple[float, float]:
        """Minimum and maximum of the number that can be written; a gap is never negative."""
        low, high = self.numbers.limits
        return (max(low, 0.0) if self.channel == "gap_h" else low), high

    @property
    def precision(self) -> float:
        """Maximum error of a round trip, in the unit of the data."""
        reach = max(abs(self.base), self.numbers.limits[1] * self.scale)
        return self.numbers.precision * self.scale + 4 * float(np.spacing(min(reach, 1e300)))

    def write(self, values: Float64[np.ndarray, " _"]) -> list[str]:
        low, high = self.limits
        numbers = np.clip((values - self.base) / self.scale, low, high)
        return [self.numbers.write(numbers[i : i + 1]) for i in range(len(numbers))]


@dataclass(frozen=True)
class NextEventNumbers:
    """The gap, position and magnitude of the next event, those that are asked for, as numbers in this order.

    Gaps are in minutes, hours or days, depending on the median of the visible gaps; positions are relative to the last
    visible event. reference: the sample to whose values the notation is fitted; None for the sample itself.
    """

    answer_format: AnswerFormat
    reference: Sample | None = None

    def with_reference(self, reference: Sample) -> "NextEventNumbers":
        """The same answer in the notation of another sample, for few-shot examples."""
        return replace(self, reference=reference)

    def channels(self, sample: Sample) -> tuple[str, ...]:
        """The channels that are asked for. Raises DataError for none, or for a channel that is not a number."""
        wanted = [name for i, name in enumerate(sample.side.channels) if sample.wanted[:, 0, i].any()]
        not_numeric = [name for name in wanted if name not in _NUMERIC]
        if not_numeric or not wanted:
            raise DataError(
                f"{sample.id} asks for {not_numeric[0] if not_numeric else 'nothing'!r}, which is no number. Take a "
                f"template that answers in words (event/next-event.place), or set `asked` of the task."
            )
        return tuple(wanted)

    def parts(self, sample: Sample) -> tuple[NumberField, ...]:
        """The fields of the answer, fitted to visible values alone."""
        if self.reference is None:
            return _own_parts(self.answer_format, sample)
        return self._fit_parts(sample)

    def _fit_parts(self, sample: Sample) -> tuple[NumberField, ...]:
        channels = self.channels(sample)
        notation = self._notation(self.reference or sample, channels)
        return tuple(self._part(sample, name, notation) for name in channels)

    def grammar(self, sample: Sample) -> Grammar:
        if isinstance(self.answer_format, PairFormat):
            return PositionAnswer(self.answer_format).grammar(sample)
        parts = self.parts(sample)
        grammars = {part.numbers.grammar(len(parts)) for part in parts}
        if len(grammars) > 1:
            raise DataError(
                f"The {len(parts)} numbers of {sample.id} look different in this `strategy`, so that one answer cannot "
                f"hold them all. Choose another in the template's `answer`."
            )
        return grammars.pop()

    def truth(self, sample: Sample) -> str:
        """The correct answer, clipped to the limits of the notation; '' where it is not known."""
        if sample.truth is None:
            return ""
        if isinstance(self.answer_format, PairFormat):
            return PositionAnswer(self.answer_format).truth(sample)
        step = sample.first_wanted_step
        texts = [
            part.write(sample.truth[[step], 0, sample.side.channels.index(part.channel)])[0]
            for part in self.parts(sample)
        ]
        return self.separator.join(texts)

    def read(self, text: str, sample: Sample) -> Prediction:
        if isinstance(self.answer_format, PairFormat):
            return PositionAnswer(self.answer_format).read(text, sample)
        parts = self.parts(sample)
        raw = [part.numbers.read(text, len(parts)) for part in parts]
        numbers = np.array([row[i] for i, row in enumerate(raw) if i < len(row)], dtype=np.float64)
        reason = unread_reason(numbers, len(parts), (-np.inf, np.inf))
        for part, number in zip(parts, numbers, strict=False):
            reason = reason or unread_reason(np.array([number]), 1, part.limits)
        if isinstance(reason, Unread):
            return Prediction(value=None, raw=text, unread_reason=reason)
        value = np.full(sample.values.shape, np.nan)
        for part, number in zip(parts, numbers, strict=True):
            channel = sample.side.channels.index(part.channel)
            value[sample.first_wanted_step, 0, channel] = part.base + number * part.scale
        return Prediction(value=value, raw=text)

    def precision(self, sample: Sample) -> float:
        """The largest precision of the fields."""
        if isinstance(self.answer_format, PairFormat):
            return PositionAnswer(self.answer_format).precision(sample)
        return max(part.precision for part in self.parts(sample))

    def history(self, sample: Sample) -> dict[int, str]:
        """The numbers of each visible event, by step; without the first event if only gaps are shown."""
        steps, parts = sample.context_steps.tolist(), self.parts(sample)
        texts = [part.write(sequence.channel_values(sample, part.channel)[steps]) for part in parts]
        gap_only = [part.channel for part in parts] == ["gap_h"]
        rows = {
            step: self.separator.join(row) for step, row in zip(steps, zip(*texts, strict=True), strict=True)
        }
        if gap_only and steps and np.isnan(sequence.channel_values(sample, "gap_h")[steps[0]]):
            del rows[steps[0]]
        return rows

    @property
    def separator(self) -> str:
        return self.answer_format.separator if isinstance(self.answer_format, NumbersFormat) else ", "

    def _notation(self, sample: Sample, channels: tuple[str, ...]) -> Notation:
        """One notation for all fields: the decimals of the finest, signed if any may be negative."""
        answer_format = self._format_notation
        if isinstance(self.answer_format, PairFormat):
            return answer_format
        fine = [_channel_decimals(sample, name, answer_format) for name in channels]
        return replace(
            answer_format, decimals=max(fine), signed=answer_format.signed or channels != ("gap_h",)
        )

    @property
    def _format_notation(self) -> Notation:
        if isinstance(self.answer_format, PairFormat):
            return Notation(self.answer_format.digits, decimals=self.answer_format.decimals, signed=True)
        if isinstance(self.answer_format, NumbersFormat):
            return self.answer_format.notation
        raise ConfigError(
            f"The next event is no number in the grammar {self.answer_format.grammar!r}. Take numbers or pair."
        )

    def _part(self, sample: Sample, name: str, notation: Notation) -> NumberField:
        reference = self.reference or sample
        unit, scale = _unit(reference, name, notation)
        base = 0.0
        if name in "xy":
            visible = sequence.channel_values(sample, name)[sample.context_steps]
            base = float(visible[np.isfinite(visible)][-1]) if np.isfinite(visible).any() else 0.0
        return NumberField(
            name,
            unit,
            scale,
            base,
            fit_strategy(_visible_offsets(reference, name) / scale, self._format_notation, notation),
        )


@once_per_object
def _own_parts(answer_format: AnswerFormat, sample: Sample) -> tuple[NumberField, ...]:
    """The fields of an answer in the notation of the sample itself."""
    return NextEventNumbers(answer_format)._fit_parts(sample)


def _visible_offsets(sample: Sample, name: str) -> Float64[np.ndarray, " _"]:
    """The visible values of a channel, positions relative to the last visible one; 0 for an empty channel."""
    return _offsets(name, sample)


@once_per_object
def _offsets(name: str, sample: Sample) -> Float64[np.ndarray, " _"]:
    visible = sequence.channel_values(sample, name)[sample.context_steps]
    visible = visible[np.isfinite(visible)]
    if not visible.size:
        return np.zeros(1)
    return np.asarray(visible - visible[-1] if name in "xy" else visible)


def _sizes(sample: Sample, name: str) -> Float64[np.ndarray, " _"]:
    """Typical sizes of a channel, which determine its decimals."""
    return np.abs(np.diff(_visible_offsets(sample, name)) if name in "xy" else _visible_offsets(sample, name))


def _channel_decimals(sample: Sample, name: str, notation: Notation) -> int:
    """Number of decimals of a channel; 0 for gaps in days without a time of day."""
    if name == "gap_h" and sequence.is_daily(sample):
        return 0
    return decimals_for_steps(_sizes(sample, name) / _unit(sample, name, notation)[1], notation.decimals)


def _unit(sample: Sample, name: str, notation: Notation) -> tuple[str, float]:
    """The unit of a channel as written, and its size in units of the data."""
    if name == "gap_h":
        if sequence.is_daily(sample):
            return "days", 24.0
        gaps = _visible_offsets(sample, name)
        typical = float(np.median(gaps)) or float(gaps.mean()) or 1.0
        return next((unit, hours) for unit, hours, most in _GAPS if typical <= most)
    if name == "magnitude":
        return "", 1.0
    reach = np.abs(np.concatenate([_visible_offsets(sample, "x"), _visible_offsets(sample, "y")])).max()
    return position_unit(sample.side.unit, float(reach), notation)


@dataclass(frozen=True)
class NextEventChoice:
    """The type (mark) of the next event, or the map square in which it lies, as a choice.

    The squares are those with visible events, the largest count first, then `elsewhere`. The value of an answer is the
    centre of its square; `elsewhere` has none. chosen: `mark` or `square`; '' takes the mark if it is asked for.
    """

    answer_format: AnswerFormat
    across: int
    chosen: str = ""

    def options(self, sample: Sample) -> dict[str, str]:
        """The ids of the options and their texts."""
        if self.target_type(sample) == "mark":
            return sequence.option_names(sample.side.options, sample.side.option_labels)
        squares = self._squares(sample)
        visible_squares = squares.counts(visible_positions(sample)[sample.context_steps])
        return {name: name for name in (*visible_squares, cells.ELSEWHERE)}

    def grammar(self, sample: Sample) -> Choice | Ranking:
        texts = tuple(self.options(sample).values())
        if isinstance(self.answer_format, RankingFormat):
            return Ranking(texts, min(self.answer_format.count, len(texts)), self.answer_format.separator)
        return Choice(texts)

    def truth(self, sample: Sample) -> str:
        """The correct option, in a ranking followed by the others in order; '' where it is not known."""
        right = self._right(sample)
        if right is None:
            return ""
        texts = self.options(sample)
        if not isinstance(self.answer_format, RankingFormat):
            return texts[right]
        ranked = list(dict.fromkeys((texts[right], *texts.values())))
        return self.answer_format.separator.join(ranked[: min(self.answer_format.count, len(texts))])

    def read(self, text: str, sample: Sample) -> Prediction:
        ids = {word: key for key, word in self.options(sample).items()}
        selection = parse_selection(text, self.grammar(sample))
        if isinstance(selection, Unread):
            return Prediction(value=None, raw=text, unread_reason=selection)
        ranking = tuple(ids[word] for word in selection)
        return Prediction(value=self._value(sample, ranking[0]), ranking=ranking, raw=text)

    def _right(self, sample: Sample) -> str | None:
        if sample.truth is None:
            return None
        step, channels = sample.first_wanted_step, sample.side.channels
        if self.target_type(sample) == "mark":
            code = sample.truth[step, 0, channels.index("mark")]
            return sample.side.options[int(code)] if np.isfinite(code) else None
        x, y = (float(sample.truth[step, 0, channels.index(name)]) for name in "xy")
        square = self._squares(sample).name(x, y)
        return (square if square in self.options(sample) else cells.ELSEWHERE) if square else None

    def _value(self, sample: Sample, option: str) -> np.ndarray | None:
        if self.target_type(sample) == "mark":
            return sequence.option_code_values(sample, "mark", option)
        if option == cells.ELSEWHERE:
            return None
        value = np.full(sample.values.shape, np.nan)
        columns = [sample.side.channels.index(name) for name in "xy"]
        value[sample.first_wanted_step, 0, columns] = self._squares(sample).centre(option)
        return value

    def _squares(self, sample: Sample) -> cells.MapSquares:
        squares = variables.map_squares(sample, self.across)
        if squares is None:
            raise DataError(f"{sample.id} shows no position, so no square can be chosen. Set `chosen: mark`.")
        return squares

    def target_type(self, sample: Sample) -> str:
        """`mark` or `square`. Raises DataError for what the sample does not ask for."""
        wanted = {name for i, name in enumerate(sample.side.channels) if sample.wanted[:, 0, i].any()}
        answer_type = self.chosen or ("mark" if "mark" in wanted else "square")
        if not ({"mark"} if answer_type == "mark" else {"x", "y"}) <= wanted:
            raise DataError(
                f"{sample.id} asks for {', '.join(sorted(wanted)) or 'nothing'}, so its answer is no {answer_type}. "
                f"Set `asked` of the task to [mark] or [x, y], or take event/next-event."
            )
        return answer_type
