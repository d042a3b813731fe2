"""The next event as numbers: how long until it comes, where, how strong; and back."""

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
from st2llm.serialize.trajectory.answer import (
    PositionAnswer,
    decimals_for_steps,
    fit_strategy,
    position_unit,
    visible_positions,
)
from st2llm.types import Choice, Grammar, Prediction, Ranking, Sample

_GAPS = (("minutes", 1 / 60, 0.5), ("hours", 1.0, 48.0), ("days", 24.0, np.inf))
"""Unit, its hours, and the typical gap in hours up to which it is the one."""
_NUMERIC = ("gap_h", "x", "y", "magnitude")


@dataclass(frozen=True)
class NumberField:
    """One number of an answer. channel: which it says. unit: in words. scale: units of the data in one of these.

    base: what it is counted from. numbers: how it is written.
    """

    channel: str
    unit: str
    scale: float
    base: float
    numbers: Strategy

    @property
    def words(self) -> str:
        """`hours since the event before`, `kilometres east of the last event`."""
        step = "" if self.numbers.unit == 1 else f"steps of {format_decimal(self.numbers.unit)} "
        if self.channel == "gap_h":
            return f"{step}{self.unit} since the event before"
        if self.channel == "magnitude":
            return f"{step.removesuffix(' ')} of the magnitude".strip() if step else "magnitude"
        return f"{step}{self.unit} {'east' if self.channel == 'x' else 'north'} of the last event seen"

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest value that it can say, in the data's unit from the base; no gap is negative."""
        low, high = self.numbers.limits
        return (max(low, 0.0) if self.channel == "gap_h" else low), high

    @property
    def precision(self) -> float:
        """The most that a round trip moves a value, in the data's unit."""
        reach = max(abs(self.base), self.numbers.limits[1] * self.scale)
        return self.numbers.precision * self.scale + 4 * float(np.spacing(min(reach, 1e300)))

    def write(self, values: Float64[np.ndarray, " _"]) -> list[str]:
        low, high = self.limits
        return [
            self.numbers.write(np.clip(np.array([(v - self.base) / self.scale]), low, high)) for v in values
        ]


