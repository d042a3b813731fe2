"""Answers of trajectories: positions relative to the last visible fix, and the next place."""

import math
import re
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from st2llm.errors import ConfigError, DataError
from st2llm.serialize.answer.formats import AnswerFormat, NumbersFormat, PairFormat, RankingFormat
from st2llm.serialize.answer.selection import parse_selection
from st2llm.serialize.answer.unread import Unread, unread_reason
from st2llm.serialize.numbers import Notation, Strategy, fit, format_decimal
from st2llm.serialize.text.compass import is_metric
from st2llm.serialize.text.once import once_per_object
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.text.sequence import channel_index, channel_values, option_code_values
from st2llm.serialize.trajectory.stays import visit_counts
from st2llm.types import Choice, Grammar, Prediction, Ranking, Sample

RELATIVE_RESOLUTION = 0.01
"""Numbers have enough decimals to resolve this share of a typical step."""

_KM = 1000.0
_PAIR_HEADROOM = 4.0
_PAIR = re.compile(r"\(\s*(-?[0-9]+(?:\.[0-9]+)?|x)\s*,\s*(-?[0-9]+(?:\.[0-9]+)?|x)\s*\)", re.ASCII)


@dataclass(frozen=True)
class PositionAnswer:
    """Answers that are positions: numbers east,north,east,north,..., or one pair (east, north).

    answer_format: the grammar. steps: write each position as the displacement from the one before. reference: the
    sample to whose values the notation is fitted; None for the sample itself.
    """

    answer_format: AnswerFormat
    steps: bool = False
    reference: Sample | None = None

    def with_reference(self, reference: Sample) -> "PositionAnswer":
        """The same answer in the notation of another sample, for few-shot examples."""
        return replace(self, reference=reference)

    def notation_of(self, sample: Sample) -> "PositionNotation":
        """The notation of a sample, fitted to visible values alone."""
        fitted = self._fitted(self.reference or sample)
        return fitted if self.reference is None else replace(fitted, base=base_position(sample))

    def _fitted(self, sample: Sample) -> "PositionNotation":
        answer_format = self.answer_format
        if isinstance(answer_format, NumbersFormat):
            return _fitted_notation(answer_format.notation, self.steps, sample)
        if isinstance(answer_format, PairFormat):
            notation = Notation(
                answer_format.digits, decimals=answer_format.decimals, headroom=_PAIR_HEADROOM
            )
            return _fitted_notation(notation, self.steps, sample)
        raise ConfigError(
            f"Positions cannot be answered in the grammar {answer_format.grammar!r}. Take numbers or pair."
        )

    def grammar(self, sample: Sample) -> Grammar:
        notation, count = self.notation_of(sample), len(target_steps(sample))
        if isinstance(self.answer_format, PairFormat):
            if count != 1:
                raise DataError(
                    f"{sample.id} asks for {count} positions, but a pair is one. Answer in numbers, or ask for one."
                )
            bounds = (None, None)
            return self.answer_format.model_copy(
                update={"decimals": notation.notation.decimals, "signed": True}
            ).pair(bounds, bounds)
        return notation.numbers.grammar(2 * count)

    def truth(self, sample: Sample) -> str:
        """The correct answer, clipped to the limits of the notation; '' where it is not known."""
        if sample.truth is None:
            return ""
        columns = [sample.side.channels.index("x"), sample.side.channels.index("y")]
        notation = self.notation_of(sample)
        texts = notation.write(sample.truth[target_steps(sample)][:, 0, columns])
        if isinstance(self.answer_format, PairFormat):
            return f"({texts[0].replace(notation.separator, ', ')})"
        return notation.separator.join(texts)

    def read(self, text: str, sample: Sample) -> Prediction:
        notation, steps = self.notation_of(sample), target_steps(sample)
        positions = (
            notation.read_pair(text)
            if isinstance(self.answer_format, PairFormat)
            else notation.read(text, len(steps))
        )
        if isinstance(positions, Unread):
            return Prediction(value=None, raw=text, unread_reason=positions)
        value = np.full(sample.values.shape, np.nan)
        value[steps, 0, sample.side.channels.index("x")] = positions[:, 0]
        value[steps, 0, sample.side.channels.index("y")] = positions[:, 1]
        return Prediction(value=value, raw=text)

    def precision(self, sample: Sample) -> float:
        return self.notation_of(sample).precision


