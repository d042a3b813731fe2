"""Builds trajectories from a card: fixes sorted by object and time, projected to metres, and harmonised."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int32

from st2llm.data import positions, timestamps
from st2llm.data.card.side import PlaceTable
from st2llm.data.card.trajectory import TrajectoryCard, step_milliseconds
from st2llm.data.load import harmonise, provenance
from st2llm.data.load.card_calendar import card_holidays
from st2llm.data.load.fixes import Fixes, resolve_duplicates
from st2llm.data.load.side import joins
from st2llm.data.load.side.documents import DocumentPlaces, read_documents
from st2llm.data.read import sequence_tables
from st2llm.data.read.columns import Categories, ColumnType
from st2llm.data.read.sequence_tables import SequenceTable
from st2llm.display import ContainerList
from st2llm.errors import DataError
from st2llm.types import DAY_S, NO_DOCUMENTS, DocumentSet, Note, Provenance, Trajectory

_FUTURE_S = 366 * DAY_S
"""Seconds after the last fix whose holidays are known, for predictions of the future."""


@dataclass(frozen=True)
class TrajectorySideInformation:
    """Side information of fixes. known: the names of attributes that are known in advance. labels: texts of places."""

    known: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    documents: DocumentSet = NO_DOCUMENTS
    steps: tuple[str, ...] = ()


def build(card: TrajectoryCard, files: dict[str, Path]) -> ContainerList[Trajectory]:
    """The trajectories that a card describes, in order of appearance; `files` maps the names in the card to paths.

    Raises DataError where files do not match the card.
    """
    fixes, read_steps = read_fixes(card, files)
    fixes, harmonise_steps = harmonise.apply(fixes, card.harmonise)
    fixes, joined = _join_side_information(card, files, fixes)
    steps = (*read_steps, *harmonise_steps, *joined.steps)
    source = provenance.provenance_of(card, files, steps)
    return ContainerList(_objects(card, fixes, source, joined))


def read_fixes(card: TrajectoryCard, files: dict[str, Path]) -> tuple[Fixes, tuple[str, ...]]:
    """The fixes of all tables, sorted and projected, before harmonisation, and what was done."""
    texts = sequence_tables.category_columns(
        card, {"object": _column(card), "place": card.place, "label": card.label}
    )
    numbers: dict[str, ColumnType] = dict.fromkeys(card.attributes.values(), "number")
    wanted = {**texts, **positions.coordinate_columns(card), **timestamps.column_types(card.time), **numbers}
    table = sequence_tables.read(card, files, wanted)
    objects, owner = _owners(card, table)
    times = timestamps.read_times(
        card.time,
        table.columns,
        timezone=card.timestamp_zone,
        owner=owner,
        milliseconds=_has_milliseconds(card),
        where=card.name,
    )
    lonlat, xy, kept, position_steps = sequence_tables.read_positions(card, table.columns, times.known)
    all_kept, time_steps = bool(kept.all()), times.steps
    unsorted = Fixes(
        objects=objects,
        owner=owner if all_kept else owner[kept],
        time=times.time if all_kept else times.time[kept],
        unit_s=times.unit_s,
        lonlat=lonlat,
        xy=xy,
        place=table.columns.categories(card.place).at(kept) if card.place else None,
        part=_parts(table)[kept] if _has_parts(table) else None,
        labels=_labels(card, table, owner, len(objects)),
        attributes={name: table.columns.numbers(column)[kept] for name, column in card.attributes.items()},
    )
    del table, owner, times, kept  # millions of rows: free them before they are sorted
    fixes, duplicate_steps = resolve_duplicates(unsorted.sorted().without_empty(), card.duplicates)
    steps = (*time_steps, *position_steps, *duplicate_steps, *_projection_step(card, fixes))
    return _projected(card, fixes), steps


def _join_side_information(
    card: TrajectoryCard, files: dict[str, Path], fixes: Fixes
) -> tuple[Fixes, TrajectorySideInformation]:
    rule, joined = card.side, TrajectorySideInformation(tuple(card.known))
    if rule and rule.weather:
        seconds = (fixes.time * fixes.unit_s).astype(np.int64)
        readings, step = joins.join_weather(
            rule.weather, files[rule.weather.file], seconds, card.timestamp_zone
        )
        fixes = replace(fixes, attributes={**fixes.attributes, **readings})
        known = tuple(readings) if rule.weather.known else ()
        joined = replace(
            joined, known=tuple(dict.fromkeys((*joined.known, *known))), steps=(*joined.steps, step)
        )
    if rule and rule.notes:
        joined = replace(
            joined, notes=joins.read_notes(rule.notes, files[rule.notes.file], card.timestamp_zone)
        )
    if rule and rule.places:
        fixes, labels, step = _join_places(
            rule.places, files[rule.places.file], fixes, fixes.xy if card.x and not card.crs else None
        )
        joined = replace(joined, labels=labels, steps=(*joined.steps, step))
    names = tuple(dict.fromkeys((*fixes.objects, *filter(None, fixes.cut_from or ()))))
    documents, steps = read_documents(rule, files, card.timestamp_zone, DocumentPlaces.of(names))
    return fixes, replace(joined, documents=documents, steps=(*joined.steps, *steps))


def _join_places(
    rule: PlaceTable, path: Path, fixes: Fixes, given_xy: Float64[np.ndarray, "row 2"] | None
) -> tuple[Fixes, dict[str, str], str]:
    """Labels places with the text of the nearest place in a table; fixes without places get it as their place.

    given_xy: x and y of the file, which those of the table are compared with; None where x and y are metres from a
    centre, which is another origin.
    """
    if fixes.place is None:
        nearby = joins.join_nearest_places(rule, path, lonlat=fixes.lonlat, xy=given_xy)
        names = tuple(dict.fromkeys(place.text for place in nearby if place.text))
        code = {name: i for i, name in enumerate(names)}
        codes = np.array([code.get(place.text, -1) for place in nearby], dtype=np.int32)
        count_text = f"{int((codes >= 0).sum())} of {len(codes)} fixes"
        step = f"{count_text} are at a place of {path.name} within {rule.within_m:g} m"
        return replace(fixes, place=Categories(codes, names)), {}, step
    known = fixes.place.codes >= 0
    codes, count = fixes.place.codes[known].astype(np.int64), len(fixes.place.names)
    lonlat = None if fixes.lonlat is None else positions.mean_positions(fixes.lonlat[known], codes, count)
    xy = None if given_xy is None else _means_by_code(codes, given_xy[known], count)
    nearby = joins.join_nearest_places(rule, path, lonlat=lonlat, xy=xy)
    labels = {name: place.text for name, place in zip(fixes.place.names, nearby, strict=True) if place.text}
    return (
        fixes,
        labels,
        f"{len(labels)} of {len(nearby)} places take the text of the nearest place of {path.name}",
    )


def _means_by_code(
    codes: np.ndarray, pair: Float64[np.ndarray, "row 2"], count: int
) -> Float64[np.ndarray, "place 2"]:
    rows = np.maximum(np.bincount(codes, minlength=count), 1)
    return np.column_stack([np.bincount(codes, weights=axis, minlength=count) / rows for axis in pair.T])


def _column(card: TrajectoryCard) -> str | None:
    return None if _is_plt(card) else card.object


def _is_plt(card: TrajectoryCard) -> bool:
    return all(table.name.lower().endswith(".plt") for table in card.table)


def _owners(card: TrajectoryCard, table: SequenceTable) -> tuple[tuple[str, ...], Int32[np.ndarray, " row"]]:
    """The names of the objects, and the object of each row. Tables of different labels do not share objects."""
    if _is_plt(card):
        names = [_object_of_path(file.path, by=card.object or "user") for file in table.files]
        codes = {name: i for i, name in enumerate(dict.fromkeys(names))}
        return tuple(codes), np.array([codes[name] for name in names], dtype=np.int32)[table.file_index]
    if card.object is None:
        ids = Categories(np.zeros(table.columns.rows, dtype=np.int32), ("all",))
    else:
        ids = table.columns.categories(card.object)
        if (ids.codes < 0).any():
            row = int(np.flatnonzero(ids.codes < 0)[0])
            raise DataError(
                f"{card.name}: column {card.object!r} is empty in row {row + 1}. Each fix needs its object."
            )
    labels = tuple(dict.fromkeys(file.table.label for file in table.files))
    if len(labels) == 1:
        return ids.names, ids.codes
    label = np.array([labels.index(file.table.label) for file in table.files], dtype=np.int64)[
        table.file_index
    ]
    pairs, first, owner = np.unique(
        label * len(ids.names) + ids.codes, return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    codes_of_pairs = (divmod(int(pair), len(ids.names)) for pair in pairs[order])
    return tuple(f"{labels[i]}/{ids.names[j]}" for i, j in codes_of_pairs), rank[owner]


def _object_of_path(path: Path, by: str) -> str:
    """The object of a file in GeoLife's folders: <user>/Trajectory/<file>.plt."""
    folder = path.parent.parent if path.parent.name == "Trajectory" else path.parent
    return folder.name if by == "user" else f"{folder.name}/{path.stem}"


