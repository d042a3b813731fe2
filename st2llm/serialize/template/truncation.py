"""Truncation of lines of numbers: neighbours from the smallest weight on, history from the oldest line on.

Each generator changes the variables in place and yields the name of what it dropped.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from st2llm.serialize.numbers import MISSING
from st2llm.serialize.text.series import HIDDEN, Block


def drop_neighbours(left: dict[str, Any]) -> Iterator[str]:
    """Drops neighbours, each with all its lines, the last first; keeps one for a place without history."""
    kept = 0 if "history" in left else 1
    names = list(dict.fromkeys(line.start for line in left.get("neighbours", ())))
    while len(names) > kept:
        dropped = names.pop()
        left["neighbours"] = tuple(line for line in left["neighbours"] if line.start != dropped)
        yield f"neighbour {dropped}"


def drop_history(left: dict[str, Any]) -> Iterator[str]:
    """Drops history, the oldest first; lines that start at the same time go together.

    The newest lines and those with a target entry stay.
    """
    starts = list(dict.fromkeys(line.start for line in left.get("history", ())))
    for start in starts[:-1]:
        dropped = [line for line in left["history"] if line.start == start]
        if any(HIDDEN in line.numbers for line in dropped):
            continue
        left["history"] = tuple(line for line in left["history"] if line.start != start)
        left["history_start"] = left["history"][0].start
        yield f"history of {dropped[0].label if len(dropped) == 1 else start}"


def drop_extra_readings(left: dict[str, Any]) -> Iterator[str]:
    """Drops lines of the additional data (covariates), the last first: past values, then values known in advance."""
    for name, when in (("beside", "past"), ("ahead", "coming")):
        while left.get(name):
            line, left[name] = left[name][-1], left[name][:-1]
            yield f"{when} {line.label}"


def with_missing_flag(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables, with `missing` recomputed."""
    return dict(variables) | {"missing": has_missing(variables)}


def has_missing(variables: Mapping[str, Any]) -> bool:
    """Whether any line of numbers shows an x for a missing value."""
    rows = [line for name in ("history", "neighbours", "day") for line in variables.get(name, ())]
    blocks = [block for name in ("table", "named") for block in variables.get(name, ())]
    rows += [line for block in blocks if isinstance(block, Block) for line in block.lines]
    return any(MISSING in line.numbers for line in rows)
