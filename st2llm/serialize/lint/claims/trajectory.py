"""Claims about trajectories."""

import re
from collections.abc import Iterator

import numpy as np

from st2llm.serialize.lint.claims.clause import Claim, Clause, number_claim, word_claim
from st2llm.serialize.text import compass, sequence, statistics
from st2llm.types import Sample

_WAY = re.compile(r"\b(?:travel\w*|walk\w*|cover\w*|distance|path|way|route|journey|mov(?:es|ed))\b")
_SPEED = re.compile(r"\b(?:speed)\b")
_LENGTHS = {"m": 1.0, "metre": 1.0, "metres": 1.0, "meter": 1.0, "meters": 1.0, "km": 1e3, "kilometre": 1e3,
            "kilometres": 1e3, "kilometer": 1e3, "kilometers": 1e3}  # fmt: skip
_SPEEDS = {"m/s": 1.0, "km/h": 1 / 3.6}
_MOVES = re.compile(
    r"\b(?:head\w*|mov\w+|travel\w*|walk\w*|go(?:es|ing)|went|drift\w*|track\w*|direction|towards?|leads?)\b[^\d]{0,40}?"
    r"\b((?:north|south)[ -]?(?:east|west)|north|south|east|west)(?:wards?|ern|erly|ward)?\b"
)
_LEGS = re.compile(
    r"\b(?:turn\w*|then|first|initially|finally|later|before|after|back|north of|south of|east of|west of)\b"
)
_PLACES = re.compile(r"\b(?:different|distinct|unique)\s+(?:places|locations)\b")
_FIXES = re.compile(r"\b(?:stays|visits|fixes|positions|points)\b")
_LONGEST = re.compile(r"\b(?:longest|most (?:of (?:the|its) )?time)\b")
_OFTEN = re.compile(r"\b(?:most (?:often|frequent\w*|visited)|visited most)\b")


def known_names(sample: Sample) -> list[str]:
    return list(dict.fromkeys([*statistics.option_texts(sample), *sample.side.options]))


def check(clause: Clause, sample: Sample) -> Iterator[Claim]:
    yield from _distance(clause, sample)
    yield from _direction(clause, sample)
    yield from _counts(clause, sample)
    yield from _places(clause, sample)


def _whole(sample: Sample) -> bool:
    _, steps = statistics.visible_path(sample)
    return len(steps) > 1 and bool((np.diff(steps) == 1).all())


def _distance(clause: Clause, sample: Sample) -> Iterator[Claim]:
    xy, steps = statistics.visible_path(sample)
    metric = compass.is_metric(sample.side.unit)
    for number in clause.numbers:
        factor = _LENGTHS.get(number.unit)
        if factor is not None and _WAY.search(clause.lowered):
            clause.used.add(number.start)
            straight = float(np.linalg.norm(xy[-1] - xy[0])) if len(xy) > 1 else 0.0
            truths = (
                [statistics.path_length(xy) / factor, straight / factor] if metric and _whole(sample) else []
            )
            part = clause.partial_time
            yield number_claim(clause, "distance", number, [] if part else truths, unit=number.unit)
        elif number.unit in _SPEEDS and _SPEED.search(clause.lowered):
            clause.used.add(number.start)
            span = float(np.ptp(sequence.seconds(sample)[steps])) if len(steps) > 1 else 0.0
            mean = (
                [statistics.path_length(xy) / span / _SPEEDS[number.unit]]
                if span and metric and _whole(sample)
                else []
            )
            is_mean = re.search(r"\b(?:averag\w+|mean)\b", clause.lowered) is not None
            yield number_claim(clause, "mean speed", number, mean if is_mean else [], unit=number.unit)


def _direction(clause: Clause, sample: Sample) -> Iterator[Claim]:
    match = _MOVES.search(clause.lowered)
    if match is None:
        return
    claimed = re.sub(r"^(north|south)[ -]?(east|west)$", r"\1-\2", match.group(1))
    xy, _ = statistics.visible_path(sample)
    straight = xy[-1] - xy[0] if len(xy) > 1 else np.zeros(2)
    word = compass.direction(float(straight[0]), float(straight[1]))
    if not word or _LEGS.search(clause.lowered):
        yield Claim(clause.text, "direction", claimed, "uncheckable")
        return
    difference = abs(
        (compass.bearing_deg(float(straight[0]), float(straight[1])) - _bearing(claimed) + 180) % 360 - 180
    )
    # Between 34 and 67 degrees off, a direction is neither clearly right nor clearly wrong.
    clear = difference <= 33.75 or difference > 67.5
    yield word_claim(clause, "direction", claimed, word if clear else None, correct=difference <= 33.75)


def _bearing(word: str) -> float:
    """Degrees clockwise from north."""
    return (90 - 45 * compass.DIRECTIONS.index(word)) % 360


def _counts(clause: Clause, sample: Sample) -> Iterator[Claim]:
    codes, _ = statistics.visible_codes(sample, "place")
    xy, _ = statistics.visible_path(sample)
    for number in clause.numbers:
        after = clause.lowered[number.end : number.end + 24]
        if codes and _PLACES.match(after.strip()):
            clause.used.add(number.start)
            yield number_claim(clause, "different places", number, [float(len(set(codes)))])
        elif (match := _FIXES.match(after.strip())) and number.start not in clause.used:
            clause.used.add(number.start)
            count = float(len(codes) if match.group() in ("stays", "visits") else len(xy))
            part = bool(clause.names) or clause.partial_time
            yield number_claim(
                clause, f"number of {match.group()}", number, [count] if count and not part else []
            )


def _places(clause: Clause, sample: Sample) -> Iterator[Claim]:
    codes, steps = statistics.visible_codes(sample, "place")
    places, minutes = statistics.option_texts(sample), statistics.visible_channel(sample, "duration_min")
    named = {_code(name, sample) for name in clause.names}
    if not codes or len(named) != 1:
        return
    claimed = places[next(iter(named))]
    if _OFTEN.search(clause.lowered):
        yield word_claim(clause, "most visited", claimed, _winner({c: codes.count(c) for c in codes}, places))
    elif _LONGEST.search(clause.lowered) and minutes is not None:
        spent: dict[int, float] = {}
        for code, step in zip(codes, steps.tolist(), strict=True):
            spent[code] = spent.get(code, 0.0) + float(minutes[step])
        single = codes[int(np.nanargmax(minutes[steps]))] if np.isfinite(minutes[steps]).any() else None
        total = _winner(spent, places) if np.isfinite(list(spent.values())).all() else None
        right = total is not None and claimed in (total, places[single] if single is not None else total)
        yield word_claim(clause, "longest at", claimed, total, correct=right)


def _code(name: str, sample: Sample) -> int:
    places = statistics.option_texts(sample)
    return places.index(name) if name in places else sample.side.options.index(name)


def _winner(score: dict[int, float] | dict[int, int], places: tuple[str, ...]) -> str | None:
    order = sorted(score, key=lambda code: -score[code])
    if len(order) > 1 and score[order[0]] == score[order[1]]:
        return None
    return places[order[0]]