def _has_parts(table: SequenceTable) -> bool:
    given = {file.table.part is not None for file in table.files}
    if len(given) > 1:
        raise DataError(
            "Some tables of the card have a `part`, others none. Give it for all of them, or for none."
        )
    return given == {True}


def _parts(table: SequenceTable) -> np.ndarray:
    number = np.array(
        [sequence_tables.PARTS.index(str(file.table.part)) for file in table.files], dtype=np.int8
    )
    return np.asarray(number[table.file_index])


def _labels(
    card: TrajectoryCard, table: SequenceTable, owner: np.ndarray, count: int
) -> tuple[str | None, ...]:
    """The label of each object: of its table, or of its first row. Raises DataError where its rows differ."""
    label: np.ndarray = np.full(count, -1)
    if card.label is not None:
        column = table.columns.categories(card.label)
        label[owner[::-1]] = column.codes[::-1]
        wrong = np.flatnonzero(label[owner] != column.codes)
        if wrong.size:
            raise DataError(
                f"{card.name}: rows of one object differ in {card.label!r}, first row {int(wrong[0]) + 1}. A label "
                "holds for a whole object: name the column under `attributes`, or split the objects."
            )
        return tuple(None if code < 0 else column.names[code] for code in label)
    label[owner[::-1]] = table.file_index[::-1]
    return tuple(None if code < 0 else table.files[code].table.label for code in label)


