"""Errors relative to the best rule against cost: the charts, and the arms on the frontier of each task."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from st2llm.evaluate.leaderboard.arms import RankedArm
from st2llm.evaluate.leaderboard.content import CostChart, FrontierArm, FrontierRow, Heading, Point
from st2llm.evaluate.report.formats import format_duration, format_large, format_number

WIDTH, HEIGHT = 560.0, 360.0
"""The drawing of a chart, in its own units."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 10.0, 12.0, 28.0
_RATIOS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Marks of the axis of errors; larger errors are drawn at its top."""
_AXES = {
    "seconds": ("Seconds of training and of predicting all test windows", format_duration),
    "parameters": ("Trained parameters; of prompted models, all", format_large),
}


@dataclass(frozen=True)
class _Priced:
    """An arm with one of its costs."""

    arm: RankedArm
    cost: float | None
    ratio: float | None
    frontier: bool


def charts(arms: Sequence[RankedArm]) -> tuple[CostChart, ...]:
    """A chart of each cost, without costs that no arm has."""
    seconds = [_Priced(arm, arm.seconds, arm.ratio, arm.seconds_frontier) for arm in arms]
    parameters = [_Priced(arm, arm.parameters, arm.ratio, arm.parameters_frontier) for arm in arms]
    drawn = (_chart(key, priced) for key, priced in (("seconds", seconds), ("parameters", parameters)))
    return tuple(chart for chart in drawn if chart.points)


def _chart(key: str, priced: Sequence[_Priced]) -> CostChart:
    title, format_cost = _AXES[key]
    shown = [(arm, cost, ratio) for arm in priced if (cost := arm.cost) and (ratio := arm.ratio) is not None]
    costs = [cost for _, cost, _ in shown] or [1.0]
    first = math.floor(math.log10(min(costs)))
    last = max(math.ceil(math.log10(max(costs))), first + 1)

    def across(cost: float) -> float:
        return round(_LEFT + (math.log10(cost) - first) / (last - first) * (WIDTH - _LEFT - _RIGHT), 1)

    points = tuple(_point(arm, across(cost), ratio, format_cost(cost)) for arm, cost, ratio in shown)
    decades = [10.0**power for power in range(first, last + 1)]
    x_ticks = tuple((across(value), _decade(value, key)) for value in decades)
    return CostChart(key, title, x_ticks, tuple((_down(ratio), f"{ratio:g}") for ratio in _RATIOS), points)


def _decade(value: float, key: str) -> str:
    """A power of ten with its unit: `10 ms`, `1 ks`, `100 k`."""
    if key == "seconds":
        return (
            f"{1000 * value:g} ms"
            if value < 1
            else f"{value:g} s"
            if value < 1000
            else f"{value / 1000:g} ks"
        )
    return format_large(value).replace(".0", "")


def _point(priced: _Priced, x: float, ratio: float, cost: str) -> Point:
    arm = priced.arm
    title = f"{arm.predictor}, {arm.data}, {arm.task}: {format_number(ratio)} times the error of {arm.rule}, {cost}"
    beyond = ratio > _RATIOS[-1]
    y = _down(min(max(ratio, _RATIOS[0]), _RATIOS[-1]))
    return Point(arm.row, x, y, arm.role, title, priced.frontier, beyond)


def _down(ratio: float) -> float:
    """The height of an error, from the top of the drawing."""
    share = math.log(_RATIOS[-1] / ratio) / math.log(_RATIOS[-1] / _RATIOS[0])
    return round(_TOP + share * (HEIGHT - _TOP - _BOTTOM), 1)


def frontier_row(heading: Heading, arms: Sequence[RankedArm]) -> FrontierRow | None:
    """The arms of one task that no cheaper arm equals, by seconds; None without a rule or times."""
    own = [arm for arm in arms if arm.seconds_frontier and arm.ratio is not None]
    if not own:
        return None
    steps = (
        FrontierArm(arm.row, arm.predictor, arm.role, format_duration(arm.seconds), format_number(arm.ratio))
        for arm in sorted(own, key=lambda arm: arm.seconds or 0.0)
    )
    return FrontierRow(heading, tuple(steps))
