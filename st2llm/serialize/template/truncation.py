"""What goes to save tokens where lines of numbers are shown: neighbours from the lightest on, history from the oldest.

Each generator changes the words in place, and yields what went.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from st2llm.serialize.numbers import MISSING
from st2llm.serialize.text.series import HIDDEN, Block


def drop_neighbours(left: dict[str, Any]) -> Iterator[str]:
    """Neighbours with all their lines, the last first; one stays for a place of which no history is shown."""
    kept = 0 if "history" in left else 1
    names = list(dict.fromkeys(line.start for line in left.get("neighbours", ())))
    while len(names) > kept:
        gone = names.pop()
        left["neighbours"] = tuple(line for line in left["neighbours"] if line.start != gone)
        yield f"neighbour {gone}"


def drop_history(left: dict[str, Any]) -> Iterator[str]:
    """Lines that begin at the same moment together, the oldest first; the newest stay, and those with an entry that is
    asked for."""
    starts = list(dict.fromkeys(line.start for line in left.get("history", ())))
    for start in starts[:-1]:
        gone = [line for line in left["history"] if line.start == start]
        if any(HIDDEN in line.numbers for line in gone):
            continue
        left["history"] = tuple(line for line in left["history"] if line.start != start)
        left["history_start"] = left["history"][0].start
        yield f"history of {gone[0].label if len(gone) == 1 else start}"


def drop_extra_readings(left: dict[str, Any]) -> Iterator[str]:
    """Readings beside the data, last first: those of the past, then those known in advance."""
    for name, when in (("beside", "past"), ("ahead", "coming")):
        while left.get(name):
            line, left[name] = left[name][-1], left[name][:-1]
            yield f"{when} {line.label}"


def with_missing_flag(words: Mapping[str, Any]) -> dict[str, Any]:
    """The words as they are left, with `missing` as it is now."""
    return dict(words) | {"missing": has_missing(words)}


def has_missing(words: Mapping[str, Any]) -> bool:
    """Whether an x for a missing value is shown in any line of numbers, alone or in a block."""
    rows = [line for name in ("history", "neighbours", "day") for line in words.get(name, ())]
    blocks = [block for name in ("table", "named") for block in words.get(name, ())]
    rows += [line for block in blocks if isinstance(block, Block) for line in block.lines]
    return any(MISSING in line.numbers for line in rows)
