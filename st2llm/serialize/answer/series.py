"""Answers that are series of numbers, for graphs, grids and videos."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from st2llm.errors import DataError
from st2llm.serialize.answer.unread import unread_reason
from st2llm.serialize.numbers import SEQUENTIAL_STRATEGIES, Notation, Strategy, fit
from st2llm.serialize.text.series import TargetSeries, forecast_start, separator_of, visible_values
from st2llm.types import Grammar, Prediction, Sample


@dataclass(frozen=True)
class SeriesAnswer:
    """Answers of numbers alone: what is asked for, place by place, channel by channel, oldest first.

    The numbers of each series are fitted to what is visible of it, so that a round trip moves a value by at most their
    precision. Of a forecast that is what lies before its first asked step; where a place is wholly hidden, the other
    places' readings stand in.
    """

    notation: Notation
    task: str = "forecast"

    def series(self, sample: Sample) -> tuple[TargetSeries, ...]:
        """Raises DataError where nothing is asked for, or a forecast asks for more than its last steps."""
        pairs = sample.wanted_series
        if not len(pairs):
            raise DataError(f"{sample.id} asks for no value. Choose a template for its task ({sample.task}).")
        if self.task == "forecast":
            forecast_start(sample)
        if len(pairs) > 1 and self.notation.strategy in SEQUENTIAL_STRATEGIES:
            raise DataError(
                f"{sample.id} asks for {len(pairs)} series in one answer, but {self.notation.strategy} go on from one "
                f"value to the next. Choose another `strategy` in the template's `answer`."
            )
        return tuple(
            TargetSeries(
                int(node),
                int(channel),
                np.flatnonzero(sample.wanted[:, node, channel]).astype(np.int64),
                self.numbers(sample, int(node), int(channel)),
            )
            for node, channel in pairs
        )

    def numbers(self, sample: Sample, node: int, channel: int) -> Strategy:
        """The numbers of one series; hidden values have no part in them."""
        values = visible_values(sample, node, channel)
        if self.task == "forecast":
            values = values[: forecast_start(sample)]
        elif not np.isfinite(values).any():
            values = np.where(sample.visible[:, :, channel], sample.values[:, :, channel], np.nan)
        return fit(self.notation.strategy, values, self.notation)

    def grammar(self, sample: Sample) -> Grammar:
        """Raises DataError where the series of a sample would be answered in different words."""
        series, count = self.series(sample), int(sample.wanted.sum())
        found = [one.numbers.grammar(count) for one in series]
        if any(one != found[0] for one in found):
            raise DataError(
                f"The {len(series)} series of {sample.id} have different {self.notation.strategy}, so that one answer "
                f"cannot hold them all. Choose another `strategy` in the template's `answer`."
            )
        return found[0]

    def truth(self, sample: Sample) -> str:
        """What a perfect model answers; '' where the truth is not known, `x` where it is missing.

        A value beyond the answer's limits is said as the nearest limit.
        """
        return self.said(sample, self.series(sample))

    def said(self, sample: Sample, series: Sequence[TargetSeries]) -> str:
        """The truth of a sample in the numbers of these series."""
        if sample.truth is None:
            return ""
        said = [
            one.numbers.write(np.clip(sample.truth[one.steps, one.node, one.channel], *one.numbers.limits))
            for one in series
        ]
        return said[0] if len(said) == 1 else separator_of(series[0].numbers).join(said)

    def like(self, solved: Sample, asked: Sample) -> tuple[TargetSeries, ...]:
        """The series of a solved sample in the numbers of one that is asked, channel by channel."""
        numbers = {one.channel: one.numbers for one in self.series(asked)}
        return tuple(
            replace(one, numbers=numbers.get(one.channel, one.numbers)) for one in self.series(solved)
        )

    def read(self, text: str, sample: Sample) -> Prediction:
        """The answer as a Prediction of the sample's shape; numbers after the last one asked for are ignored."""
        series, count, start = self.series(sample), int(sample.wanted.sum()), 0
        value = np.full(sample.values.shape, np.nan)
        for one in series:
            found = one.numbers.read(text, count)
            own = found if len(found) < count else found[start : start + len(one.steps)]
            if reason := unread_reason(own, len(own) if len(found) == count else count, one.numbers.limits):
                return Prediction(value=None, raw=text, unread_reason=reason)
            value[one.steps, one.node, one.channel] = own
            start += len(one.steps)
        return Prediction(value=value, raw=text)

    def precision(self, sample: Sample) -> float:
        return max(one.numbers.precision for one in self.series(sample))
