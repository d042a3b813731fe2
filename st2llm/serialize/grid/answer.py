"""Forecasts of a raster region by region: the means of regions in numbers, laid over their cells when they are read."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.answer.unread import unread_reason
from st2llm.serialize.grid import raster
from st2llm.serialize.grid.raster import Region
from st2llm.serialize.numbers import Notation, Strategy, fit
from st2llm.serialize.text.series import forecast_start, separator_of
from st2llm.types import Grammar, Prediction, Sample


@dataclass(frozen=True)
class RegionMean:
    """The asked steps of one region's mean. base: what each of its cells is taken to be where the mean stays."""

    region: Region
    channel: int
    history: Float64[np.ndarray, " time"]
    base: Float64[np.ndarray, " cell"]


@dataclass(frozen=True)
class RegionAnswer:
    """Forecasts of regional means: region by region, channel by channel, oldest first, in one scale of each channel.

    A mean that was read is laid over the cells of its region: each keeps its distance from the mean of the last step
    that was seen, so that the cells' mean is the mean that was said.
    """

    notation: Notation
    across: int

    def means(self, sample: Sample) -> tuple[RegionMean, ...]:
        start, found = forecast_start(sample), []
        for channel in sample.wanted_channels:
            for region in raster.compass_regions(sample, self.across):
                nodes = region.nodes[sample.wanted[start, region.nodes, channel]]
                if not len(nodes):
                    continue
                asked = Region(region.name, nodes)
                history = raster.region_means(sample, asked, channel)[:start]
                base = _last_readings(sample, nodes, channel, start)
                level = float(np.nanmean(base)) if np.isfinite(base).any() else 0.0
                base = np.where(np.isfinite(base), base, level)
                found.append(RegionMean(asked, channel, history, base - base.mean()))
        return tuple(found)

    def numbers(self, means: tuple[RegionMean, ...], channel: int) -> Strategy:
        """The numbers of a channel, fitted to what was seen of all regions."""
        values = np.concatenate([one.history for one in means if one.channel == channel])
        return fit(self.notation.strategy, values, self.notation)

    def grammar(self, sample: Sample) -> Grammar:
        means = self.means(sample)
        count = len(means) * (len(sample.time) - forecast_start(sample))
        return self.numbers(means, means[0].channel).grammar(count)

    def truth(self, sample: Sample) -> str:
        return self.said(sample, sample)

    def said(self, sample: Sample, scaled: Sample) -> str:
        """The truth of a sample in the numbers of another (or its own)."""
        if sample.truth is None:
            return ""
        means, start = self.means(sample), forecast_start(sample)
        own = means if scaled is sample else self.means(scaled)
        said = []
        for one in means:
            numbers = self.numbers(own, one.channel)
            values = raster.region_means(sample, one.region, one.channel, sample.truth)[start:]
            said.append(numbers.write(np.clip(values, *numbers.limits)))
        return separator_of(self.numbers(means, means[0].channel)).join(said)

    def read(self, text: str, sample: Sample) -> Prediction:
        means, start = self.means(sample), forecast_start(sample)
        steps = len(sample.time) - start
        count, value = len(means) * steps, np.full(sample.values.shape, np.nan)
        for i, one in enumerate(means):
            numbers = self.numbers(means, one.channel)
            found = numbers.read(text, count)
            own = found[i * steps : (i + 1) * steps] if len(found) == count else found
            if reason := unread_reason(own, steps if len(found) == count else count, numbers.limits):
                return Prediction(value=None, raw=text, unread_reason=reason)
            value[start:, one.region.nodes, one.channel] = own[:, None] + one.base[None, :]
        return Prediction(value=np.where(sample.wanted, value, np.nan), raw=text)


def _last_readings(
    sample: Sample, nodes: np.ndarray, channel: int, before: int
) -> Float64[np.ndarray, " cell"]:
    """The last visible reading of each cell before a step; NaN where there is none."""
    visible = sample.visible[:before, nodes, channel]
    last = before - 1 - np.argmax(visible[::-1], axis=0)
    values = sample.values[last, nodes, channel]
    return np.where(visible.any(axis=0), values, np.nan)
