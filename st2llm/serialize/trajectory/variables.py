"""Template variables of the fixes of a moving object: positions, speeds and directions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.text import cells, compass, sequence
from st2llm.serialize.text.cells import NOWHERE
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.text.sequence import ItemList, TextItem
from st2llm.serialize.trajectory.answer import PositionNotation, visible_positions
from st2llm.types import Sample

MOVEMENT_VARIABLES: Mapping[str, str] = {
    "object": "name of the moving object",
    "step": "time between two fixes, as it follows 'every'; '' where it varies",
    "fixes": "number of visible fixes",
    "history": "the visible fixes, oldest first, each with .line, .label (moment), .numbers (east,north), .away "
    "(displacement from the last visible fix: 120 m north-east), .came (from the previous fix), .speed, .heading, "
    ".square, .geohash, .hexagon (where there are degrees), .place, .attributes",
    "track": "the numbers of all fixes in one row, in the form of the answer",
    "before": "the part of the track before the first target step",
    "after": "the part of the track after it",
    "number_unit": "unit of the numbers: metres, kilometres",
    "number_step": "the value of a difference of one, where it is not one unit; else ''",
    "number_note": "a sentence that explains the numbers; '' for plain numbers",
    "number_base": "reference of the positions: the last visible fix before the target",
    "number_form": "'positions' relative to the reference, or 'steps' from fix to fix",
    "moved": "length of the visible path: 340 m",
    "displaced": "displacement from the first visible fix to the last before the target: 120 m north-east",
    "speed": "speed at the last visible fix before the target: 1.2 m/s",
    "mean_speed": "mean speed over all visible fixes",
    "heading": "direction of the last movement: north-east",
    "turning": "turn between its last two steps: straight on, 40 degrees to the left",
    "squares": "legend of the map squares; '' where no position is known",
    "missing": "whether a missing position is shown as x",
}
MODELLED_CHANNELS = ("x", "y", "place")


@dataclass(frozen=True)
class FixItem:
    """One fix as text; '' for what is unknown."""

    step: int
    steps_away: int
    label: str
    numbers: str = ""
    away: str = ""
    came: str = ""
    speed: str = ""
    heading: str = ""
    square: str = ""
    lonlat: tuple[float, float] = NOWHERE
    place: str = ""
    attributes: str = ""

    @property
    def geohash(self) -> str:
        return cells.geohash(*self.lonlat)

    @property
    def hexagon(self) -> str:
        return cells.hexagon(*self.lonlat)

    @property
    def line(self) -> str:
        """`Tue 11 Jun 09:00: 120 m west, 1.2 m/s north-east`."""
        going = f"{self.speed} {self.heading}".strip()
        away = self.away if self.away not in ("", "0 m") else "here" if self.away else "position unknown"
        parts = [away, going, f"at {self.place}" if self.place else "", self.attributes]
        return f"{self.label}: {', '.join(part for part in parts if part)}"

    def __str__(self) -> str:
        return self.line


def movement_variables(sample: Sample, notation: PositionNotation, across: int) -> dict[str, Any]:
    """The values of MOVEMENT_VARIABLES. across: number of map squares along the longer side."""
    steps, origin = sample.context_steps.tolist(), sample.first_wanted_step
    xy, time = visible_positions(sample), sequence.seconds(sample)
    finite = [step for step in steps if np.isfinite(xy[step]).all()]
    before = [step for step in finite if step < origin]
    numbers = number_row(sample, notation)
    displacements = np.diff(xy[finite], axis=0)
    unit = sample.side.unit
    path = float(np.hypot(displacements[:, 0], displacements[:, 1]).sum())
    spent = float(time[finite[-1]] - time[finite[0]])
    return {
        "object": sequence.object_name(sample),
        "step": sequence.step_phrase(sample),
        "fixes": len(finite),
        "history": ItemList(tuple(_fix_items(sample, notation, across))),
        "track": numbers,
        "before": ItemList(tuple(item for item in numbers if item.step < origin), numbers.separator),
        "after": ItemList(
            tuple(item for item in numbers if item.step > origin), numbers.separator, min_items=1
        ),
        "number_unit": notation.unit,
        "number_step": notation.step_phrase,
        "number_note": notation.numbers.note,
        "number_base": f"the {'last fix seen before the question' if before else 'first fix seen'}",
        "number_form": "steps" if notation.steps else "positions",
        "moved": compass.format_distance(path, unit),
        "displaced": compass.format_displacement(*(xy[before[-1]] - xy[before[0]]).tolist(), unit=unit)
        if before
        else "",
        "mean_speed": compass.format_speed(path, spent, unit),
        "squares": cells.MapSquares.fit(xy[finite], across, unit).legend,
        "missing": len(finite) < len(steps),
        **_last_movement(xy, time, before, unit),
    }


def empty_movement_variables() -> dict[str, Any]:
    """The values of MOVEMENT_VARIABLES where no position is known."""
    values = dict.fromkeys(MOVEMENT_VARIABLES, "")
    return {
        **values,
        "fixes": 0,
        "missing": False,
        **{name: ItemList(()) for name in ("history", "track", "before", "after")},
    }


def number_row(sample: Sample, notation: PositionNotation) -> ItemList:
    """The numbers of all visible fixes; in steps, the first fix has none."""
    steps, xy = sample.context_steps.tolist(), visible_positions(sample)
    labels, steps_away = sequence.time_labels(sample), sequence.steps_from_target(sample, steps)
    finite = [step for step in steps if np.isfinite(xy[step]).all()]
    first = (float(xy[finite[0]][0]), float(xy[finite[0]][1]))
    texts = notation.write(xy[steps], first)
    items = [
        TextItem(step, distance, labels[step], text)
        for step, distance, text in zip(steps, steps_away, texts, strict=True)
    ]
    return ItemList(
        tuple(item for item in items if not (notation.steps and item.step == finite[0])), notation.separator
    )


def _fix_items(sample: Sample, notation: PositionNotation, across: int) -> list[FixItem]:
    steps, xy, time = sample.context_steps.tolist(), visible_positions(sample), sequence.seconds(sample)
    labels, unit = sequence.time_labels(sample), sample.side.unit
    squares = cells.MapSquares.fit(xy[steps], across, unit)
    places, codes = sample.side.options, sequence.channel_values(sample, "place")
    base = np.array(notation.base)
    fixes, last = [], None
    for step, distance in zip(steps, sequence.steps_from_target(sample, steps), strict=True):
        position = xy[step]
        finite = bool(np.isfinite(position).all())
        displacement = position - xy[last] if last is not None else np.full(2, np.nan)
        elapsed = float(time[step] - time[last]) if last is not None else 0.0
        fixes.append(
            FixItem(
                step,
                distance,
                labels[step],
                numbers=notation.write_position(position),
                away=compass.format_displacement(*(position - base).tolist(), unit=unit),
                came=compass.format_displacement(*displacement.tolist(), unit=unit),
                speed=compass.format_speed(float(np.hypot(*displacement)), elapsed, unit),
                heading=compass.direction(*displacement.tolist()),
                square=squares.name(*position.tolist()),
                lonlat=cells.step_lonlat(sample, step) if finite else NOWHERE,
                place=plain_text(places[int(codes[step])]) if np.isfinite(codes[step]) else "",
                attributes=sequence.attribute_text(sample, step, MODELLED_CHANNELS),
            )
        )
        last = step if finite else last
    return fixes


def _last_movement(
    xy: Float64[np.ndarray, "time 2"], time: Float64[np.ndarray, " time"], before: list[int], unit: str
) -> dict[str, str]:
    """Speed, heading and turn at the last visible fix before the target."""
    if len(before) < 2:
        return {"speed": "", "heading": "", "turning": ""}
    a, b = before[-2:]
    displacement = xy[b] - xy[a]
    turning = ""
    if len(before) > 2:
        turning = compass.format_turn(
            compass.bearing_deg(*(xy[a] - xy[before[-3]]).tolist()),
            compass.bearing_deg(*displacement.tolist()),
        )
    return {
        "speed": compass.format_speed(float(np.hypot(*displacement)), float(time[b] - time[a]), unit),
        "heading": compass.direction(*displacement.tolist()),
        "turning": turning,
    }
