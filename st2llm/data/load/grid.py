"""Builds a Grid from a card: regular UTC steps, NaN where a cell has no reading."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from st2llm.data.card import GridCard, file_and_key
from st2llm.data.card.channels import field_quantity, field_unit
from st2llm.data.load import provenance
from st2llm.data.load.card_calendar import field_calendar
from st2llm.data.load.regular_steps import RegularStep
from st2llm.data.load.side.documents import DocumentPlaces
from st2llm.data.load.side.joins import FieldPositions, field_side_information
from st2llm.data.read import rasters
from st2llm.data.read.local_time import check_increasing
from st2llm.data.read.rasters import Raster
from st2llm.data.windows.nodes import cell_centres, mesh
from st2llm.errors import DataError
from st2llm.types import Channel, Grid, Layout, units_differ

Values = Float64[np.ndarray, "time row col channel"]


def build(card: GridCard, files: dict[str, Path]) -> Grid:
    """The grid that a card describes; `files` maps the names in the card to paths.

    Raises DataError where files do not match the card.
    """
    raster, join_steps = _concatenate_in_time(
        card, [rasters.read_raster(card, part, files[file_and_key(part)[0]]) for part in card.parts]
    )
    step = RegularStep(card.name, card.freq, card.freq_s, card.timestamp_zone)
    values, missing_steps = _mark_missing(card, raster.values)
    if raster.time is None:
        time = step.from_start(step.first(card.start, ", ".join(card.parts)), len(values))
        time_steps: list[str] = []
    else:
        check_increasing(raster.time, card.timestamp_zone, ", ".join(card.parts))
        time, values, time_steps = step.regular(raster.time, values)
    values, rows, cols, coarsen_steps = _coarsen(card, values, raster)
    if not np.isfinite(values).any():
        raise DataError(
            f"{card.name}: no cell has a reading at any time. Correct `null`, `outside` or `subset`."
        )
    channels = _channels(card, raster, values)
    details = card.channel_details or _details_of_file(card, raster, channels)
    layout = Layout(rows, cols, raster.space)
    lonlat, _ = cell_centres(layout)
    xy = mesh(layout.cols, layout.rows) if layout.unit == "metres" else None
    side = field_side_information(
        card.side,
        files,
        time,
        card.timestamp_zone,
        FieldPositions(lonlat, xy, DocumentPlaces.of(layout.ids)),
    )
    return Grid(
        name=card.name,
        unit=field_unit(card, details, "".join(raster.units[:1])),
        timezone=card.timezone,
        freq_s=card.freq_s,
        values=values,
        time=time,
        layout=layout,
        channels=channels,
        calendar=field_calendar(card, time, card.freq_s),
        split=card.plan(),
        description=card.description,
        quantity=field_quantity(card, details),
        default_task=dict(card.default_task),
        provenance=provenance.provenance_of(
            card,
            files,
            (
                *join_steps,
                *_projection_step(raster, layout),
                *_subset_step(card, raster),
                *(
                    f"{count:,} values of {reason} count as missing"
                    for reason, count in raster.missing.items()
                ),
                *missing_steps,
                *time_steps,
                *coarsen_steps,
                *side.steps,
            ),
        ),
        notes=side.notes,
        covariates=side.readings,
        place_texts=side.place_texts,
        documents=side.documents,
        channel_details=details,
    )


def _channels(card: GridCard, raster: Raster, values: Values) -> tuple[str, ...]:
    """The names of the channels: of the card, else of the file. Raises DataError for a wrong number of names."""
    channels = tuple(card.channels or raster.names or ("value",))
    if len(channels) != values.shape[3]:
        raise DataError(
            f"{card.name}: `channels` names {len(channels)}, but the values have {values.shape[3]}."
        )
    return channels


def _details_of_file(card: GridCard, raster: Raster, channels: tuple[str, ...]) -> tuple[Channel, ...]:
    """The channels with the units that the file states, where these differ and the card states none; else none."""
    if card.unit or len(raster.units) != len(channels):
        return ()
    details = tuple(Channel(name, unit) for name, unit in zip(channels, raster.units, strict=True))
    return details if units_differ(details) and any(raster.units) else ()


def _concatenate_in_time(card: GridCard, parts: list[Raster]) -> tuple[Raster, list[str]]:
    """Rasters of one set of cells, one after the other in time. Raises DataError where their cells differ."""
    first = parts[0]
    for name, part in zip(card.parts, parts, strict=True):
        same = part.values.shape[1:] == first.values.shape[1:] and part.space == first.space
        if not same or not (np.allclose(part.rows, first.rows) and np.allclose(part.cols, first.cols)):
            raise DataError(
                f"{card.name}: {name} has cells of shape {part.values.shape[1:]}, and {card.parts[0]} of "
                f"{first.values.shape[1:]}, or their coordinates differ. Only files with the same cells are "
                "concatenated."
            )
    if len(parts) == 1:
        return first, []
    times = [part.time for part in parts if part.time is not None]
    if times and len(times) < len(parts):
        raise DataError(f"{card.name}: some of the files have times, some have none. Name files of one form.")
    time = np.concatenate(times) if times else None
    steps = [
        f"concatenated {len(parts)} files in time: {', '.join(str(len(part.values)) for part in parts)} steps"
    ]
    missing: Counter[str] = Counter()
    for part in parts:
        missing.update(part.missing)
    values = np.concatenate([part.values for part in parts])
    return replace(first, time=time, values=values, missing=missing), steps


def _projection_step(raster: Raster, layout: Layout) -> list[str]:
    told = {"cells": "numbers of cells", "metres": "metres of its plane"}.get(layout.unit)
    if not raster.projection or told is None:
        return []
    return [
        f"rows and columns are coordinates of {raster.projection}, not degrees north and east: told as {told}"
    ]


def _subset_step(card: GridCard, raster: Raster) -> list[str]:
    limits = card.subset.model_dump(exclude_none=True) if card.subset else {}
    window = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in limits.items())
    return [f"kept {len(raster.rows)} x {len(raster.cols)} cells: {window}"] if window else []


def _mark_missing(card: GridCard, values: Values) -> tuple[Values, list[str]]:
    """NaN for the card's `null`, and for cells `outside` the region."""
    steps = []
    null = np.zeros(values.shape, dtype=bool) if card.null is None else values == card.null
    if null.any():
        steps.append(f"{int(null.sum())} readings of {card.null:g} count as missing")
        values = np.where(null, np.nan, values)
    if card.outside is not None:
        beyond = ((values == card.outside) | np.isnan(values)).all(axis=(0, 3))
        steps.append(
            f"{int(beyond.sum())} cells that hold {card.outside:g} at all times lie outside and have no reading"
        )
        values = np.where(beyond[None, :, :, None], np.nan, values)
    return values, steps