@dataclass(frozen=True)
class NextEventNumbers:
    """The next event's gap, position and magnitude, those that are asked for, as numbers in this order.

    Gaps are in minutes, hours or days, by the median of those seen; positions count from the last event seen.
    model: the sample to whose values the numbers are fitted, where it is another.
    """

    head: AnswerFormat
    model: Sample | None = None

    def like(self, model: Sample) -> "NextEventNumbers":
        """The same in the numbers of another sample, for examples beside it."""
        return replace(self, model=model)

    def channels(self, sample: Sample) -> tuple[str, ...]:
        """What is asked for. Raises DataError where nothing is, or what is asked is a word."""
        asked = [name for i, name in enumerate(sample.side.channels) if sample.wanted[:, 0, i].any()]
        odd = [name for name in asked if name not in _NUMERIC]
        if odd or not asked:
            raise DataError(
                f"{sample.id} asks for {odd[0] if odd else 'nothing'!r}, which is no number. Take a template that "
                f"answers in words (event/next-event.place), or set `asked` of the task."
            )
        return tuple(asked)

    def parts(self, sample: Sample) -> tuple[NumberField, ...]:
        """How each number is written; what is hidden has no part in it."""
        channels = self.channels(sample)
        return tuple(
            self._part(sample, name, self._notation(self.model or sample, channels)) for name in channels
        )

    def grammar(self, sample: Sample) -> Grammar:
        if isinstance(self.head, PairFormat):
            return PositionAnswer(self.head).grammar(sample)
        parts = self.parts(sample)
        grammars = {part.numbers.grammar(len(parts)) for part in parts}
        if len(grammars) > 1:
            raise DataError(
                f"The {len(parts)} numbers of {sample.id} look different in this `strategy`, so that one answer cannot "
                f"hold them all. Choose another in the template's `answer`."
            )
        return grammars.pop()

    def truth(self, sample: Sample) -> str:
        """What a perfect model answers, as far as its numbers reach; '' where it is not known."""
        if sample.truth is None:
            return ""
        if isinstance(self.head, PairFormat):
            return PositionAnswer(self.head).truth(sample)
        step = sample.first_wanted_step
        said = [
            part.write(sample.truth[[step], 0, sample.side.channels.index(part.channel)])[0]
            for part in self.parts(sample)
        ]
        return self.separator.join(said)

    def read(self, text: str, sample: Sample) -> Prediction:
        if isinstance(self.head, PairFormat):
            return PositionAnswer(self.head).read(text, sample)
        parts = self.parts(sample)
        raw = [part.numbers.read(text, len(parts)) for part in parts]
        found = np.array([row[i] for i, row in enumerate(raw) if i < len(row)], dtype=np.float64)
        reason = unread_reason(found, len(parts), (-np.inf, np.inf))
        for part, number in zip(parts, found, strict=False):
            reason = reason or unread_reason(np.array([number]), 1, part.limits)
        if isinstance(reason, Unread):
            return Prediction(value=None, raw=text, unread_reason=reason)
        value = np.full(sample.values.shape, np.nan)
        for part, number in zip(parts, found, strict=True):
            at = sample.side.channels.index(part.channel)
            value[sample.first_wanted_step, 0, at] = part.base + number * part.scale
        return Prediction(value=value, raw=text)

    def precision(self, sample: Sample) -> float:
        """Of several numbers the largest: each has a precision of its own."""
        if isinstance(self.head, PairFormat):
            return PositionAnswer(self.head).precision(sample)
        return max(part.precision for part in self.parts(sample))

    def history(self, sample: Sample) -> dict[int, str]:
        """The numbers of each event that is seen, by step; of the first its gap is not known, so it says nothing."""
        steps, parts = sample.context_steps.tolist(), self.parts(sample)
        said = [part.write(sequence.channel_values(sample, part.channel)[steps]) for part in parts]
        gap_only = [part.channel for part in parts] == ["gap_h"]
        rows = {
            step: self.separator.join(row) for step, row in zip(steps, zip(*said, strict=True), strict=True)
        }
        if gap_only and steps and np.isnan(sequence.channel_values(sample, "gap_h")[steps[0]]):
            del rows[steps[0]]
        return rows

    @property
    def separator(self) -> str:
        return self.head.separator if isinstance(self.head, NumbersFormat) else ", "

    def _notation(self, sample: Sample, channels: tuple[str, ...]) -> Notation:
        """One notation for all numbers: as many decimals as the finest needs, signed where one may be below 0."""
        head = self._head_notation
        if isinstance(self.head, PairFormat):
            return head
        fine = [_channel_decimals(sample, name, head) for name in channels]
        return replace(head, decimals=max(fine), signed=head.signed or channels != ("gap_h",))

    @property
    def _head_notation(self) -> Notation:
        if isinstance(self.head, PairFormat):
            return Notation(self.head.digits, decimals=self.head.decimals, signed=True)
        if isinstance(self.head, NumbersFormat):
            return self.head.notation
        raise ConfigError(
            f"The next event is no number in the grammar {self.head.grammar!r}. Take numbers or pair."
        )

    def _part(self, sample: Sample, name: str, notation: Notation) -> NumberField:
        model = self.model or sample
        unit, scale = _unit(model, name, notation)
        base = 0.0
        if name in "xy":
            seen = sequence.channel_values(sample, name)[sample.context_steps]
            base = float(seen[np.isfinite(seen)][-1]) if np.isfinite(seen).any() else 0.0
        return NumberField(
            name,
            unit,
            scale,
            base,
            fit_strategy(_visible_offsets(model, name) / scale, self._head_notation, notation),
        )


def _visible_offsets(sample: Sample, name: str) -> Float64[np.ndarray, " _"]:
    """What is seen of a channel, positions from the last one seen; an empty one is 0."""
    seen = sequence.channel_values(sample, name)[sample.context_steps]
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        return np.zeros(1)
    return np.asarray(seen - seen[-1] if name in "xy" else seen)


