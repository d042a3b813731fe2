"""Assigns fixes and events to train, validation and test: by time, by object, by label, or as given by the source."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int8, Int64

from st2llm.data import calendar
from st2llm.errors import DataError, nearest
from st2llm.types import Events, SplitPlan, Trajectory

PARTS = ("train", "validation", "test")


def part_boundaries(
    plan: SplitPlan, first: int, last: int, timezone: str, unit_s: float = 1.0
) -> tuple[int, int]:
    """The times at which validation and test begin, where the data span `first` to `last` (both included)."""
    boundaries = []
    for share in (plan.train, plan.train + plan.validation):
        at = first + round(round(share, 9) * (last + 1 - first))
        if share > 1 - 1e-9:
            at = last + 1
        elif plan.align == "day":
            at = round(_midnight(int(at * unit_s), timezone) / unit_s)
        boundaries.append(at)
    return boundaries[0], boundaries[1]


def parts_by_time(time: Int64[np.ndarray, " row"], boundaries: tuple[int, int]) -> Int8[np.ndarray, " row"]:
    """0 before the first boundary, 1 before the second, 2 from the second on."""
    return np.searchsorted(np.array(boundaries), time, side="right").astype(np.int8)


def assign_parts(trajectories: Sequence[Trajectory]) -> list[Int8[np.ndarray, " row"]]:
    """The part of each fix of each object: 0 train, 1 validation, 2 test.

    Raises DataError where the split plan does not fit the data.
    """
    plan, name = trajectories[0].split, trajectories[0].name
    if plan.by == "given":
        if any(trajectory.part is None for trajectory in trajectories):
            raise DataError(
                f"{name}: the split is `by: given`, but the data give no parts. Give each table a `part`."
            )
        return [np.asarray(trajectory.part).astype(np.int8) for trajectory in trajectories]
    if plan.by == "time":
        return _by_time(trajectories, plan)
    if plan.by == "object":
        return _by_object(trajectories, plan)
    if plan.by == "label":
        return _by_label(trajectories, plan)
    known = ("time", "object", "label", "given")
    raise DataError(f"{name}: there is no split by {plan.by!r}. {nearest(plan.by, known)}")


def assign_event_parts(data: Events) -> Int8[np.ndarray, " event"]:
    """The part of each event. Raises DataError where the split plan does not fit events."""
    plan = data.split
    if plan.by == "object" and data.object is not None:
        part = parts_by_object(data.name, data.objects, plan)
        return np.asarray(np.array([part[id] for id in data.objects], dtype=np.int8)[data.object])
    if plan.by != "time":
        raise DataError(
            f"{data.name}: events can only be split by time{'' if data.object is None else ' or by object'}, not by "
            f"{plan.by!r}. Correct `split`, or name the column of `object` in the card."
        )
    return parts_by_time(data.time, part_boundaries(plan, data.window[0], data.window[1], data.timezone))


def _by_time(trajectories: Sequence[Trajectory], plan: SplitPlan) -> list[Int8[np.ndarray, " row"]]:
    filled = [trajectory.time for trajectory in trajectories if len(trajectory.time)]
    if not filled:
        raise DataError(
            f"{trajectories[0].name} has no fix at all. Check the file, and the steps under `harmonise`."
        )
    first, last = min(int(time[0]) for time in filled), max(int(time[-1]) for time in filled)
    edges = part_boundaries(plan, first, last, trajectories[0].timezone, trajectories[0].unit_s)
    return [parts_by_time(trajectory.time, edges) for trajectory in trajectories]


def _by_object(trajectories: Sequence[Trajectory], plan: SplitPlan) -> list[Int8[np.ndarray, " row"]]:
    """All parts of an object that harmonisation cut into several go where the whole object goes."""
    part = parts_by_object(trajectories[0].name, [trajectory.whole_id for trajectory in trajectories], plan)
    return [
        np.full(len(trajectory.time), part[trajectory.whole_id], dtype=np.int8) for trajectory in trajectories
    ]


def parts_by_object(name: str, ids: Sequence[str], plan: SplitPlan) -> dict[str, int]:
    """The part of each object by its id, in an order that depends on the ids and the name of the data set alone.

    Raises DataError where the plan holds out an object that does not exist.
    """
    _check_held_out(name, plan.held_out, ids, "object")
    held = set(plan.held_out)
    free = sorted(set(ids) - held, key=lambda id: shuffle_key(name, id))
    shares = np.cumsum([plan.train, plan.validation]) / (plan.train + plan.validation if held else 1.0)
    edges = np.rint(np.round(shares, 9) * len(free)).astype(int)
    part = {id: int(np.searchsorted(edges, i, side="right")) for i, id in enumerate(free)}
    return part | dict.fromkeys(held, 2)


def _by_label(trajectories: Sequence[Trajectory], plan: SplitPlan) -> list[Int8[np.ndarray, " row"]]:
    """Labels that are not held out are split by time, each over its own span, since their clocks may be unrelated."""
    labels = [trajectory.label or "" for trajectory in trajectories]
    _check_held_out(trajectories[0].name, plan.held_out, labels, "label")
    edges: dict[str, tuple[int, int]] = {}
    for label in dict.fromkeys(labels):
        times = [
            trajectory.time
            for trajectory in trajectories
            if (trajectory.label or "") == label and len(trajectory.time)
        ]
        if times:
            first, last = min(int(t[0]) for t in times), max(int(t[-1]) for t in times)
            edges[label] = part_boundaries(
                plan, first, last, trajectories[0].timezone, trajectories[0].unit_s
            )
    return [
        np.full(len(trajectory.time), 2, dtype=np.int8)
        if label in plan.held_out
        else parts_by_time(trajectory.time, edges[label])
        for trajectory, label in zip(trajectories, labels, strict=True)
    ]


def _check_held_out(name: str, held_out: Sequence[str], known: Sequence[str], kind: str) -> None:
    for item in held_out:
        if item not in known:
            raise DataError(
                f"{name}: `split.test` names the {kind} {item!r}, which does not exist. {nearest(item, set(known))}"
            )


def shuffle_key(name: str, id: str) -> bytes:
    """Orders objects or clips by a hash of the data set's name and their id."""
    return hashlib.sha256(f"{name}\n{id}".encode()).digest()


def _midnight(second: int, timezone: str) -> int:
    """The last local midnight at or before an instant (the first moment of the day, where clocks skip midnight)."""
    local = calendar.local_times(np.array([second], dtype=np.int64), timezone)[0]
    start = (
        local.tz_localize(None).normalize().tz_localize(timezone, ambiguous=True, nonexistent="shift_forward")
    )
    return int(start.timestamp())