@dataclass(frozen=True)
class PositionNotation:
    """The notation of the positions of one sample: relative to `base`, in `unit`, written as `numbers`.

    base: the last visible position before the target (see `base_position`), in units of the data. scale: units of the
    data in one `unit`. steps: write each position as the displacement from the one before. Made by `fit`.
    """

    base: tuple[float, float]
    unit: str
    scale: float
    numbers: Strategy
    notation: Notation
    steps: bool = False

    @classmethod
    def fit(cls, sample: Sample, notation: Notation, *, steps: bool = False) -> "PositionNotation":
        """Fits the notation to the visible positions.

        The unit is kilometres where metres do not fit into the digits. RELATIVE_RESOLUTION sets the decimals, up to
        those of the given notation. Raises DataError where no position is visible.
        """
        visible, base = visible_positions(sample), np.array(base_position(sample))
        displacements = _difference(visible[np.isfinite(visible).all(axis=1)], base)
        unit, scale = position_unit(sample.side.unit, float(np.abs(displacements).max(initial=0.0)), notation)
        steps_xy = np.diff(displacements, axis=0) / scale
        lengths = np.hypot(steps_xy[:, 0], steps_xy[:, 1])
        fitted = replace(notation, signed=True, decimals=decimals_for_steps(lengths, notation.decimals))
        offsets = np.concatenate([steps_xy, displacements[:1] / scale]) if steps else displacements / scale
        return cls(
            base_position(sample), unit, scale, fit_strategy(offsets.ravel(), notation, fitted), fitted, steps
        )

    @property
    def precision(self) -> float:
        """Maximum error of writing and reading a coordinate, in the unit of the data, including float rounding."""
        return self.numbers.precision * self.scale + 4 * float(
            np.spacing(max(map(abs, (*self.base, self._reach))))
        )

    @property
    def step_phrase(self) -> str:
        """What a difference of 1 stands for, if it is not one unit: `0.5 kilometres`; else ''."""
        return "" if self.numbers.unit == 1 else f"{format_decimal(self.numbers.unit)} {self.unit}"

    def write(
        self, xy: Float64[np.ndarray, "time 2"], before: tuple[float, float] | None = None
    ) -> tuple[str, ...]:
        """Writes `east,north` for each position, `x,x` for a missing one.

        before: the position from which the first step is counted; None for `base`.
        """
        if not self.steps:
            return tuple(self.numbers.write(row) for row in self._fitting(xy) / self.scale)
        at = np.array(self.base if before is None else before)
        texts = []
        for row in xy:
            if not np.isfinite(row).all():
                texts.append(self.numbers.write(np.full(2, np.nan)))
                continue
            way = self._fitting(row[None], at)[0] / self.scale
            texts.append(self.numbers.write(way))
            at = at + self.numbers.read(texts[-1], 2) * self.scale
        return tuple(texts)

    def write_position(self, xy: Float64[np.ndarray, " 2"]) -> str:
        """Writes `east,north` of one position relative to the base, also if the answer is in steps."""
        return self.numbers.write(_difference(xy[None], np.array(self.base))[0] / self.scale)

    def read(self, text: str, count: int) -> Float64[np.ndarray, "horizon 2"] | Unread:
        """Reads `count` positions, or gives the reason why that is impossible."""
        return self._positions(self.numbers.read(text, 2 * count), 2 * count)

    def read_pair(self, text: str) -> Float64[np.ndarray, "horizon 2"] | Unread:
        """Reads one position, written `(east, north)`."""
        match = _PAIR.search(text)
        if match is None:
            return Unread("no pair (x, y) in the answer", "truncated" if "(" in text else "unreadable")
        return self._positions(self.numbers.read(",".join(match.groups()).replace(",", self.separator), 2), 2)

    @property
    def separator(self) -> str:
        return self.notation.separator

    @property
    def _reach(self) -> float:
        return min(self.numbers.limits[1] * self.scale, float(np.finfo(np.float64).max) / 8)

    def _fitting(
        self, xy: Float64[np.ndarray, "time 2"], base: Float64[np.ndarray, " 2"] | None = None
    ) -> Float64[np.ndarray, "time 2"]:
        """The displacement from the base in the unit of the data, clipped to the limits of the notation."""
        low, high = (limit * self.scale for limit in self.numbers.limits)
        return np.asarray(np.clip(_difference(xy, np.array(self.base) if base is None else base), low, high))

    def _positions(
        self, numbers: Float64[np.ndarray, " _"], count: int
    ) -> Float64[np.ndarray, "horizon 2"] | Unread:
        reason = unread_reason(numbers, count, self.numbers.limits)
        if reason is not None:
            return reason
        displacements = numbers.reshape(-1, 2) * self.scale
        return np.array(self.base) + (np.cumsum(displacements, axis=0) if self.steps else displacements)


@once_per_object
def _fitted_notation(notation: Notation, steps: bool, sample: Sample) -> PositionNotation:
    return PositionNotation.fit(sample, notation, steps=steps)


@once_per_object
def visible_positions(sample: Sample) -> Float64[np.ndarray, "time 2"]:
    """The visible coordinates, NaN elsewhere. Raises DataError for a sample without coordinates."""
    if channel_index(sample, "x") is None or channel_index(sample, "y") is None:
        raise DataError(
            f"{sample.id} has no coordinates x and y, but {', '.join(sample.side.channels) or 'no named channel'}. "
            f"Take a template for places, for instance trajectory/next-place."
        )
    xy = np.column_stack([channel_values(sample, "x"), channel_values(sample, "y")])
    return np.where(np.isfinite(xy).all(axis=1, keepdims=True), xy, np.nan)


