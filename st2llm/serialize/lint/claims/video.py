"""Claims about video clips."""

import re
from collections.abc import Iterator

import numpy as np

from st2llm.serialize.lint.claims.clause import Claim, Clause, number_claim, word_claim
from st2llm.serialize.text import sequence, statistics
from st2llm.types import Sample

_CUT = re.compile(r"\b(?:cuts?|shot change|scene change)\b")
_NO = re.compile(r"\b(?:no|not|without|never|any)\b|n't\b")
_MOVES = re.compile(
    r"\b(?:mov\w+|go(?:es|ing)|went|pan\w*|slid\w*|travel\w*|walk\w*|runs?|running|drift\w*|direction)\b[^\d]{0,40}?"
    r"\b(left|right|up|down)(?:wards?)?\b"
)
_SIDES = re.compile(r"\b(?:from|on|in|at|of) (?:the )?(?:top |bottom |upper |lower )?(?:left|right)\b(?! to)")
_LIGHT = re.compile(r"\b(brighter|darker|brightens?|darkens?|brightest|darkest)\b")
_WHEN = re.compile(r"\b(start|beginning|end)\b")
_MOST = re.compile(
    r"\bmost (?:of the )?(?:motion|movement|activity)\b|\bmoves most\b|\bmost active\b|"
    r"\bmotion is (?:greatest|strongest|highest)\b"
)


def known_names(sample: Sample) -> list[str]:
    return []


def check(clause: Clause, sample: Sample) -> Iterator[Claim]:
    yield from _cut(clause, sample)
    most = list(_most(clause, sample))
    yield from most
    if not most:
        yield from _direction(clause, sample)
    yield from _light(clause, sample)
    yield from _length(clause, sample)


def _cut(clause: Clause, sample: Sample) -> Iterator[Claim]:
    match = _CUT.search(clause.lowered)
    if match is None:
        return
    cuts = statistics.cut_frames(sample)
    claimed = "no cut" if _NO.search(clause.lowered[: match.start()]) else "a cut"
    number = next(
        (
            n
            for n in clause.numbers
            if n.end < match.start() and len(clause.lowered[n.end : match.start()].split()) < 2
        ),
        None,
    )
    if cuts is None:
        yield Claim(clause.text, "cut", claimed, "uncheckable")
    elif number is not None:
        clause.used.add(number.start)
        yield number_claim(clause, "number of cuts", number, [float(len(cuts))])
    else:
        truth = "a cut" if cuts else "no cut"
        # The negation (no cut) is the claim itself here, so it does not make the clause hedged.
        yield Claim(clause.text, "cut", claimed, "supported" if claimed == truth else "contradicted", truth)


def _direction(clause: Clause, sample: Sample) -> Iterator[Claim]:
    match = _MOVES.search(clause.lowered)
    if match is None:
        return
    across = re.search(r"\b(?:left to|to the) (right)\b|\b(?:right to|to the) (left)\b", clause.lowered)
    claimed = (across.group(1) or across.group(2)) if across else match.group(1)
    moves = statistics.mean_motion(sample)
    unclear = across is None and _SIDES.search(clause.lowered) is not None
    if (
        moves is None
        or not moves.direction
        or statistics.cut_frames(sample)
        or unclear
        or re.search(r"\bthen\b|\bback\b", clause.lowered)
    ):
        yield Claim(clause.text, "direction", claimed, "uncheckable")
        return
    yield word_claim(clause, "direction", claimed, moves.direction)


def _light(clause: Clause, sample: Sample) -> Iterator[Claim]:
    match, light = _LIGHT.search(clause.lowered), statistics.brightness(sample)
    when = _WHEN.search(clause.lowered)
    if match is None or (when is None and not match.group(1).endswith(("ens", "en"))):
        return
    bright = match.group(1).startswith("bright")
    late = when is None or when.group(1) == "end"
    claimed = "brighter at the end" if bright == late else "brighter at the start"
    part = len(light) // 4
    change = float(light[-part:].mean() - light[:part].mean()) if part else 0.0
    truth = None if abs(change) < 2 else "brighter at the end" if change > 0 else "brighter at the start"
    yield word_claim(clause, "brightness", claimed, truth)


def _most(clause: Clause, sample: Sample) -> Iterator[Claim]:
    layout = sample.side.layout
    match = _MOST.search(clause.lowered)
    if match is None or layout is None:
        return
    names = tuple(statistics.place_labels(sample))
    text = (
        clause.lowered.replace("upper", "top")
        .replace("lower", "bottom")
        .replace("middle", "centre")
        .replace("center", "centre")
    )
    claimed = [n for n in names if re.search(rf"\b{re.escape(n)}\b", text)]
    claimed = [n for n in claimed if not any(n != other and n in other for other in claimed)]
    if len(claimed) != 1:
        return
    energy = statistics.motion_energy(sample)
    top = (
        statistics.clear_maximum(energy, margin=0.05 * float(np.nanmax(energy)))
        if np.isfinite(energy).any()
        else None
    )
    yield word_claim(clause, "most motion", claimed[0], None if top is None else names[top])


def _length(clause: Clause, sample: Sample) -> Iterator[Claim]:
    steps = sample.context_steps
    for number in clause.numbers:
        if number.unit == "frames":
            clause.used.add(number.start)
            yield number_claim(clause, "frames", number, [float(len(steps))])
        elif number.unit in ("second", "seconds", "s") and re.search(
            r"\b(?:lasts?|long|duration|clip|length)\b", clause.lowered
        ):
            clause.used.add(number.start)
            time = sequence.seconds(sample)[steps]
            step = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
            span = float(time[-1] - time[0]) if len(time) else 0.0
            yield number_claim(clause, "duration", number, [span, span + step], unit="seconds")
