"""A trajectory card and its files to trajectories: sorted by object and time, projected, harmonised, joined."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int32

from st2llm.data import positions, timestamps
from st2llm.data.card.side import PlaceTable
from st2llm.data.card.trajectory import TrajectoryCard, step_milliseconds
from st2llm.data.load import fixes as fix
from st2llm.data.load import harmonise, provenance, side_information
from st2llm.data.load.fixes import Fixes
from st2llm.data.read import sequence_tables
from st2llm.data.read.columns import Categories, ColumnType
from st2llm.data.read.sequence_tables import SequenceTable
from st2llm.errors import DataError
from st2llm.types import Note, Provenance, Trajectory


@dataclass(frozen=True)
class TrajectorySideInformation:
    """What is known beside the fixes. names: attributes known in advance. labels: words of places."""

    names: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    steps: tuple[str, ...] = ()


def build(card: TrajectoryCard, files: dict[str, Path]) -> list[Trajectory]:
    """The trajectories that a card describes, objects in order of appearance; `files` maps the card's names to paths.

    Raises DataError where files do not hold what the card says.
    """
    found, steps = read_fixes(card, files)
    found, done = harmonise.apply(found, card.harmonise)
    found, joined = _join_side_information(card, files, found)
    return _objects(
        card, found, provenance.provenance_of(card, files, (*steps, *done, *joined.steps)), joined
    )


def read_fixes(card: TrajectoryCard, files: dict[str, Path]) -> tuple[Fixes, tuple[str, ...]]:
    """The fixes of all tables, sorted and projected, before harmonisation, and what was done."""
    named = sequence_tables.category_columns(
        card, {"object": _column(card), "place": card.place, "label": card.label}
    )
    numbers: dict[str, ColumnType] = dict.fromkeys(card.attributes.values(), "number")
    wanted = {**named, **positions.coordinate_columns(card), **timestamps.column_types(card.time), **numbers}
    rows = sequence_tables.read(card, files, wanted)
    objects, owner = _owners(card, rows)
    times = timestamps.read_times(
        card.time,
        rows.table,
        timezone=card.timezone,
        owner=owner,
        milliseconds=_has_milliseconds(card),
        where=card.name,
    )
    lonlat, xy, kept, placed = sequence_tables.read_positions(card, rows.table, times.known)
    everything, done = bool(kept.all()), times.steps
    loose = Fixes(
        objects=objects,
        owner=owner if everything else owner[kept],
        time=times.time if everything else times.time[kept],
        unit_s=times.unit_s,
        lonlat=lonlat,
        xy=xy,
        place=rows.table.categories(card.place).at(kept) if card.place else None,
        part=_parts(rows)[kept] if _has_parts(rows) else None,
        labels=_labels(card, rows, owner, len(objects)),
        attributes={name: rows.table.numbers(column)[kept] for name, column in card.attributes.items()},
    )
    del rows, owner, times, kept
    single, spread = fix.resolve_duplicates(loose.sorted().without_empty(), card.duplicates)
    return _projected(card, single), (*done, *placed, *spread, *_projection_step(card, single))


def _join_side_information(
    card: TrajectoryCard, files: dict[str, Path], found: Fixes
) -> tuple[Fixes, TrajectorySideInformation]:
    rule, joined = card.side, TrajectorySideInformation(tuple(card.known))
    if rule and rule.weather:
        when = (found.time * found.unit_s).astype(np.int64)
        read, said = side_information.join_weather(
            rule.weather, files[rule.weather.file], when, card.timezone
        )
        found = replace(found, attributes={**found.attributes, **read})
        known = tuple(read) if rule.weather.known else ()
        joined = replace(
            joined, names=tuple(dict.fromkeys((*joined.names, *known))), steps=(*joined.steps, said)
        )
    if rule and rule.notes:
        joined = replace(
            joined, notes=side_information.read_notes(rule.notes, files[rule.notes.file], card.timezone)
        )
    if rule and rule.places:
        found, labels, said = _join_places(rule.places, files[rule.places.file], found)
        joined = replace(joined, labels=labels, steps=(*joined.steps, said))
    return found, joined


def _join_places(rule: PlaceTable, path: Path, found: Fixes) -> tuple[Fixes, dict[str, str], str]:
    """Places take the words of the nearest in a table; fixes without places take that itself as their place."""
    if found.place is None:
        spots = side_information.join_nearest_places(rule, path, lonlat=found.lonlat, xy=found.xy)
        names = tuple(dict.fromkeys(spot.text for spot in spots if spot.text))
        code = {name: i for i, name in enumerate(names)}
        codes = np.array([code.get(spot.text, -1) for spot in spots], dtype=np.int32)
        near = f"{int((codes >= 0).sum())} of {len(codes)} fixes"
        told = f"{near} are at a place of {path.name} within {rule.within_m:g} m"
        return replace(found, place=Categories(codes, names)), {}, told
    there = found.place.codes >= 0
    count = np.maximum(np.bincount(found.place.codes[there], minlength=len(found.place.names)), 1)[:, None]
    middle = [
        None if pair is None else _sums_by_code(found.place.codes[there], pair[there], len(count)) / count
        for pair in (found.lonlat, found.xy)
    ]
    spots = side_information.join_nearest_places(rule, path, lonlat=middle[0], xy=middle[1])
    labels = {name: spot.text for name, spot in zip(found.place.names, spots, strict=True) if spot.text}
    return found, labels, f"{len(labels)} of {len(spots)} places take the words of the nearest of {path.name}"


def _sums_by_code(
    codes: np.ndarray, pair: Float64[np.ndarray, "row 2"], count: int
) -> Float64[np.ndarray, "place 2"]:
    return np.column_stack([np.bincount(codes, weights=pair[:, axis], minlength=count) for axis in (0, 1)])


def _column(card: TrajectoryCard) -> str | None:
    return None if _is_plt(card) else card.object


def _is_plt(card: TrajectoryCard) -> bool:
    return all(table.name.lower().endswith(".plt") for table in card.table)


def _owners(card: TrajectoryCard, rows: SequenceTable) -> tuple[tuple[str, ...], Int32[np.ndarray, " row"]]:
    """The names of the objects, and which object each row is of; tables of different labels share no object."""
    if _is_plt(card):
        said = [_object_of_path(one.path, by=card.object or "user") for one in rows.sources]
        codes = {name: i for i, name in enumerate(dict.fromkeys(said))}
        return tuple(codes), np.array([codes[name] for name in said], dtype=np.int32)[rows.source]
    if card.object is None:
        inner = Categories(np.zeros(rows.table.rows, dtype=np.int32), ("all",))
    else:
        inner = rows.table.categories(card.object)
        if (inner.codes < 0).any():
            row = int(np.flatnonzero(inner.codes < 0)[0])
            raise DataError(
                f"{card.name}: column {card.object!r} is empty in row {row + 1}. Each fix has an object."
            )
    scenes = tuple(dict.fromkeys(one.table.label for one in rows.sources))
    if len(scenes) == 1:
        return inner.names, inner.codes
    scene = np.array([scenes.index(one.table.label) for one in rows.sources], dtype=np.int64)[rows.source]
    pairs, first, owner = np.unique(
        scene * len(inner.names) + inner.codes, return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    names = (divmod(int(pair), len(inner.names)) for pair in pairs[order])
    return tuple(f"{scenes[s]}/{inner.names[o]}" for s, o in names), rank[owner]


def _object_of_path(path: Path, by: str) -> str:
    """GeoLife's folders: <user>/Trajectory/<file>.plt."""
    folder = path.parent.parent if path.parent.name == "Trajectory" else path.parent
    return folder.name if by == "user" else f"{folder.name}/{path.stem}"


