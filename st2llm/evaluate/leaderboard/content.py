"""What the page of a leaderboard shows, as the template reads it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Filter:
    """A choice above the tables. key: its name in the fragment of the address. options: value and text."""

    key: str
    label: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Interval:
    """A gain on the axis of the forest plot, in percent of its width. low, high: None without interval.

    beyond: -1 or 1 where the gain lies left or right of the axis, else 0.
    """

    at: float
    low: float | None
    high: float | None
    beyond: int


@dataclass(frozen=True)
class GainLine:
    """One gain: what it is over, its text and its place on the axis. outcome: see `gain_outcome`."""

    over: str
    text: str
    outcome: str
    interval: Interval


@dataclass(frozen=True)
class ForestRow:
    """The gains of one arm. arm: its row in the table of arms."""

    arm: int
    name: str
    role: str
    note: str
    lines: tuple[GainLine, ...]


@dataclass(frozen=True)
class Heading:
    """A task of a run. newer: the name of a later run of the same suite, '' where there is none."""

    title: str
    note: str
    link: str
    newer: str


@dataclass(frozen=True)
class ForestGroup:
    """The arms of one task. verdict: the outcome of the task."""

    heading: Heading
    verdict: str
    rows: tuple[ForestRow, ...]


@dataclass(frozen=True)
class Cell:
    """The best arm of a class. side: better or worse than the best rule, '' where there is none."""

    arm: int
    value: str
    gain: str
    side: str
    name: str


@dataclass(frozen=True)
class MatrixRow:
    """One task of one run. cells: one for each class, None where the run has no such arm."""

    heading: Heading
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Point:
    """An arm in a chart of cost, in units of its drawing. beyond: whether its error lies above the chart."""

    arm: int
    x: float
    y: float
    role: str
    title: str
    frontier: bool
    beyond: bool


@dataclass(frozen=True)
class CostChart:
    """Errors relative to the best rule against a cost. ticks: position and text."""

    key: str
    title: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class FrontierArm:
    """An arm that no cheaper arm of its task equals."""

    arm: int
    name: str
    role: str
    cost: str
    error: str


@dataclass(frozen=True)
class FrontierRow:
    """The arms on the frontier of one task, the cheapest first."""

    heading: Heading
    arms: tuple[FrontierArm, ...]


@dataclass(frozen=True)
class ArmRow:
    """A line of the table of all arms."""

    arm: int
    data: str
    task: str
    name: str
    role: str
    kind_of_arm: str
    error: str
    span: str
    over_rule: str
    n: str
    seeds: str
    seconds: str
    parameters: str
    link: str


@dataclass(frozen=True)
class RunRow:
    """A run with its report. newer: as in `Heading`."""

    name: str
    title: str
    link: str
    data: str
    seeds: str
    commit: str
    started: str
    newer: str


@dataclass(frozen=True)
class Leaderboard:
    """The whole page. facets: of each arm its value for each filter, by which a script hides what is not asked for."""

    summary: tuple[str, ...]
    filters: tuple[Filter, ...]
    facets: tuple[tuple[str, ...], ...]
    forest: tuple[ForestGroup, ...]
    classes: Mapping[str, str]
    matrix: tuple[MatrixRow, ...]
    charts: tuple[CostChart, ...]
    frontier: tuple[FrontierRow, ...]
    arms: tuple[ArmRow, ...]
    runs: tuple[RunRow, ...]
    left_out: tuple[tuple[str, str], ...]
