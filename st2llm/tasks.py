"""A task is a mask: which entries of a window are hidden, and therefore asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from st2llm.errors import ConfigError, nearest


@runtime_checkable
class Task(Protocol):
    """A mask policy over windows of `length` steps."""

    @property
    def name(self) -> str: ...

    @property
    def length(self) -> int: ...

    @property
    def context(self) -> int:
        """Leading steps that are never asked for."""
        ...

    def hidden(self, shape: tuple[int, int, int]) -> Bool[np.ndarray, "time node channel"]:
        """True where a window of this shape is hidden and asked for."""
        ...


@dataclass(frozen=True)
class Forecast:
    """Hides the suffix: `history` steps are seen, the `horizon` steps after them are asked for."""

    history: int
    horizon: int

    def __post_init__(self) -> None:
        for name in ("history", "horizon"):
            steps = getattr(self, name)
            if steps < 1:
                raise ConfigError(
                    f"forecast.{name} must be at least 1 step, but it is {steps}. Set it in `task`."
                )

    @property
    def name(self) -> str:
        return f"forecast-{self.history}-{self.horizon}"

    @property
    def length(self) -> int:
        return self.history + self.horizon

    @property
    def context(self) -> int:
        return self.history

    def hidden(self, shape: tuple[int, int, int]) -> Bool[np.ndarray, "time node channel"]:
        mask = np.zeros(shape, dtype=bool)
        mask[self.history :] = True
        return mask


def forecast(history: int, horizon: int) -> Forecast:
    """Forecasting: see `history` steps, be asked for the next `horizon` steps at every place."""
    return Forecast(history, horizon)


_TASKS = {"forecast": Forecast}


def from_config(spec: Mapping[str, Mapping[str, Any]]) -> list[Forecast]:
    """Reads `{forecast: {history: 12, horizon: 12}}`; a list of horizons gives a task for each.

    Raises ConfigError for an unknown task or setting, with the nearest name.
    """
    found = []
    for name, settings in spec.items():
        if name not in _TASKS:
            raise ConfigError(f"There is no task {name!r}. {nearest(name, _TASKS)}")
        unknown = set(settings) - {"history", "horizon"}
        if unknown:
            key = sorted(unknown)[0]
            raise ConfigError(f"task.{name} has no setting {key!r}. {nearest(key, ['history', 'horizon'])}")
        missing = {"history", "horizon"} - set(settings)
        if missing:
            raise ConfigError(
                f"task.{name} needs {sorted(missing)[0]!r}: {{history: 168, horizon: 24}}, in steps."
            )
        horizons = settings["horizon"]
        for horizon in horizons if isinstance(horizons, list) else [horizons]:
            found.append(_TASKS[name](int(settings["history"]), int(horizon)))
    return found
