"""The mask policy of each task: the entries of a window that are hidden and therefore to be predicted.

`target` of the tasks of graphs and grids: the channels to predict; the others are inputs, hidden where these are unless
they are known in advance. Empty: those that the data card makes targets.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from st2llm.errors import ConfigError, nearest
from st2llm.types import seed_from, slug

Shape = tuple[int, int, int]
_PATTERNS = ("points", "blocks")


@runtime_checkable
class Task(Protocol):
    """A mask policy over windows of `length` steps."""

    @property
    def type(self) -> str:
        """The name in templates and suites: forecast, impute, next-place, ..."""
        ...

    @property
    def name(self) -> str:
        """The type and settings, as in file names: forecast-168-24."""
        ...

    @property
    def length(self) -> int: ...

    @property
    def context(self) -> int:
        """Number of leading steps that are never hidden."""
        ...

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        """True where a window of this shape is hidden. key: the id of the window, from which a random mask follows."""
        ...


@dataclass(frozen=True, repr=False)
class Forecast:
    """Forecasting: the last `horizon` steps are hidden, the `history` steps before them are visible.

    missing: share of the history that is not visible either, without being asked for, as where sensors fail: single
    points (missing_by: points) or `block` consecutive steps of a place (blocks). The same window hides more of the same
    entries at a larger share.
    """

    history: int
    horizon: int
    target: tuple[str, ...] = field(default=())
    missing: float = 0.0
    missing_by: Literal["points", "blocks"] = "points"
    block: int = 6
    type = "forecast"

    def __post_init__(self) -> None:
        _at_least(self, 1, "history", "horizon", "block")
        _one_of(self, "missing_by", _PATTERNS)
        if not 0 <= self.missing < 1:
            raise ConfigError(
                f"forecast.missing is a share of the history, at least 0 and below 1, but it is {self.missing}."
            )

    @property
    def name(self) -> str:
        gaps = f"-missing-{self.missing:g}-{self._gaps}" if self.missing else ""
        return f"forecast-{self.history}-{self.horizon}{gaps}{_of(self.target)}"

    @property
    def _gaps(self) -> str:
        length = "" if self.block == Forecast.block else f"-of-{self.block}"
        return f"{self.missing_by}{length if self.missing_by == 'blocks' else ''}"

    def __repr__(self) -> str:
        """The settings; what is missing only where something is, so that hashes of splits stay."""
        gaps = f", missing={self.missing!r}, missing_by={self._gaps!r}" if self.missing else ""
        return f"Forecast(history={self.history!r}, horizon={self.horizon!r}{gaps})"

    @property
    def length(self) -> int:
        return self.history + self.horizon

    @property
    def context(self) -> int:
        return self.history

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        mask = np.zeros(shape, dtype=bool)
        mask[self.history :] = True
        return mask

    def missing_history(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        """True where the history of a window of this shape is missing, all channels of an entry alike. key: its id."""
        mask = np.zeros(shape, dtype=bool)
        if self.missing:
            draw = _rng(
                f"missing {self.history}", 0, key
            )  # the share is no part of the seed: shares are nested
            steps = (self.history, shape[1])
            mask[: self.history] = _draw_entries(draw, steps, self.missing, self.missing_by, self.block)[
                ..., None
            ]
        return mask


@dataclass(frozen=True)
class Impute:
    """Imputation: a share of the entries is hidden, single `points` or `blocks` of `block` steps at one node."""

    length: int
    share: float = 0.25
    pattern: Literal["points", "blocks"] = "points"
    block: int = 6
    seed: int = 0
    target: tuple[str, ...] = field(default=(), repr=False)
    type = "impute"
    context = 0

    def __post_init__(self) -> None:
        _at_least(self, 2, "length")
        _at_least(self, 1, "block")
        _a_share(self, "share")
        _one_of(self, "pattern", _PATTERNS)

    @property
    def name(self) -> str:
        return f"impute-{self.length}-{self.pattern}-{self.share:g}{_of(self.target)}"

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        draw = _rng(self.name, self.seed, key)
        time, node, channel = shape
        mask = _draw_entries(draw, (time, node), self.share, self.pattern, self.block)
        if not mask.any():
            mask[int(draw.integers(time)), int(draw.integers(node))] = True
        return np.repeat(mask[:, :, None], channel, axis=2)


@dataclass(frozen=True)
class Interpolate:
    """Interpolation: every `every`-th step is visible, from the first on; the steps between are hidden."""

    length: int
    every: int = 4
    target: tuple[str, ...] = field(default=(), repr=False)
    type = "interpolate"
    context = 0

    def __post_init__(self) -> None:
        _at_least(self, 3, "length")
        _at_least(self, 2, "every")

    @property
    def name(self) -> str:
        return f"interpolate-{self.length}-{self.every}{_of(self.target)}"

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        mask = np.ones(shape, dtype=bool)
        mask[:: self.every] = False
        return mask


@dataclass(frozen=True)
class Krige:
    """Kriging: a share of the nodes, at least one, is hidden over all steps of the window after the first `history`."""

    length: int
    share: float = 0.25
    seed: int = 0
    target: tuple[str, ...] = field(default=(), repr=False)
    history: int = field(default=0, repr=False)
    type = "krige"
    context = 0

    def __post_init__(self) -> None:
        _at_least(self, 1, "length")
        _at_least(self, 0, "history")
        _a_share(self, "share")
        if self.history >= self.length:
            raise ConfigError(
                f"krige.history must leave a step of krige.length to hide, but it is {self.history} of {self.length}. "
                f"Set it in `task`."
            )

    @property
    def name(self) -> str:
        history = f"-after-{self.history}" if self.history else ""
        return f"krige-{self.length}-{self.share:g}{history}{_of(self.target)}"

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        node = shape[1]
        count = min(max(1, round(self.share * node)), max(1, node - 1))
        mask = np.zeros(shape, dtype=bool)
        mask[self.history :, _rng(self.name, self.seed, key).permutation(node)[:count]] = True
        return mask


@dataclass(frozen=True)
class Recover:
    """Trajectory recovery: `span` consecutive fixes of `length` are hidden, never the first nor the last fix."""

    length: int
    span: int
    seed: int = 0
    type = "recover"
    context = 1

    def __post_init__(self) -> None:
        _at_least(self, 1, "span")
        _at_least(self, self.span + 2, "length")

    @property
    def name(self) -> str:
        return f"recover-{self.length}-{self.span}"

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        start = 1 + int(_rng(self.name, self.seed, key).integers(self.length - self.span - 1))
        mask = np.zeros(shape, dtype=bool)
        mask[start : start + self.span] = True
        return mask


@dataclass(frozen=True, repr=False)
class NextPlace:
    """Next-place prediction among all known places: `history` stays are visible, and then `context_stays` recent ones.

    The defaults are those of LLM-Mob (Wang et al. 2023). target_time: whether the time of the next stay is visible.
    context_days: the context reaches so many local days back. least_context: a stay with fewer stays of its part in
    these days is not predicted. gap_days: nor is one in the first so many days of its object in the part.
    """

    history: int = 40
    context_stays: int = 5
    target_time: bool = True
    context_days: int = 7
    gap_days: int = 7
    least_context: int = 3
    type = "next-place"

    def __post_init__(self) -> None:
        _at_least(self, 1, "history", "context_stays", "least_context", unit="stay")
        _at_least(self, 0, "context_days", "gap_days", unit="day")

    @property
    def name(self) -> str:
        name = f"next-place-{self.history}-{self.context_stays}" + ("-timed" if self.target_time else "")
        rule = (self.context_days, self.gap_days, self.least_context)
        return name if rule == (7, 7, 3) else f"{name}-{'-'.join(map(str, rule))}"

    def __repr__(self) -> str:
        """The settings; the later ones only where they are not the defaults, so that hashes of splits stay."""
        later = ("context_days", "gap_days", "least_context")
        shown = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {k: v for k, v in shown.items() if k not in later or v != getattr(NextPlace, k)}
        return f"NextPlace({', '.join(f'{name}={value!r}' for name, value in kept.items())})"

    @property
    def length(self) -> int:
        return self.history + self.context_stays + 1

    @property
    def context(self) -> int:
        return self.length - 1

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        return _last(shape)


@dataclass(frozen=True)
class NextEvent:
    """Next-event prediction of a point pattern: `history` events are visible. asked: the channels to predict."""

    history: int = 20
    asked: tuple[str, ...] = ("gap_h",)
    type = "next-event"

    def __post_init__(self) -> None:
        _at_least(self, 1, "history")
        if not self.asked:
            raise ConfigError(
                "next-event.asked is empty. Name channels of the events: [gap_h] or [gap_h, x, y]."
            )

    @property
    def name(self) -> str:
        return f"next-event-{self.history}-{'-'.join(self.asked)}"

    @property
    def length(self) -> int:
        return self.history + 1

    @property
    def context(self) -> int:
        return self.history

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        return _last(shape)


@dataclass(frozen=True)
class Classify:
    """Classification of a clip, a trajectory or a window of `length` steps (0: of any length); hides no value."""

    length: int = 0
    type = "classify"
    context = 0

    def __post_init__(self) -> None:
        _at_least(self, 0, "length")

    @property
    def name(self) -> str:
        return f"classify-{self.length}"

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        return np.zeros(shape, dtype=bool)


def _draw_entries(
    draw: np.random.Generator, shape: tuple[int, int], share: float, pattern: str, block: int
) -> Bool[np.ndarray, "time node"]:
    """A share of the entries on average: single points, or blocks of `block` steps of a node, which may overlap."""
    time, node = shape
    if pattern == "points":
        return np.asarray(draw.random((time, node)) < share)
    # The number of starts at which blocks, with overlaps and cut ends, cover the share on average.
    chance = 1 - (1 - share) ** (1 / block)
    starts = draw.random((time + block - 1, node)) < chance
    mask = np.zeros((time, node), dtype=bool)
    for back in range(block):
        mask |= starts[block - 1 - back : block - 1 - back + time]
    return mask


def _rng(name: str, seed: int, key: str) -> np.random.Generator:
    """A generator that depends only on the task, its seed and the id of the window."""
    return np.random.default_rng(seed_from(f"{name}\n{seed}\n{key}"))


def _of(target: tuple[str, ...]) -> str:
    """The end of the name of a task that names its targets."""
    return f"-of-{'-'.join(map(slug, target))}" if target else ""


def _last(shape: Shape) -> Bool[np.ndarray, "time node channel"]:
    mask = np.zeros(shape, dtype=bool)
    mask[-1] = True
    return mask


def _at_least(task: Any, least: int, *names: str, unit: str = "step") -> None:
    for name in names:
        if (value := getattr(task, name)) < least:
            amount = f"{least} {unit}{'' if least == 1 else 's'}"
            raise ConfigError(
                f"{task.type}.{name} must be at least {amount}, but it is {value}. Set it in `task`."
            )


def _a_share(task: Any, name: str) -> None:
    if not 0 < getattr(task, name) < 1:
        raise ConfigError(f"{task.type}.{name} must lie between 0 and 1, but it is {getattr(task, name)}.")


def _one_of(task: Any, name: str, known: tuple[str, ...]) -> None:
    if getattr(task, name) not in known:
        raise ConfigError(
            f"{task.type}.{name} has no {getattr(task, name)!r}. {nearest(getattr(task, name), known)}"
        )
