"""Questions about grids."""

from collections.abc import Iterator

import numpy as np

from st2llm.serialize.questions.question import QuestionAnswer, choice_question, number_question
from st2llm.serialize.text import statistics
from st2llm.serialize.text.formatting import short_decimals_for
from st2llm.types import Sample

_CANDIDATES = 4


def generate(sample: Sample, draw: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Fastest-rising cell, highest region, mean difference of two halves, rise or fall of the whole."""
    layout = sample.side.layout
    if layout is None or last_shown(sample) is None:
        return
    channel = int(draw.integers(sample.values.shape[2]))
    yield from _fastest_rising(sample, channel, draw)
    yield from _highest_region(sample, channel)
    yield from _difference(sample, channel)
    yield from _rise_or_fall(sample, channel)


def last_shown(sample: Sample) -> int | None:
    """The last step of which anything is visible."""
    last = sample.last_visible_step
    return None if last < 0 else last


def _fastest_rising(sample: Sample, channel: int, draw: np.random.Generator) -> Iterator[QuestionAnswer]:
    last = sample.last_visible_step
    both = sample.visible[0, :, channel] & sample.visible[last, :, channel]
    cells = np.flatnonzero(both)
    if last < 1 or len(cells) < 2:
        return
    kept = sorted(int(i) for i in draw.permutation(cells)[:_CANDIDATES])
    change = sample.values[last, kept, channel] - sample.values[0, kept, channel]
    winner = statistics.clear_maximum(change, margin=_least(sample.values[:, kept, channel]))
    if winner is None:
        return
    options = tuple(statistics.place_labels(sample)[i] for i in kept)
    if len(set(options)) == len(options):
        yield choice_question(
            "fastest-rising",
            f"From the first map shown to the last, which gained most ({statistics.quantity(sample, channel)}; a gain "
            f"may be negative): {'; '.join(options[:-1])} or {options[-1]}?",
            options[winner],
            options,
            provenance=f"changes {', '.join(f'{c:.6g}' for c in change)} from step 0 to step {last}",
            places=tuple(kept),
        )


def _highest_region(sample: Sample, channel: int) -> Iterator[QuestionAnswer]:
    last = sample.last_visible_step
    region_means = [
        (region, statistics.visible_mean(sample, region.cells, channel, last)) for region in _regions(sample)
    ]
    regions = [(region, mean) for region, mean in region_means if mean is not None]
    if len(regions) < 2:
        return
    means = np.array([mean for _, mean in regions])
    winner = statistics.clear_maximum(means, margin=0.1 * float(means.std()))
    if winner is None:
        return
    word = "warmest" if "temperature" in sample.side.quantity else "highest on average"
    options = tuple(region.name for region, _ in regions)
    yield choice_question(
        "highest-region",
        f"Which quarter of the last map shown is {word} ({statistics.quantity(sample, channel)})?",
        options[winner],
        options,
        provenance=f"means at step {last}: "
        + "; ".join(f"{region.name} {mean:.6g}" for region, mean in regions),
    )


def _difference(sample: Sample, channel: int) -> Iterator[QuestionAnswer]:
    if sample.side.layout is None:
        return
    up, down = statistics.halves(sample.side.layout)[:2]
    last = sample.last_visible_step
    a, b = (statistics.visible_mean(sample, half.cells, channel, last) for half in (up, down))
    if a is None or b is None:
        return
    yield number_question(
        "half-difference",
        f"On the last map shown, what is the mean ({statistics.quantity(sample, channel)}) of the {up.name} half less "
        f"that of the {down.name} half? A middle row belongs to the {up.name}.",
        a - b,
        decimals=max(1, short_decimals_for(sample.values[:, :, channel])),
        unit=statistics.unit_of(sample, channel),
        provenance=f"means {a:.6g} and {b:.6g} of the visible cells at step {last}",
        tolerance=0.02,
    )


def _rise_or_fall(sample: Sample, channel: int) -> Iterator[QuestionAnswer]:
    last = sample.last_visible_step
    both = sample.visible[0, :, channel] & sample.visible[last, :, channel]
    if last < 1 or not both.any():
        return
    first, latest = (float(sample.values[i, both, channel].mean()) for i in (0, last))
    if abs(latest - first) <= _least(sample.values[:, both, channel]):
        return
    yield choice_question(
        "rise-or-fall",
        f"Did the mean of the map ({statistics.quantity(sample, channel)}) rise or fall from the first map shown to "
        f"the last?",
        "rise" if latest > first else "fall",
        ("rise", "fall"),
        provenance=f"mean {first:.6g} at step 0 and {latest:.6g} at step {last}, of {int(both.sum())} cells",
    )


def _regions(sample: Sample) -> tuple[statistics.Region, ...]:
    return () if sample.side.layout is None else statistics.quarters(sample.side.layout)


def _least(values: np.ndarray) -> float:
    """A difference under one hundredth of the spread is no difference."""
    finite = values[np.isfinite(values)]
    return 0.01 * float(finite.std()) if finite.size else 0.0
