"""The summary of trajectories."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from st2llm.data import calendar
from st2llm.data.describe import dependence, summary
from st2llm.types import Trajectory

_MOST_STEPS = 50_000


def trajectory_summary(data: Sequence[Trajectory]) -> dict[str, Any]:
    """The summary and dependence of the fixes or stays of many objects."""
    first = data[0]
    fixes = np.array([len(trajectory.time) for trajectory in data])
    steps_s = np.concatenate([np.diff(trajectory.time) for trajectory in data]) * first.unit_s
    values = {
        name: np.concatenate([trajectory.attributes.get(name, np.zeros(0)) for trajectory in data])
        for name in first.attributes
    }
    missing = {name: float((~np.isfinite(v)).mean()) if v.size else 1.0 for name, v in values.items()}
    return {
        "shape": {"object": len(data), "fix": int(fixes.sum())},
        **_span(data),
        "fixes_of_an_object": summary.quartiles(fixes),
        "step_s": summary.quartiles(steps_s),
        "unit": first.frame if first.xy is not None else "",
        "quantity": first.quantity,
        "attributes": {name: summary.spread(v) for name, v in values.items()},
        "missing_share": float(np.mean(list(missing.values()))) if missing else 0.0,
        "missing_worst": {name: share for name, share in missing.items() if share > 0},
        "places": len({place for trajectory in data for place in trajectory.place or ()}) or None,
        "labels": sorted({trajectory.label for trajectory in data if trajectory.label is not None}),
        "dependence": _dependence(data),
    }


def _span(data: Sequence[Trajectory]) -> dict[str, str]:
    first, last = (
        min(int(trajectory.time[0]) for trajectory in data),
        max(int(trajectory.time[-1]) for trajectory in data),
    )
    unit = data[0].unit_s
    if unit != 1.0:  # the clock of a scene may start at any time
        return {"first": f"{first * unit:g} s", "last": f"{last * unit:g} s"}
    return summary.span(first, last, data[0].timezone)


def _dependence(data: Sequence[Trajectory]) -> dict[str, Any]:
    temporal: dict[str, Any] = {}
    spatial: dict[str, Any] = {}
    joint: dict[str, Any] = {}
    if data[0].xy is not None:
        start, step, time, owner = _steps(data)
        # Objects of different labels may be in different scenes, whose coordinates are unrelated.
        scenes = sorted({trajectory.label or "" for trajectory in data})
        scene = np.array([scenes.index(trajectory.label or "") for trajectory in data])
        temporal["step_autocorrelation"] = step_autocorrelation(data)
        spatial["radius_of_gyration_median"] = radius_of_gyration(data)
        spatial["direction_agreement_nearest"] = _agreement(start, step, owner, scene)
        width = float(
            np.median(
                np.concatenate(
                    [np.diff(trajectory.time) for trajectory in data if len(trajectory.time) > 1]
                    or [np.ones(1)]
                )
            )
        )
        joint["direction_agreement_nearest_and_simultaneous"] = _agreement(
            start, step, owner, scene, time=time, within=width
        )
    if data[0].place is not None:
        here, before, hour = _visits(data)
        temporal["bits_from_place_before"] = dependence.mutual_information(
            here[before >= 0], before[before >= 0]
        )
        spatial["place_entropy_bits"] = dependence.entropy(np.unique(here, return_counts=True)[1])
        joint["bits_from_hour_of_day"] = dependence.mutual_information(here, hour)
    return {"temporal": temporal, "spatial": spatial, "joint": joint}


def step_autocorrelation(data: Sequence[Trajectory]) -> float | None:
    """The autocorrelation of steps: sum of products over sum of squares; 1 is a straight line at constant speed."""
    products, square = 0.0, 0.0
    for trajectory in data:
        if trajectory.xy is not None and len(trajectory.xy) > 2:
            step = np.diff(trajectory.xy, axis=0)
            products += float((step[1:] * step[:-1]).sum())
            square += 0.5 * float((step[1:] ** 2).sum() + (step[:-1] ** 2).sum())
    return products / square if square else None


def radius_of_gyration(data: Sequence[Trajectory]) -> float | None:
    """The median over objects of the root mean square distance from their centre, in the unit of xy."""
    radii = [
        float(np.sqrt(((trajectory.xy - trajectory.xy.mean(axis=0)) ** 2).sum(axis=1).mean()))
        for trajectory in data
        if trajectory.xy is not None
    ]
    return float(np.median(radii)) if radii else None


def _steps(
    data: Sequence[Trajectory],
) -> tuple[Float64[np.ndarray, "step 2"], Float64[np.ndarray, "step 2"], np.ndarray, np.ndarray]:
    """The start, displacement, time and object of each step; evenly subsampled where there are very many."""
    starts, steps, times, owners = (
        [np.zeros((0, 2))],
        [np.zeros((0, 2))],
        [np.zeros(0)],
        [np.zeros(0, dtype=np.int64)],
    )
    for i, trajectory in enumerate(data):
        if trajectory.xy is not None and len(trajectory.xy) > 1:
            displacement = np.diff(trajectory.xy, axis=0)
            moved = np.hypot(*displacement.T) > 0
            starts.append(trajectory.xy[:-1][moved])
            steps.append(displacement[moved])
            times.append(trajectory.time[:-1][moved].astype(np.float64))
            owners.append(np.full(int(moved.sum()), i, dtype=np.int64))
    start, step, time, owner = (np.concatenate(x) for x in (starts, steps, times, owners))
    if len(start) > _MOST_STEPS:
        kept = np.linspace(0, len(start) - 1, _MOST_STEPS).round().astype(np.int64)
        start, step, time, owner = start[kept], step[kept], time[kept], owner[kept]
    return start, step, time, owner


def _agreement(
    start: np.ndarray,
    step: np.ndarray,
    owner: np.ndarray,
    scene: np.ndarray,
    *,
    time: np.ndarray | None = None,
    within: float = 0.0,
) -> float | None:
    """The mean cosine between a step and the nearest step of another object of its label.

    scene: the label of each object. time, within: only steps at most `within` apart in time are compared. Steps without
    such a step among their 64 nearest are left out; None where no step is left.
    """
    if len(start) < 2 or len(np.unique(owner)) < 2:
        return None
    _, near = cKDTree(start).query(start, k=min(64, len(start)))
    fits = (owner[near] != owner[:, None]) & (scene[owner][near] == scene[owner][:, None])
    if time is not None:
        fits &= np.abs(time[near] - time[:, None]) <= within
    matched = np.flatnonzero(fits.any(axis=1))
    if not matched.size:
        return None
    other = near[matched, fits[matched].argmax(axis=1)]
    units = step / np.hypot(*step.T)[:, None]
    return float((units[matched] * units[other]).sum(axis=1).mean())


def _visits(data: Sequence[Trajectory]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The code of the place of each stay, the code of the place before it (-1 for none), and the local hour."""
    names = {
        name: code
        for code, name in enumerate(sorted({p for trajectory in data for p in trajectory.place or ()}))
    }
    here, before, hour = [], [], []
    for trajectory in data:
        codes = [names[place] for place in trajectory.place or ()]
        here += codes
        before += [-1, *codes[:-1]]
        local = calendar.local_times(
            (trajectory.time * trajectory.unit_s).astype(np.int64), trajectory.timezone
        )
        hour.append(local.hour.to_numpy()[: len(codes)])
    return (
        np.array(here, dtype=np.int64),
        np.array(before, dtype=np.int64),
        np.concatenate(hour).astype(np.int64),
    )
