"""The answer of a curve: one sentence with its interval and the range that it holds for."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from st2llm.config.predictors import GroupSettings
from st2llm.evaluate.curve.pairs import Pair, mean_validation
from st2llm.evaluate.curve.points import cover_all
from st2llm.evaluate.curve.rows import CurveRow, by_predictor
from st2llm.evaluate.report.formats import format_gain, format_gain_interval, metric_name
from st2llm.evaluate.run_folder.record import Gain
from st2llm.metrics import is_higher_better

PATHS = {"primitive": "native", "random": "random-weights", "soft": "transferred", "text": "prompted"}
"""What the role of an arm is called in an answer."""
_DRIFT = ("shift", "windows", "split")
"""Axes along which the test part departs from training: an answer says what each predictor keeps."""


def answer(rows: Sequence[CurveRow], pairs: Sequence[Pair], groups: GroupSettings | None = None) -> str:
    """The first line of a report: how the suite's groups compare, else what the first pair shows along the axis, else
    how the best arm changes.
    """
    arms, (axes, span) = by_predictor(rows), describe_range(rows)
    if groups is not None and any(row.gain_group for row in rows):
        return f"{_group_sentence(rows, groups.label)} {_range_sentence(rows, span)}"
    if cover_all(_DRIFT, rows[0].at) and any(row.change for row in rows):
        return f"{_kept_sentence(rows, arms)} {_range_sentence(rows, span)}"
    if pairs and pairs[0].crossing is not None:
        return f"{_crossing_sentence(pairs[0], arms, axes)} {_range_sentence(rows, span)}"
    if pairs:
        return f"{_pair_sentence(pairs[0], arms)} {_range_sentence(rows, span)}"
    return f"{_change_sentence(arms)} {_range_sentence(rows, span)}"


def describe_range(rows: Sequence[CurveRow]) -> tuple[str, str]:
    """The axes, and their values from the first to the last."""
    axes = list(rows[0].at)
    spans = []
    for axis in axes:
        values = list(dict.fromkeys(str(row.at[axis]) for row in rows))
        spans.append(f"{axis} from {values[0]} to {values[-1]} ({len(values)} values)")
    return " and ".join(axes), ", ".join(spans)


def crossing_text(pair: Pair) -> str:
    """Where one of a pair overtakes the other, with its interval: `0.08 (0.03 to beyond 1)`."""
    crossing = pair.crossing
    if crossing is None:
        return "the axis has no numbers"
    where = "none in the range" if crossing.value is None else f"{crossing.value:.3g}"
    if crossing.low is None or crossing.high is None:
        return f"{where} (too few blocks for an interval)"
    return f"{where} ({_end(crossing.low, pair)} to {_end(crossing.high, pair)})"


def gain_text(gain: Gain, *, relative: bool) -> str:
    """A gain with its interval."""
    return f"{format_gain(gain.value, relative=relative)} {format_gain_interval(gain.low, gain.high)}".strip()


def _crossing_sentence(pair: Pair, arms: Mapping[str, list[CurveRow]], axis: str) -> str:
    crossing = pair.crossing
    ahead, behind = _named(pair.overtakes, arms), _named(pair.overtaken, arms)
    if crossing is not None and crossing.value is not None:
        interval = (
            "without an interval, of too few blocks"
            if crossing.low is None or crossing.high is None
            else f"95 % interval {_end(crossing.low, pair)} to {_end(crossing.high, pair)}"
        )
        start = f"{ahead} overtakes {behind} at {axis} {crossing.value:.3g} ({interval})"
        if crossing.low == -math.inf and crossing.high == math.inf:
            start = (
                f"It cannot be told where, or whether, {ahead} overtakes {behind} along {axis}: the interval of the "
                f"crossing at {crossing.value:.3g} goes from {_end(crossing.low, pair)} to {_end(crossing.high, pair)}"
            )
    else:
        start = (
            f"No crossing in the range: {ahead} has the lower error than {behind} at every value of {axis}"
        )
        if is_higher_better(arms[pair.one][0].metric):
            start = f"No crossing in the range: {ahead} scores above {behind} at every value of {axis}"
        start += _doubt(pair)
    return f"{start}; {_ends(pair, arms)}."


def _doubt(pair: Pair) -> str:
    """How many of the gains are told apart from none."""
    clear = sum(1 for gain in pair.gains if _excludes_zero(gain))
    return "" if clear == len(pair.gains) else f", told apart at {clear} of {len(pair.gains)}"


def _group_sentence(rows: Sequence[CurveRow], label: str) -> str:
    """At how many points the best of one group is better than the best of the other, and the largest gain and loss.

    Points where both are still at the forecast that they start from say nothing, and are left out.
    """
    every = [(row, row.gain_group) for row in rows if row.gain_group is not None]
    stuck = {(tuple(row.at.values()), row.predictor) for row in rows if row.training_state == "stuck"}
    found = [
        (row, gain)
        for row, gain in every
        if not {(tuple(row.at.values()), name) for name in (row.predictor, gain.vs)} <= stuck
    ]
    unmoved = (
        f"{label}: not told at {len(every) - len(found)} of {len(every)} points, where both arms that are compared end "
        f"at the forecast that they start from (train them longer: `budget.steps`)"
    )
    if not found:
        return f"{unmoved}."
    better = sum(1 for _, gain in found if _excludes_zero(gain) and gain.value > 0)
    worse = sum(1 for _, gain in found if _excludes_zero(gain) and gain.value < 0)
    relative = not is_higher_better(rows[0].metric)
    ends = [min(found, key=lambda pair: pair[1].value), max(found, key=lambda pair: pair[1].value)]
    told = [
        f"{gain_text(gain, relative=relative)} ({row.predictor} over {gain.vs} at "
        f"{', '.join(str(value) for value in row.at.values())})"
        for row, gain in ends
    ]
    return (f"{unmoved}. " if len(found) < len(every) else "") + (
        f"{label}: better at {better} of {len(found)} points and worse at {worse}, by 95 % intervals; gains from "
        f"{told[0]} to {told[1]}."
    )


def _pair_sentence(pair: Pair, arms: Mapping[str, list[CurveRow]]) -> str:
    clear = sum(1 for gain in pair.gains if _excludes_zero(gain) and gain.value > 0)
    worse = sum(1 for gain in pair.gains if _excludes_zero(gain) and gain.value < 0)
    return (
        f"{_named(pair.one, arms)} is better than {_named(pair.other, arms)} at {clear} of {len(pair.gains)} points "
        f"and worse at {worse}, by 95 % intervals; {_ends(pair, arms)}."
    )


def _ends(pair: Pair, arms: Mapping[str, list[CurveRow]]) -> str:
    relative = not is_higher_better(arms[pair.one][0].metric)
    first, last = (gain_text(pair.gains[i], relative=relative) for i in (0, -1))
    return (
        f"the gain of {pair.one} over {pair.other} is {first} at {_value(pair.values[0])} and {last} at "
        f"{_value(pair.values[-1])}"
    )


def _kept_sentence(rows: Sequence[CurveRow], arms: Mapping[str, list[CurveRow]]) -> str:
    """How much worse each trained arm becomes under drift, the least first, and the best rule on validation.

    Told at the strongest dose; of other axes at the value at which these predictors lose most.
    """
    rules = [name for name, own in arms.items() if not own[0].trained]
    best = sorted(rules, key=lambda name: mean_validation(arms[name]))[:1]
    told = [name for name, own in arms.items() if own[0].trained] + best
    count = len(arms[told[0]])
    dosed = cover_all(("shift",), rows[0].at)
    at = (
        count - 1
        if dosed
        else min(range(1, count), key=lambda i: _mean_change([arms[name][i] for name in told]))
    )
    known = {name: gain for name in told if (gain := arms[name][at].change) is not None}
    relative = not is_higher_better(rows[0].metric)
    parts = [
        f"{_named(name, arms)} {gain_text(gain, relative=relative)}"
        for name, gain in sorted(known.items(), key=lambda item: -item[1].value)
    ]
    where, first = (
        ", ".join(f"{axis} {_value(value)}" for axis, value in arms[told[0]][i].at.items()) for i in (at, 0)
    )
    origin = "without drift" if dosed else f"at {first}"
    return (
        f"At {where}, gains over the same predictor {origin}, the least loss first, are {'; '.join(parts)} (95 % "
        f"intervals; negative is a loss)."
    )


def _mean_change(rows: Sequence[CurveRow]) -> float:
    """The mean gain of these rows over the first point; 0 where none is known."""
    known = [row.change.value for row in rows if row.change is not None]
    return sum(known) / len(known) if known else 0.0


def _change_sentence(arms: Mapping[str, list[CurveRow]]) -> str:
    """How the predictor that is best on validation changes from the first point to the last."""
    name = min(arms, key=lambda name: mean_validation(arms[name]))
    last = arms[name][-1]
    relative = not is_higher_better(last.metric)
    metric = metric_name(last.metric)
    if last.change is None:
        return f"{name} is best on validation over all points; the test windows differ, so no change is told."
    return (
        f"Of {len(arms)} predictors {name} is best on validation over all points; from the first to the last its "
        f"{metric} improves by {gain_text(last.change, relative=relative)} (a negative number is a loss)."
    )


def _range_sentence(rows: Sequence[CurveRow], span: str) -> str:
    first = rows[0]
    seeds = max(len(row.seeds) for row in rows)
    quick = ", quick form" if first.quick else ""
    return (
        f"Range: {span}; {first.suite}, {first.task}, {metric_name(first.metric)} on {max(r.windows for r in rows)} "
        f"test windows, {seeds} {'seed' if seeds == 1 else 'seeds'}{quick}."
    )


def _named(name: str, arms: Mapping[str, list[CurveRow]]) -> str:
    row = arms[name][0]
    kind = PATHS.get(row.role)
    return f"{name} ({kind})" if kind and row.trained else name


def _excludes_zero(gain: Gain) -> bool:
    return gain.low is not None and gain.high is not None and (gain.low > 0 or gain.high < 0)


def _end(end: float, pair: Pair) -> str:
    crossing = pair.crossing
    if math.isfinite(end) or crossing is None:
        return f"{end:.3g}"
    return f"below {crossing.first:g}" if end < 0 else f"beyond {crossing.last:g}"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