def _has_parts(rows: SequenceTable) -> bool:
    given = {one.table.part is not None for one in rows.sources}
    if len(given) > 1:
        raise DataError(
            "Some tables of the card have a `part`, others none. Give it for all of them, or for none."
        )
    return given == {True}


def _parts(rows: SequenceTable) -> np.ndarray:
    number = np.array(
        [sequence_tables.PARTS.index(str(one.table.part)) for one in rows.sources], dtype=np.int8
    )
    return np.asarray(number[rows.source])


def _labels(
    card: TrajectoryCard, rows: SequenceTable, owner: np.ndarray, count: int
) -> tuple[str | None, ...]:
    """The label of each object: that of its table, or of its first row. Raises DataError where rows contradict it."""
    found: np.ndarray = np.full(count, -1)
    if card.label is not None:
        column = rows.table.categories(card.label)
        found[owner[::-1]] = column.codes[::-1]
        wrong = np.flatnonzero(found[owner] != column.codes)
        if wrong.size:
            raise DataError(
                f"{card.name}: rows of one object differ in {card.label!r}, first row {int(wrong[0]) + 1}. A label is "
                "of the whole object: name it under `attributes`, or cut the objects."
            )
        return tuple(None if code < 0 else column.names[code] for code in found)
    found[owner[::-1]] = rows.source[::-1]
    return tuple(None if code < 0 else rows.sources[code].table.label for code in found)