def _sizes(sample: Sample, name: str) -> Float64[np.ndarray, " _"]:
    """Typical sizes of a channel, from which its decimals follow."""
    return np.abs(np.diff(_visible_offsets(sample, name)) if name in "xy" else _visible_offsets(sample, name))


def _channel_decimals(sample: Sample, name: str, notation: Notation) -> int:
    """How many decimals a channel needs; of days that know no time of day none."""
    if name == "gap_h" and sequence.is_daily(sample):
        return 0
    return decimals_for_steps(_sizes(sample, name) / _unit(sample, name, notation)[1], notation.decimals)


def _unit(sample: Sample, name: str, notation: Notation) -> tuple[str, float]:
    """The unit in which a channel is said, and how many of the data's units that is."""
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
    """The next event's sort, or the square of the map that it falls into, chosen among those that are offered.

    Squares are those with events that were seen, the fullest first, then `elsewhere`; an answer's value is the middle
    of its square, and `elsewhere` has none. chosen: `mark` or `square`; '' takes the sort where it is asked for.
    """

    head: AnswerFormat
    across: int
    chosen: str = ""

    def options(self, sample: Sample) -> dict[str, str]:
        """Ids and the words for them."""
        if self.sort(sample) == "mark":
            return sequence.option_names(sample.side.options, sample.side.option_labels)
        squares = self._squares(sample)
        seen = squares.counts(visible_positions(sample)[sample.context_steps])
        return {name: name for name in (*seen, cells.ELSEWHERE)}

    def grammar(self, sample: Sample) -> Choice | Ranking:
        words = tuple(self.options(sample).values())
        if isinstance(self.head, RankingFormat):
            return Ranking(words, min(self.head.count, len(words)), self.head.separator)
        return Choice(words)

    def truth(self, sample: Sample) -> str:
        """The right word, in a ranking followed by the others as they stand; '' where it is not known."""
        right = self._right(sample)
        if right is None:
            return ""
        words = self.options(sample)
        if not isinstance(self.head, RankingFormat):
            return words[right]
        ranked = list(dict.fromkeys((words[right], *words.values())))
        return self.head.separator.join(ranked[: min(self.head.count, len(words))])

    def read(self, text: str, sample: Sample) -> Prediction:
        ids = {word: key for key, word in self.options(sample).items()}
        found = parse_selection(text, self.grammar(sample))
        if isinstance(found, Unread):
            return Prediction(value=None, raw=text, unread_reason=found)
        ranking = tuple(ids[word] for word in found)
        return Prediction(value=self._value(sample, ranking[0]), ranking=ranking, raw=text)

    def _right(self, sample: Sample) -> str | None:
        if sample.truth is None:
            return None
        step, channels = sample.first_wanted_step, sample.side.channels
        if self.sort(sample) == "mark":
            code = sample.truth[step, 0, channels.index("mark")]
            return sample.side.options[int(code)] if np.isfinite(code) else None
        x, y = (float(sample.truth[step, 0, channels.index(name)]) for name in "xy")
        square = self._squares(sample).name(x, y)
        return (square if square in self.options(sample) else cells.ELSEWHERE) if square else None

    def _value(self, sample: Sample, option: str) -> np.ndarray | None:
        if self.sort(sample) == "mark":
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

    def sort(self, sample: Sample) -> str:
        """`mark` or `square`. Raises DataError for what the sample does not ask."""
        asked = {name for i, name in enumerate(sample.side.channels) if sample.wanted[:, 0, i].any()}
        sort = self.chosen or ("mark" if "mark" in asked else "square")
        if not ({"mark"} if sort == "mark" else {"x", "y"}) <= asked:
            raise DataError(
                f"{sample.id} asks for {', '.join(sorted(asked)) or 'nothing'}, so its answer is no {sort}. Set "
                f"`asked` of the task to [mark] or [x, y], or take event/next-event."
            )
        return sort
