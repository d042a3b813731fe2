"""Claims about values at places and on rasters."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.lint.claims.clause import HIGH, LOW, MEAN, Claim, Clause, number_claim, word_claim
from st2llm.serialize.text import sequence, statistics
from st2llm.types import DAY_S, Sample
from st2llm.types.rounding import ROUNDING

Table = Float64[np.ndarray, "time node"]

_HIGH, _LOW, _MEAN = (re.compile(rf"\b(?:{words})\b") for words in (HIGH, LOW, MEAN))
_FROM_TO = re.compile(
    r"\b(?:rang\w+|var\w+|between|lie|lies|values)\b[^\d]{0,40}(?:from|between)?[^\d]{0,20}$"
)
_FIRST = re.compile(r"\b(?:start(?:s|ed|ing)?|beg[iau]n(?:s|ning)?|first value|opens?)\b")
_END = re.compile(
    r"\b(?:end(?:s|ed|ing)?|latest(?: value)?|last value|most recent(?: value)?|finish(?:es|ed)?)\b"
)
_RISE = re.compile(
    r"\b(?:ris(?:e|es|ing|en)|rose|increas\w+|grow\w*|grew|climb\w*|upwards?|warm(?:s|ed|ing))\b"
)
_FALL = re.compile(
    r"\b(?:falls?|falling|fell|fallen|declin\w+|decreas\w+|drop\w*|downwards?|shrink\w*|shrank|cool(?:s|ed|ing))\b"
)
_FLAT = re.compile(r"\b(?:flat|steady|stable|unchanged|constant)\b")
_MORE = re.compile(r"\b(?:busier|higher|warmer|more|larger|greater|hotter)\b.{0,40}\bthan\b")
_LESS = re.compile(r"\b(?:quieter|lower|cooler|colder|fewer|less|smaller)\b.{0,40}\bthan\b")
_CLEAR, _LEVEL = 0.25, 0.1


@dataclass(frozen=True)
class Subject:
    """One interpretation of the subject of a clause: some nodes of a channel. values: NaN where not visible."""

    name: str
    values: Table

    @property
    def line(self) -> Float64[np.ndarray, " time"]:
        """The mean over the nodes at each step."""
        finite = np.isfinite(self.values)
        count = finite.sum(axis=1)
        return np.where(
            count > 0, np.where(finite, self.values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan
        )


def known_names(sample: Sample) -> list[str]:
    """The names that a clause may mention: ids and labels of places."""
    return list(dict.fromkeys([*statistics.place_labels(sample), *sample.place]))


def check(clause: Clause, sample: Sample) -> Iterator[Claim]:
    """Yields all claims of a clause."""
    subjects = _subjects(clause, sample)
    yield from _extremes(clause, subjects)
    yield from _ends(clause, subjects)
    yield from _times(clause, sample, subjects)
    yield from _trend(clause, subjects, _per_day(sample))
    if len(set(_nodes(clause, sample))) == 2:
        yield from _comparison(clause, sample)
    if sample.side.layout is not None:
        yield from _region(clause, sample)


def _subjects(clause: Clause, sample: Sample) -> list[Subject]:
    """The possible subjects: what the clause names, else the last name and everything shown; none if ambiguous."""
    channel = _channel(clause, sample)
    if channel is None:
        return []
    values = np.where(sample.visible, sample.values, np.nan)[:, :, channel]
    named = list(dict.fromkeys(_nodes(clause, sample)))
    if len(named) > 1:
        return []
    if named:
        return [Subject(sample.place[named[0]], values[:, named])]
    region = _named_region(clause, sample)
    if region is not None:
        return [Subject(region.name, values[:, region.cells])]
    everything = [Subject("all", values)]
    before = _node(clause.last_name, sample)
    return everything if before is None else [Subject(sample.place[before], values[:, [before]]), *everything]


def _channel(clause: Clause, sample: Sample) -> int | None:
    channels = sample.side.channels
    if len(channels) <= 1:
        return 0
    claimed = [
        i
        for i, name in enumerate(channels)
        if re.search(
            rf"(?<!\w){re.escape(name.lower().replace('_', ' '))}(?!\w)", clause.lowered.replace("_", " ")
        )
        or re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", clause.text.lower())
    ]
    return claimed[0] if len(claimed) == 1 else None


def _nodes(clause: Clause, sample: Sample) -> list[int]:
    return [node for name in clause.names if (node := _node(name, sample)) is not None]


def _node(name: str, sample: Sample) -> int | None:
    labels = statistics.place_labels(sample)
    if name in labels and labels.count(name) == 1:
        return labels.index(name)
    return sample.place.index(name) if name in sample.place else None


def _extremes(clause: Clause, subjects: list[Subject]) -> Iterator[Claim]:
    ranged = _FROM_TO.search(clause.lowered[: clause.numbers[0].start]) if len(clause.numbers) > 1 else None
    if ranged and re.fullmatch(r"[^\d]{0,24}\b(?:and|to)\b[^\d]{0,12}", _between(clause, 0, 1)):
        low, high = clause.numbers[:2]
        clause.used.update((low.start, high.start))
        yield number_claim(clause, "minimum", low, [_stat(r, np.nanmin) for r in subjects])
        yield number_claim(clause, "maximum", high, [_stat(r, np.nanmax) for r in subjects])
        return
    for topic, pattern, take in (
        ("maximum", _HIGH, np.nanmax),
        ("minimum", _LOW, np.nanmin),
        ("mean", _MEAN, np.nanmean),
    ):
        for match in pattern.finditer(clause.lowered):
            both = _MEAN.search(clause.lowered) and (
                _HIGH.search(clause.lowered) or _LOW.search(clause.lowered)
            )
            number = clause.number_after(match) or clause.number_before(match)
            if number is not None and number.unit not in ("hour", "hours", "day", "days", "places", "cells"):
                yield number_claim(clause, topic, number, [] if both else [_stat(r, take) for r in subjects])
                break


def _between(clause: Clause, first: int, second: int) -> str:
    return clause.lowered[clause.numbers[first].end : clause.numbers[second].start]


def _stat(subject: Subject, take: object) -> float | None:
    return float(take(subject.values)) if np.isfinite(subject.values).any() else None  # type: ignore[operator]


def _ends(clause: Clause, subjects: list[Subject]) -> Iterator[Claim]:
    for topic, pattern, at in (("first value", _FIRST, 0), ("last value", _END, -1)):
        match = pattern.search(clause.lowered)
        number = clause.number_after(match, 30) if match else None
        if number is not None:
            lines = [line[np.isfinite(line)] for line in (r.line for r in subjects)]
            yield number_claim(
                clause, topic, number, [float(line[at]) if line.size else None for line in lines]
            )


def _times(clause: Clause, sample: Sample, subjects: list[Subject]) -> Iterator[Claim]:
    if len(clause.clocks) != 1 or not 0 < sample.side.freq_s < DAY_S:
        return
    minute = clause.clocks[0]
    clock = [m.hour * 60 + m.minute for m in sequence.local_times(sample)]
    claimed = f"{minute // 60:02d}:{minute % 60:02d}"
    for topic, pattern, sign in (("time of maximum", _HIGH, 1.0), ("time of minimum", _LOW, -1.0)):
        if pattern.search(clause.lowered):
            peak_minutes = {t for r in subjects for t in _peak_times(r, clock, sign)}
            truth = (
                None
                if not peak_minutes
                else ", ".join(f"{t // 60:02d}:{t % 60:02d}" for t in sorted(peak_minutes))
            )
            yield word_claim(clause, topic, claimed, truth, correct=minute in peak_minutes)
            return
    unused = [number for number in clause.numbers if number.start not in clause.used]
    steps = [i for i, at in enumerate(clock) if at == minute]
    if len(unused) == 1 and steps:
        clause.used.add(unused[0].start)
        truths = [float(r.line[steps[0]]) for r in subjects if np.isfinite(r.line[steps[0]])]
        yield number_claim(clause, f"value at {claimed}", unused[0], truths if len(steps) == 1 else [])


def _peak_times(subject: Subject, clock: list[int], sign: float) -> set[int]:
    """Minutes of the day of the extreme of the values, and of the extreme of their mean day."""
    line = sign * subject.line
    finite = np.isfinite(line)
    if not finite.any():
        return set()
    at = np.array(clock)
    rounding = ROUNDING * float(np.nanmax(np.abs(line)))
    minutes = {int(t) for t in at[finite & (line >= np.nanmax(line) - rounding)]}
    times = np.unique(at[finite])
    means = np.array([line[finite & (at == t)].mean() for t in times])
    return minutes | {int(t) for t in times[means >= means.max() - rounding]}


def _per_day(sample: Sample) -> int:
    freq = sample.side.freq_s
    return DAY_S // freq if 0 < freq < DAY_S else 1


def _trend(clause: Clause, subjects: list[Subject], per_day: int) -> Iterator[Claim]:
    claimed = {
        word
        for word, pattern in (("rise", _RISE), ("fall", _FALL), ("flat", _FLAT))
        if pattern.search(clause.lowered)
    }
    if not claimed or re.search(r"\b(?:rises?|falls?|drop\w*|peaks?)\b[^\d_]{0,20}\bto\b", clause.lowered):
        return
    truths = {trend(subject.line, per_day) for subject in subjects}
    word = next(iter(claimed))
    if (
        len(claimed) > 1
        or clause.partial_time
        or not truths
        or None in truths
        or (len(truths) > 1 and word not in truths)
    ):
        yield Claim(clause.text, "trend", " and ".join(sorted(claimed)), "uncheckable")
    else:
        yield word_claim(clause, "trend", word, word if word in truths else str(next(iter(truths))))


def trend(line: Float64[np.ndarray, " time"], per_day: int = 1) -> str | None:
    """rise, fall or flat by the means of the last and first quarter, None where it is not clear.

    per_day: where two days or more are shown, the quarters are whole days, at least one, so that the hours of a day
    are no trend.
    """
    finite = np.isfinite(line)
    first = int(finite.argmax()) if finite.any() else 0
    visible = line[first : len(line) - int(finite[::-1].argmax())] if finite.any() else line[:0]
    quarter = len(visible) // 4
    if per_day > 1 and len(visible) >= 2 * per_day:
        quarter = max(per_day, quarter // per_day * per_day)
    ends = visible[:quarter], visible[len(visible) - quarter :]
    if quarter < 1 or not all(np.isfinite(end).any() for end in ends):
        return None
    spread = float(np.nanstd(visible))
    change = float(np.nanmean(ends[1]) - np.nanmean(ends[0]))
    if abs(change) <= _LEVEL * spread or spread <= ROUNDING * float(np.nanmax(np.abs(visible))):
        return "flat"
    return None if abs(change) < _CLEAR * spread else "rise" if change > 0 else "fall"


def _comparison(clause: Clause, sample: Sample) -> Iterator[Claim]:
    """`A is busier than B`: the mean of A above that of B."""
    more, less = _MORE.search(clause.lowered), _LESS.search(clause.lowered)
    channel = _channel(clause, sample)
    if (more is None) == (less is None) or channel is None:
        return
    first, second = list(dict.fromkeys(_nodes(clause, sample)))
    means = [statistics.visible_mean(sample, np.array([node]), channel) for node in (first, second)]
    names = [sample.place[node] for node in (first, second)]
    claimed = f"{names[0]} {'above' if more else 'below'} {names[1]}"
    if means[0] is None or means[1] is None or means[0] == means[1]:
        yield Claim(clause.text, "comparison", claimed, "uncheckable")
        return
    truth = f"{names[0]} {'above' if means[0] > means[1] else 'below'} {names[1]}"
    yield word_claim(clause, "comparison", claimed, truth)


def _named_region(clause: Clause, sample: Sample) -> statistics.Region | None:
    """The quarter or half of a raster that the clause names, if it names exactly one."""
    if sample.side.layout is None:
        return None
    regions = [*statistics.quarters(sample.side.layout), *statistics.halves(sample.side.layout)]
    claimed = re.sub(r"\b(north|south)[ -]?(east|west)(?:ern)?\b", r"\1-\2", clause.lowered)
    claimed = re.sub(r"\b(north|south|east|west)ern\b", r"\1", claimed)
    matches = [r for r in regions if re.search(rf"(?<![\w-]){re.escape(r.name)}(?![\w-])", claimed)]
    matches = [
        r for r in matches if not any(r.name != other.name and r.name in other.name for other in matches)
    ]
    return matches[0] if len(matches) == 1 else None


def _region(clause: Clause, sample: Sample) -> Iterator[Claim]:
    """`the south is warmest`: among the quarters, or against the other half."""
    region, channel = _named_region(clause, sample), _channel(clause, sample)
    high, low = _HIGH.search(clause.lowered), _LOW.search(clause.lowered)
    if region is None or channel is None or (high is None) == (low is None) or clause.numbers:
        return
    layout = sample.side.layout
    if layout is None:
        return
    halves = statistics.halves(layout)
    pairs = (halves[:2], halves[2:])
    rivals = next(
        (pair for pair in pairs if region.name in [r.name for r in pair]), statistics.quarters(layout)
    )
    means = [(r.name, statistics.visible_mean(sample, r.cells, channel)) for r in rivals]
    comparable = [(name, mean if high else -mean) for name, mean in means if mean is not None]
    spread = float(np.std([mean for _, mean in comparable])) if comparable else 0.0
    top = statistics.clear_maximum([mean for _, mean in comparable], margin=0.02 * spread)
    truth = None if top is None or len(comparable) < 2 else comparable[top][0]
    yield word_claim(clause, "region of the highest" if high else "region of the lowest", region.name, truth)