def _coarsen(
    card: GridCard, values: Values, raster: Raster
) -> tuple[
    Float64[np.ndarray, "time down right channel"],
    Float64[np.ndarray, " down"],
    Float64[np.ndarray, " right"],
    list[str],
]:
    """Means over blocks of cells that have a reading; cells beyond the last full block are left out."""
    rule = card.coarsen
    if rule is None or (rule.rows, rule.cols) == (1, 1):
        return values, raster.rows, raster.cols, []
    down, right = values.shape[1] // rule.rows, values.shape[2] // rule.cols
    if not down or not right:
        raise DataError(
            f"{card.name}: `coarsen` makes cells of {rule.rows} x {rule.cols}, but there are only "
            f"{values.shape[1]} x {values.shape[2]}."
        )
    cut = values[:, : down * rule.rows, : right * rule.cols]
    blocks = cut.reshape(len(values), down, rule.rows, right, rule.cols, -1)
    present = np.isfinite(blocks)
    count = present.sum(axis=(2, 4))
    total = np.where(present, blocks, 0.0).sum(axis=(2, 4))
    means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    rows = raster.rows[: down * rule.rows].reshape(down, -1).mean(axis=1)
    cols = raster.cols[: right * rule.cols].reshape(right, -1).mean(axis=1)
    return (
        means,
        rows,
        cols,
        [f"averaged blocks of {rule.rows} x {rule.cols} cells, over the cells with a reading"],
    )
