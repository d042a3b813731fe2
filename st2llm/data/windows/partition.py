"""Which part each fix or event is of: by shares of the time, by whole objects, by label, or as the source says."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int8, Int64

from st2llm.data import calendar
from st2llm.errors import DataError, nearest
from st2llm.types import SplitPlan, Trajectory

PARTS = ("train", "validation", "test")


def part_boundaries(
    plan: SplitPlan, first: int, last: int, timezone: str, unit_s: float = 1.0
) -> tuple[int, int]:
    """The instants at which validation and test begin, of a span that holds both `first` and `last`."""
    found = []
    for share in (plan.train, plan.train + plan.validation):
        at = first + round(round(share, 9) * (last + 1 - first))
        if share > 1 - 1e-9:
            at = last + 1
        elif plan.align == "day":
            at = round(_midnight(int(at * unit_s), timezone) / unit_s)
        found.append(at)
    return found[0], found[1]


def parts_by_time(time: Int64[np.ndarray, " row"], edges: tuple[int, int]) -> Int8[np.ndarray, " row"]:
    """0 before the first edge, 1 before the second, 2 from it on."""
    return np.searchsorted(np.array(edges), time, side="right").astype(np.int8)


def assign_parts(tracks: Sequence[Trajectory]) -> list[Int8[np.ndarray, " row"]]:
    """The part of each fix of each object. Raises DataError where the plan does not fit the data."""
    plan, name = tracks[0].split, tracks[0].name
    if plan.by == "given":
        if any(track.part is None for track in tracks):
            raise DataError(
                f"{name}: the split is `by: given`, but the data say no parts. Give each table a `part`."
            )
        return [np.asarray(track.part).astype(np.int8) for track in tracks]
    if plan.by == "time":
        return _by_time(tracks, plan)
    if plan.by == "object":
        return _by_object(tracks, plan)
    if plan.by == "label":
        return _by_label(tracks, plan)
    known = ("time", "object", "label", "given")
    raise DataError(f"{name}: there is no split by {plan.by!r}. {nearest(plan.by, known)}")


def _by_time(tracks: Sequence[Trajectory], plan: SplitPlan) -> list[Int8[np.ndarray, " row"]]:
    filled = [track.time for track in tracks if len(track.time)]
    if not filled:
        raise DataError(
            f"{tracks[0].name} has no fix at all. Check the file, and the steps under `harmonise`."
        )
    first, last = min(int(time[0]) for time in filled), max(int(time[-1]) for time in filled)
    edges = part_boundaries(plan, first, last, tracks[0].timezone, tracks[0].unit_s)
    return [parts_by_time(track.time, edges) for track in tracks]


def _by_object(tracks: Sequence[Trajectory], plan: SplitPlan) -> list[Int8[np.ndarray, " row"]]:
    _check_held_out(tracks[0].name, plan.held_out, [track.id for track in tracks], "object")
    held = set(plan.held_out)
    free = sorted(
        (track.id for track in tracks if track.id not in held),
        key=lambda one: _shuffle_key(tracks[0].name, one),
    )
    shares = np.cumsum([plan.train, plan.validation]) / (plan.train + plan.validation if held else 1.0)
    edges = np.rint(np.round(shares, 9) * len(free)).astype(int)
    rank = {one: int(np.searchsorted(edges, i, side="right")) for i, one in enumerate(free)}
    return [np.full(len(track.time), rank.get(track.id, 2), dtype=np.int8) for track in tracks]


def _by_label(tracks: Sequence[Trajectory], plan: SplitPlan) -> list[Int8[np.ndarray, " row"]]:
    """Labels that are not held out are cut by time, each by its own span: their clocks may have nothing in common."""
    labels = [track.label or "" for track in tracks]
    _check_held_out(tracks[0].name, plan.held_out, labels, "label")
    edges: dict[str, tuple[int, int]] = {}
    for label in dict.fromkeys(labels):
        times = [track.time for track in tracks if (track.label or "") == label and len(track.time)]
        if times:
            first, last = min(int(t[0]) for t in times), max(int(t[-1]) for t in times)
            edges[label] = part_boundaries(plan, first, last, tracks[0].timezone, tracks[0].unit_s)
    return [
        np.full(len(track.time), 2, dtype=np.int8)
        if label in plan.held_out
        else parts_by_time(track.time, edges[label])
        for track, label in zip(tracks, labels, strict=True)
    ]


def _check_held_out(name: str, held: Sequence[str], known: Sequence[str], what: str) -> None:
    for one in held:
        if one not in known:
            raise DataError(
                f"{name}: `split.test` names the {what} {one!r}. There is none. {nearest(one, set(known))}"
            )


def _shuffle_key(name: str, one: str) -> bytes:
    return hashlib.sha256(f"{name}\n{one}".encode()).digest()


def _midnight(second: int, timezone: str) -> int:
    """The last local midnight at or before an instant (the first moment of the day, where clocks skip midnight)."""
    local = calendar.local_times(np.array([second], dtype=np.int64), timezone)[0]
    start = (
        local.tz_localize(None).normalize().tz_localize(timezone, ambiguous=True, nonexistent="shift_forward")
    )
    return int(start.timestamp())
