"""A task is a mask: which entries of a window are hidden, and therefore asked for."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool

from st2llm.errors import ConfigError, nearest
from st2llm.types import seed_from

Shape = tuple[int, int, int]


@runtime_checkable
class Task(Protocol):
    """A mask policy over windows of `length` steps."""

    @property
    def word(self) -> str:
        """What templates and suites call it: forecast, impute, next-place, ..."""
        ...

    @property
    def name(self) -> str:
        """The word and its settings, for files: forecast-168-24."""
        ...

    @property
    def length(self) -> int: ...

    @property
    def context(self) -> int:
        """Leading steps that are never asked for."""
        ...

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        """True where a window of this shape is hidden. key: names the window, so that random masks are its own."""
        ...


@dataclass(frozen=True)
class Forecast:
    """Hides the suffix: `history` steps are seen, the `horizon` steps after them are asked for."""

    history: int
    horizon: int
    word = "forecast"

    def __post_init__(self) -> None:
        _at_least(self, 1, "history", "horizon")

    @property
    def name(self) -> str:
        return f"forecast-{self.history}-{self.horizon}"

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


@dataclass(frozen=True)
class Impute:
    """Hides a share of the entries: single `points`, or `blocks` of `block` steps at one node."""

    length: int
    share: float = 0.25
    pattern: Literal["points", "blocks"] = "points"
    block: int = 6
    seed: int = 0
    word = "impute"
    context = 0

    def __post_init__(self) -> None:
        _at_least(self, 2, "length")
        _at_least(self, 1, "block")
        _a_share(self, "share")
        _one_of(self, "pattern", ("points", "blocks"))

    @property
    def name(self) -> str:
        return f"impute-{self.length}-{self.pattern}-{self.share:g}"

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        draw = _rng(self.name, self.seed, key)
        time, node, channel = shape
        if self.pattern == "points":
            mask = draw.random((time, node)) < self.share
        else:
            # So many starts that the blocks, overlaps and cut ends counted, cover the share on average.
            chance = 1 - (1 - self.share) ** (1 / self.block)
            starts = draw.random((time + self.block - 1, node)) < chance
            mask = np.zeros((time, node), dtype=bool)
            for back in range(self.block):
                mask |= starts[self.block - 1 - back : self.block - 1 - back + time]
        if not mask.any():
            mask[int(draw.integers(time)), int(draw.integers(node))] = True
        return np.repeat(mask[:, :, None], channel, axis=2)


@dataclass(frozen=True)
class Interpolate:
    """Shows every `every`-th step of a window, the first among them, and asks for those between."""

    length: int
    every: int = 4
    word = "interpolate"
    context = 0

    def __post_init__(self) -> None:
        _at_least(self, 3, "length")
        _at_least(self, 2, "every")

    @property
    def name(self) -> str:
        return f"interpolate-{self.length}-{self.every}"

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        mask = np.ones(shape, dtype=bool)
        mask[:: self.every] = False
        return mask


@dataclass(frozen=True)
class Krige:
    """Hides whole places: a share of the nodes, at least one, over all steps of the window."""

    length: int
    share: float = 0.25
    seed: int = 0
    word = "krige"
    context = 0

    def __post_init__(self) -> None:
        _at_least(self, 1, "length")
        _a_share(self, "share")

    @property
    def name(self) -> str:
        return f"krige-{self.length}-{self.share:g}"

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        node = shape[1]
        count = min(max(1, round(self.share * node)), max(1, node - 1))
        mask = np.zeros(shape, dtype=bool)
        mask[:, _rng(self.name, self.seed, key).permutation(node)[:count]] = True
        return mask


@dataclass(frozen=True)
class Recover:
    """Hides a span of `span` fixes within a trajectory of `length`; never the first nor the last fix."""

    length: int
    span: int
    seed: int = 0
    word = "recover"
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


@dataclass(frozen=True)
class NextPlace:
    """Asks where an object is next, of all known places: `history` stays are seen, the last `context_stays` of them
    as the context of the question (LLM-Mob, Wang et al. 2023). target_time: whether the time of the stay is told."""

    history: int = 40
    context_stays: int = 5
    target_time: bool = True
    word = "next-place"

    def __post_init__(self) -> None:
        _at_least(self, 1, "history", "context_stays")

    @property
    def name(self) -> str:
        return f"next-place-{self.history}-{self.context_stays}" + ("-timed" if self.target_time else "")

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
    """Asks for the next event of a point pattern: `history` events are seen. asked: channels that are scored."""

    history: int = 20
    asked: tuple[str, ...] = ("gap_h",)
    word = "next-event"

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
    """Asks for the label of a whole clip, trajectory or window of `length` steps (0: all there is); hides no value."""

    length: int = 0
    word = "classify"
    context = 0

    def __post_init__(self) -> None:
        _at_least(self, 0, "length")

    @property
    def name(self) -> str:
        return f"classify-{self.length}"

    def hidden(self, shape: Shape, key: str = "") -> Bool[np.ndarray, "time node channel"]:
        return np.zeros(shape, dtype=bool)


def forecast(history: int, horizon: int) -> Forecast:
    """Forecasting: see `history` steps, be asked for the next `horizon` steps at every place."""
    return Forecast(history, horizon)


def impute(length: int, share: float = 0.25, *, pattern: Literal["points", "blocks"] = "points") -> Impute:
    """Imputation: a share of the entries of each window, points or blocks, is hidden and asked for."""
    return Impute(length, share, pattern)


def interpolate(length: int, every: int = 4) -> Interpolate:
    """Interpolation: every `every`-th step is seen, those between are asked for."""
    return Interpolate(length, every)


def krige(length: int, share: float = 0.25) -> Krige:
    """Kriging: whole places are hidden and asked for."""
    return Krige(length, share)


def recover(length: int, span: int) -> Recover:
    """Recovery: a span of a trajectory is hidden and asked for."""
    return Recover(length, span)


def next_place(history: int = 40, context_stays: int = 5, *, target_time: bool = True) -> NextPlace:
    """Next place: which of all known places an object visits next."""
    return NextPlace(history, context_stays, target_time)


def next_event(history: int = 20, asked: tuple[str, ...] = ("gap_h",)) -> NextEvent:
    """Next event: when (and where) the next event of a point pattern happens."""
    return NextEvent(history, asked)


def classify(length: int = 0) -> Classify:
    """Classification of whole clips, trajectories or windows."""
    return Classify(length)


TASKS: Mapping[str, type[Task]] = {
    "forecast": Forecast,
    "impute": Impute,
    "interpolate": Interpolate,
    "krige": Krige,
    "recover": Recover,
    "next-place": NextPlace,
    "next-event": NextEvent,
    "classify": Classify,
}


def from_config(spec: Mapping[str, Mapping[str, Any]]) -> list[Task]:
    """Reads `{forecast: {history: 12, horizon: 12}}`; a list of horizons gives a task for each.

    Raises ConfigError for an unknown task or setting, with the nearest name.
    """
    found: list[Task] = []
    for name, settings in spec.items():
        if name not in TASKS:
            raise ConfigError(f"There is no task {name!r}. {nearest(name, TASKS)}")
        made = TASKS[name]
        known = {f.name: f for f in fields(made)}  # type: ignore[arg-type]
        for key in sorted(set(settings) - set(known)):
            raise ConfigError(f"task.{name} has no setting {key!r}. {nearest(key, known)}")
        for key, setting in known.items():
            if key not in settings and setting.default is MISSING:
                raise ConfigError(f"task.{name} needs {key!r}, for instance {_EXAMPLES[name]}.")
        horizons = settings.get("horizon")
        for one in horizons if isinstance(horizons, list) else [horizons]:
            values = {**settings, **({"horizon": one} if "horizon" in settings else {})}
            found.append(
                made(**{key: _cast(name, known[key].type, key, value) for key, value in values.items()})
            )
    return found


_EXAMPLES = {
    "forecast": "{history: 168, horizon: 24}, in steps",
    "impute": "{length: 48, share: 0.25, pattern: blocks}",
    "interpolate": "{length: 48, every: 4}",
    "krige": "{length: 24, share: 0.25}",
    "recover": "{length: 20, span: 6}",
}


def _cast(task: str, sort: object, key: str, value: Any) -> Any:
    """A setting from YAML in the type of its field. Raises ConfigError."""
    try:
        if sort is int and not isinstance(value, bool) and int(value) == value:
            return int(value)
        if sort is float and not isinstance(value, bool):
            return float(value)
        if (sort is bool and isinstance(value, bool)) or (isinstance(value, str) and value in get_args(sort)):
            return value
        if sort == tuple[str, ...] and isinstance(value, list | tuple):
            return tuple(map(str, value))
    except (TypeError, ValueError):
        pass
    wanted = (
        " or ".join(map(repr, get_args(sort))) if sort not in (int, float, bool, tuple[str, ...]) else sort
    )
    said = wanted.__name__ if isinstance(wanted, type) else str(wanted)
    raise ConfigError(f"task.{task}.{key} should be {said}, but it is {value!r}.")


def _rng(name: str, seed: int, key: str) -> np.random.Generator:
    """The same mask for the same window, on every machine and in every order."""
    return np.random.default_rng(seed_from(f"{name}\n{seed}\n{key}"))


def _last(shape: Shape) -> Bool[np.ndarray, "time node channel"]:
    mask = np.zeros(shape, dtype=bool)
    mask[-1] = True
    return mask


def _at_least(task: Any, least: int, *names: str) -> None:
    for name in names:
        if (steps := getattr(task, name)) < least:
            step = f"{least} step{'' if least == 1 else 's'}"
            raise ConfigError(
                f"{task.word}.{name} must be at least {step}, but it is {steps}. Set it in `task`."
            )


def _a_share(task: Any, name: str) -> None:
    if not 0 < getattr(task, name) < 1:
        raise ConfigError(f"{task.word}.{name} must lie between 0 and 1, but it is {getattr(task, name)}.")


def _one_of(task: Any, name: str, known: tuple[str, ...]) -> None:
    if getattr(task, name) not in known:
        raise ConfigError(
            f"{task.word}.{name} has no {getattr(task, name)!r}. {nearest(getattr(task, name), known)}"
        )