def _has_milliseconds(card: TrajectoryCard) -> bool:
    return card.freq not in (None, "any") and step_milliseconds(str(card.freq)) % 1000 != 0


def _projected(card: TrajectoryCard, fixes: Fixes) -> Fixes:
    if fixes.lonlat is None or fixes.xy is not None:
        return fixes
    if card.origin == "all":
        return replace(fixes, xy=positions.metres_from(positions.centroid(fixes.lonlat), fixes.lonlat))
    first = fixes.lonlat[fixes.offsets()[:-1]]
    return replace(fixes, xy=positions.metres_from(first[fixes.owner], fixes.lonlat), own_origins=True)


def _projection_step(card: TrajectoryCard, fixes: Fixes) -> tuple[str, ...]:
    if fixes.lonlat is None or fixes.xy is not None:
        return ()
    where = "the centre of all fixes" if card.origin == "all" else "each object's first fix"
    return (f"x and y are metres east and north of {where} (azimuthal equidistant, WGS 84)",)


def _objects(
    card: TrajectoryCard, fixes: Fixes, origin: Provenance, joined: TrajectorySideInformation
) -> list[Trajectory]:
    edges = fixes.offsets()
    first, last = (int(t * fixes.unit_s) for t in (fixes.time.min(), fixes.time.max()))
    days = card_holidays(card, first, last + _FUTURE_S)
    step = _step(card, fixes.unit_s)
    names = None if fixes.place is None else np.array([*fixes.place.names, ""], dtype=object)
    plan, task = card.plan(), dict(card.default_task)
    objects = []
    for i, (begin, end) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        rows = slice(begin, end)
        objects.append(
            Trajectory(
                name=card.name,
                id=fixes.objects[i],
                timezone=card.timezone,
                time=fixes.time[rows],
                xy=None if fixes.xy is None else fixes.xy[rows],
                lonlat=None if fixes.lonlat is None else fixes.lonlat[rows],
                place=None if names is None or fixes.place is None else tuple(names[fixes.place.codes[rows]]),
                attributes={name: values[rows] for name, values in fixes.attributes.items()},
                frame=card.frame,
                label=fixes.labels[i] if fixes.labels else None,
                part=None if fixes.part is None else fixes.part[rows].astype(np.int64),
                split=plan,
                description=card.description,
                quantity=card.quantity if "quantity" in card.model_fields_set else "positions",
                default_task=task,
                provenance=origin,
                known=joined.known,
                place_labels=joined.labels,
                notes=joined.notes,
                documents=joined.documents,
                holidays=days,
                unit_s=fixes.unit_s,
                step=step,
                cut_from=fixes.cut_from[i] if fixes.cut_from else None,
            )
        )
    return objects


def _step(card: TrajectoryCard, unit_s: float) -> int | None:
    """The step between the fixes of a window, in units of time: of `freq`, else of the last resampling."""
    last = next((step.resample.step for step in reversed(card.harmonise) if step.resample), None)
    step = card.freq or last
    if step is None:
        return None
    return 0 if step == "any" else round(step_milliseconds(step) / 1000 / unit_s)
