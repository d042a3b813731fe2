"""Answers that are series of numbers, for graphs, grids and videos."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from st2llm.errors import DataError
from st2llm.serialize.answer.unread import unread_reason
from st2llm.serialize.numbers import LEAST_STEPS, Notation, Strategy, fit, is_sequential
from st2llm.serialize.text.once import once_per_object
from st2llm.serialize.text.series import TargetSeries, forecast_start, separator_of, visible_values
from st2llm.types import Grammar, Prediction, Sample

SERIES_TASKS = ("forecast", "impute", "interpolate", "krige")
"""Tasks whose answer is a series of numbers."""


@dataclass(frozen=True)
class SeriesAnswer:
    """Answers that are numbers alone: the target entries by place, then by channel, oldest first.

    The notation of each series is fitted to its visible values, so that a round trip moves a value by at most the
    precision of the notation. A forecast uses the values before its first target step. A place without visible values
    uses the values of the other places.
    """

    notation: Notation
    task: str = "forecast"

    @once_per_object
    def series(self, sample: Sample) -> tuple[TargetSeries, ...]:
        """The target series, each with its notation.

        Raises DataError where nothing is asked for, or where a forecast asks for more than its last steps.
        """
        pairs = sample.wanted_series
        if not len(pairs):
            raise DataError(f"{sample.id} asks for no value. Choose a template for its task ({sample.task}).")
        if self.task == "forecast":
            forecast_start(sample)
        if len(pairs) > 1 and is_sequential(self.notation.strategy):
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
        """The notation of one series, fitted to visible values alone."""
        values = visible_values(sample, node, channel)
        if self.task == "forecast":
            values = values[: forecast_start(sample)]
        elif not np.isfinite(values).any():
            values = np.where(sample.visible[:, :, channel], sample.values[:, :, channel], np.nan)
        return fit(self.notation.strategy, values, replace(self.notation, least_steps=LEAST_STEPS))

    def covariates(self, sample: Sample, node: int) -> tuple[TargetSeries, ...]:
        """The series of the covariates of a place that have a visible value, each with its notation."""
        series = []
        for channel in sample.covariate_channels:
            values = visible_values(sample, node, channel)
            if np.isfinite(values).any():
                numbers = fit(self.notation.strategy, values, replace(self.notation, least_steps=LEAST_STEPS))
                series.append(TargetSeries(node, channel, np.zeros(0, dtype=np.int64), numbers))
        return tuple(series)

    def grammar(self, sample: Sample) -> Grammar:
        """The grammar of the answer. Raises DataError where the series need different grammars."""
        series, count = self.series(sample), int(sample.wanted.sum())
        grammars = [each.numbers.grammar(count) for each in series]
        if any(grammar != grammars[0] for grammar in grammars):
            raise DataError(
                f"The {len(series)} series of {sample.id} have different {self.notation.strategy}, so that one answer "
                f"cannot hold them all. Choose another `strategy` in the template's `answer`."
            )
        return grammars[0]

    def truth(self, sample: Sample) -> str:
        """The correct answer; '' where the truth is not known, `x` for a missing value.

        A value beyond the limits of the notation is written as the nearest limit.
        """
        return self.write_truth(sample, self.series(sample))

    def write_truth(self, sample: Sample, series: Sequence[TargetSeries]) -> str:
        """The truth of a sample in the notation of these series."""
        if sample.truth is None:
            return ""
        parts = [
            each.numbers.write(
                np.clip(sample.truth[each.steps, each.node, each.channel], *each.numbers.limits)
            )
            for each in series
        ]
        return parts[0] if len(parts) == 1 else separator_of(series[0].numbers).join(parts)

    def series_like(self, solved: Sample, target: Sample) -> tuple[TargetSeries, ...]:
        """The target series of a solved sample in the notation of another sample, channel by channel."""
        numbers = {each.channel: each.numbers for each in self.series(target)}
        return tuple(
            replace(each, numbers=numbers.get(each.channel, each.numbers)) for each in self.series(solved)
        )

    def read(self, text: str, sample: Sample) -> Prediction:
        """The answer as a Prediction of the sample's shape; numbers beyond those asked for are ignored."""
        series, count, start = self.series(sample), int(sample.wanted.sum()), 0
        value = np.full(sample.values.shape, np.nan)
        for each in series:
            numbers = each.numbers.read(text, count)
            series_numbers = numbers if len(numbers) < count else numbers[start : start + len(each.steps)]
            if reason := unread_reason(
                series_numbers, len(series_numbers) if len(numbers) == count else count, each.numbers.limits
            ):
                return Prediction(value=None, raw=text, unread_reason=reason)
            value[each.steps, each.node, each.channel] = series_numbers
            start += len(each.steps)
        return Prediction(value=value, raw=text)

    def precision(self, sample: Sample) -> float:
        return max(each.numbers.precision for each in self.series(sample))