@once_per_object
def base_position(sample: Sample) -> tuple[float, float]:
    """The reference position: the last visible one before the target, else the first visible one.

    Raises DataError where no position is visible.
    """
    visible = visible_positions(sample)
    finite = np.flatnonzero(np.isfinite(visible).all(axis=1))
    if not finite.size:
        raise DataError(f"{sample.id} shows no position at all. Ask for a longer history.")
    before = finite[finite < sample.first_wanted_step]
    x, y = visible[before[-1] if before.size else finite[0]].tolist()
    return float(x), float(y)


@once_per_object
def target_steps(sample: Sample) -> list[int]:
    """The steps whose positions are asked for. Raises DataError for none, or for x without y."""
    names = sample.side.channels
    x, y = (
        sample.wanted[:, 0, names.index(name)] if name in names else np.zeros(0, dtype=bool) for name in "xy"
    )
    if not x.any() or not np.array_equal(x, y):
        raise DataError(
            f"{sample.id} asks for no positions (x and y of the same steps). Take a template for its task, "
            f"{sample.kind}/{sample.task}."
        )
    return [int(step) for step in np.flatnonzero(x)]


def position_unit(unit: str, reach: float, notation: Notation) -> tuple[str, float]:
    """The unit of written positions, and its size in units of the data.

    The unit is kilometres where metres would not fit into the digits of the notation.
    """
    if not is_metric(unit):
        return plain_text(unit), 1.0
    return ("kilometres", _KM) if reach > 10**notation.digits / notation.headroom else ("metres", 1.0)


def decimals_for_steps(sizes: Float64[np.ndarray, " _"], most_decimals: int) -> int:
    """Decimals that resolve RELATIVE_RESOLUTION of the median size, at most `most_decimals`; those if nothing moves."""
    positive = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not positive.size:
        return most_decimals
    return int(
        min(
            max(
                math.ceil(-math.log10(float(np.median(positive))) - math.log10(RELATIVE_RESOLUTION) - 1e-9), 0
            ),
            most_decimals,
        )
    )


def fit_strategy(values: Float64[np.ndarray, " _"], notation: Notation, fitted: Notation) -> Strategy:
    """Fits a strategy to values; to rounded values where the decimals of the notation are not needed."""
    rounded = notation.decimals and not fitted.decimals
    return fit(fitted.strategy, np.rint(values) if rounded else values, fitted)


def _difference(
    xy: Float64[np.ndarray, "time 2"], base: Float64[np.ndarray, " 2"]
) -> Float64[np.ndarray, "time 2"]:
    """Differences, kept finite for coordinates near the largest float."""
    most = float(np.finfo(np.float64).max) / 8
    return np.asarray(np.clip(xy, -most, most) - np.clip(base, -most, most))


@dataclass(frozen=True)
class NextPlaceAnswer:
    """The next place: a ranking of ids, or one id. The places that the object visited are the first candidates."""

    answer_format: AnswerFormat

    def candidates(self, sample: Sample) -> tuple[str, ...]:
        """All places of the data set: first those that the object visited, the most visited first."""
        visited = [place for place, _ in visit_counts(sample).most_common()]
        return tuple(dict.fromkeys((*visited, *sample.side.options)))

    def count(self, sample: Sample) -> int:
        """Number of ids to answer: at most the number of places that the object visited."""
        wanted = self.answer_format.count if isinstance(self.answer_format, RankingFormat) else 1
        return max(1, min(wanted, len(visit_counts(sample)), len(sample.side.options)))

    def grammar(self, sample: Sample) -> Choice | Ranking:
        texts = tuple(map(plain_text, self.candidates(sample)))
        if not texts:
            raise DataError(
                f"{sample.id} knows no places to choose from. Name the column of `place` in the data card."
            )
        if isinstance(self.answer_format, RankingFormat):
            return Ranking(texts, self.count(sample), self.answer_format.separator)
        return Choice(texts)

    def truth(self, sample: Sample) -> str:
        """The correct place followed by the object's places, the most visited first; '' where it is not known."""
        if sample.label is None:
            return ""
        ranked = dict.fromkeys((sample.label, *self.candidates(sample)))
        separator = self.answer_format.separator if isinstance(self.answer_format, RankingFormat) else ""
        return separator.join(plain_text(place) for place in list(ranked)[: self.count(sample)])

    def read(self, text: str, sample: Sample) -> Prediction:
        ids = {plain_text(place): place for place in self.candidates(sample)}
        selection = parse_selection(text, self.grammar(sample))
        if isinstance(selection, Unread):
            return Prediction(value=None, raw=text, unread_reason=selection)
        ranking = tuple(ids[word] for word in selection)
        return Prediction(value=option_code_values(sample, "place", ranking[0]), ranking=ranking, raw=text)