def _has_milliseconds(card: TrajectoryCard) -> bool:
    return card.freq not in (None, "any") and step_milliseconds(str(card.freq)) % 1000 != 0


def _projected(card: TrajectoryCard, found: Fixes) -> Fixes:
    if found.lonlat is None or found.xy is not None:
        return found
    if card.origin == "all":
        return replace(found, xy=positions.metres_from(positions.centroid(found.lonlat), found.lonlat))
    first = found.lonlat[found.offsets()[:-1]]
    return replace(found, xy=positions.metres_from(first[found.owner], found.lonlat))


def _projection_step(card: TrajectoryCard, found: Fixes) -> tuple[str, ...]:
    if found.lonlat is None or found.xy is not None:
        return ()
    where = "the centre of all fixes" if card.origin == "all" else "each object's first fix"
    return (f"x and y are metres east and north of {where} (azimuthal equidistant, WGS 84)",)


def _objects(
    card: TrajectoryCard, found: Fixes, made: Provenance, joined: TrajectorySideInformation
) -> list[Trajectory]:
    edges = found.offsets()
    days = sequence_tables.card_holidays(
        card, *(int(t * found.unit_s) for t in (found.time.min(), found.time.max()))
    )
    step = _step(card, found.unit_s)
    names = None if found.place is None else np.array([*found.place.names, ""], dtype=object)
    plan, task = card.plan(), dict(card.default_task)
    objects = []
    for i, (begin, end) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        rows = slice(begin, end)
        objects.append(
            Trajectory(
                name=card.name,
                id=found.objects[i],
                timezone=card.timezone,
                time=found.time[rows],
                xy=None if found.xy is None else found.xy[rows],
                lonlat=None if found.lonlat is None else found.lonlat[rows],
                place=None if names is None or found.place is None else tuple(names[found.place.codes[rows]]),
                attributes={name: values[rows] for name, values in found.attributes.items()},
                frame=card.frame,
                label=found.labels[i] if found.labels else None,
                part=None if found.part is None else found.part[rows].astype(np.int64),
                split=plan,
                description=card.description,
                quantity=card.quantity if "quantity" in card.model_fields_set else "positions",
                default_task=task,
                provenance=made,
                known=joined.names,
                place_labels=joined.labels,
                notes=joined.notes,
                holidays=days,
                unit_s=found.unit_s,
                step=step,
            )
        )
    return objects


def _step(card: TrajectoryCard, unit_s: float) -> int | None:
    """The step that windows must keep, in units of time: that of `freq`, else of the last resampling."""
    last = next((step.resample.step for step in reversed(card.harmonise) if step.resample), None)
    said = card.freq or last
    if said is None:
        return None
    return 0 if said == "any" else round(step_milliseconds(said) / 1000 / unit_s)
