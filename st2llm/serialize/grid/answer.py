"""Answers of grids by region: means of regions as numbers, spread over the cells when they are read."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.answer.unread import unread_reason
from st2llm.serialize.grid import raster
from st2llm.serialize.grid.raster import Region
from st2llm.serialize.numbers import LEAST_STEPS, Notation, Strategy, fit
from st2llm.serialize.text.series import forecast_start, separator_of
from st2llm.types import Grammar, Prediction, Sample


@dataclass(frozen=True)
class RegionMean:
    """The mean of one region. base: offset of each cell from the mean of the region."""

    region: Region
    channel: int
    history: Float64[np.ndarray, " time"]
    base: Float64[np.ndarray, " cell"]


@dataclass(frozen=True)
class RegionAnswer:
    """Forecasts of regional means, by channel, then by region, oldest first, with one notation per channel.

    A mean that is read is spread over the cells of its region: each cell keeps its offset from the mean at the last
    visible step, so that the mean of the cells is the mean that was read.
    """

    notation: Notation
    across: int

    def means(self, sample: Sample) -> tuple[RegionMean, ...]:
        start, region_means = forecast_start(sample), []
        for channel in sample.wanted_channels:
            for region in raster.compass_regions(sample, self.across):
                nodes = region.nodes[sample.wanted[start, region.nodes, channel]]
                if not len(nodes):
                    continue
                wanted_region = Region(region.name, nodes)
                history = raster.region_means(sample, wanted_region, channel)[:start]
                base = _last_readings(sample, nodes, channel, start)
                level = float(np.nanmean(base)) if np.isfinite(base).any() else 0.0
                base = np.where(np.isfinite(base), base, level)
                region_means.append(RegionMean(wanted_region, channel, history, base - base.mean()))
        return tuple(region_means)

    def covariates(self, sample: Sample) -> tuple[RegionMean, ...]:
        """The regional means of covariates before the forecast, and at its steps where they are known in advance."""
        start, found = forecast_start(sample), []
        for channel in sample.covariate_channels:
            end = len(sample.time) if channel in sample.channels_ahead else start
            for region in raster.compass_regions(sample, self.across):
                history = raster.region_means(sample, region, channel)[:end]
                if np.isfinite(history).any():
                    found.append(RegionMean(region, channel, history, np.zeros(len(region.nodes))))
        return tuple(found)

    def numbers(self, means: tuple[RegionMean, ...], channel: int) -> Strategy:
        """The notation of a channel, fitted to the visible means of all regions."""
        values = np.concatenate([mean.history for mean in means if mean.channel == channel])
        return fit(self.notation.strategy, values, replace(self.notation, least_steps=LEAST_STEPS))

    def grammar(self, sample: Sample) -> Grammar:
        means = self.means(sample)
        count = len(means) * (len(sample.time) - forecast_start(sample))
        return self.numbers(means, means[0].channel).grammar(count)

    def truth(self, sample: Sample) -> str:
        return self.write_truth(sample, sample)

    def write_truth(self, sample: Sample, scaled: Sample) -> str:
        """The truth of a sample in the notation of another sample (or its own)."""
        if sample.truth is None:
            return ""
        means, start = self.means(sample), forecast_start(sample)
        scale_means = means if scaled is sample else self.means(scaled)
        parts = []
        for mean in means:
            numbers = self.numbers(scale_means, mean.channel)
            values = raster.region_means(sample, mean.region, mean.channel, sample.truth)[start:]
            parts.append(numbers.write(np.clip(values, *numbers.limits)))
        return separator_of(self.numbers(means, means[0].channel)).join(parts)

    def read(self, text: str, sample: Sample) -> Prediction:
        means, start = self.means(sample), forecast_start(sample)
        steps = len(sample.time) - start
        count, value = len(means) * steps, np.full(sample.values.shape, np.nan)
        for i, mean in enumerate(means):
            numbers = self.numbers(means, mean.channel)
            numbers_read = numbers.read(text, count)
            region_numbers = (
                numbers_read[i * steps : (i + 1) * steps] if len(numbers_read) == count else numbers_read
            )
            if reason := unread_reason(
                region_numbers, steps if len(numbers_read) == count else count, numbers.limits
            ):
                return Prediction(value=None, raw=text, unread_reason=reason)
            value[start:, mean.region.nodes, mean.channel] = region_numbers[:, None] + mean.base[None, :]
        return Prediction(value=np.where(sample.wanted, value, np.nan), raw=text)


def _last_readings(
    sample: Sample, nodes: np.ndarray, channel: int, before: int
) -> Float64[np.ndarray, " cell"]:
    """The last visible value of each cell before a step; NaN where there is none."""
    visible = sample.visible[:before, nodes, channel]
    last = before - 1 - np.argmax(visible[::-1], axis=0)
    values = sample.values[last, nodes, channel]
    return np.where(visible.any(axis=0), values, np.nan)
