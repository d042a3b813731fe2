"""Questions about video clips."""

from collections.abc import Iterator

import numpy as np

from st2llm.serialize.questions.question import QuestionAnswer, choice_question, number_question
from st2llm.serialize.text import sequence, statistics
from st2llm.serialize.text.formatting import decimals_showing
from st2llm.types import Sample

DIRECTIONS = ("left", "right", "up", "down")
_BRIGHTER = 2.0


def generate(sample: Sample, draw: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Which region moves most, brighter at start or end, a cut or not, which way things move, how long it is."""
    yield from _most_motion(sample)
    yield from _brighter(sample)
    yield from _cut(sample)
    yield from _direction(sample)
    yield from _duration(sample)


def _most_motion(sample: Sample) -> Iterator[QuestionAnswer]:
    layout, energy = sample.side.layout, statistics.motion_energy(sample)
    if layout is None or len(energy) < 2 or not np.isfinite(energy).any():
        return
    top = statistics.clear_maximum(energy, margin=0.1 * float(np.nanmax(energy)))
    if top is None:
        return
    names = tuple(statistics.place_labels(sample))
    yield choice_question(
        "most-motion",
        "Which region of the picture moves most?",
        names[top],
        names,
        provenance="mean absolute change of luma by region: "
        + ", ".join(f"{name} {value:.4g}" for name, value in zip(names, energy, strict=True)),
    )


def _brighter(sample: Sample) -> Iterator[QuestionAnswer]:
    light = statistics.brightness(sample)
    part = len(light) // 4
    if part < 1:
        return
    start, end = float(light[:part].mean()), float(light[-part:].mean())
    if abs(end - start) < _BRIGHTER:
        return
    yield choice_question(
        "brighter-when",
        "Is the picture brighter at the start or at the end of what is shown?",
        "end" if end > start else "start",
        ("start", "end"),
        provenance=f"mean luma {start:.2f} of the first {part} frames and {end:.2f} of the last {part}",
    )


def _cut(sample: Sample) -> Iterator[QuestionAnswer]:
    cuts = statistics.cut_frames(sample)
    if cuts is None:
        return
    yield choice_question(
        "is-there-a-cut",
        "Is there a cut to another shot in what is shown?",
        "yes" if cuts else "no",
        ("yes", "no"),
        provenance=f"frames whose colours have less than half in common with the frame before: {cuts or 'none'}",
    )


def _direction(sample: Sample) -> Iterator[QuestionAnswer]:
    moves = statistics.mean_motion(sample)
    if moves is None or not moves.direction or statistics.cut_frames(sample):
        return
    yield choice_question(
        "direction",
        "Which way does what moves go on the whole, as the viewer sees it?",
        moves.direction,
        DIRECTIONS,
        provenance=f"block matching: {moves.right:+.2f} pixels right and {moves.down:+.2f} down a frame on average",
    )


def _duration(sample: Sample) -> Iterator[QuestionAnswer]:
    steps = sample.context_steps
    if len(steps) < 2:
        return
    span = sequence.seconds(sample)[steps]
    yield number_question(
        "duration",
        "How much time lies between the first and the last frame shown?",
        float(span[-1] - span[0]),
        decimals=decimals_showing(float(span[-1] - span[0]), least=1),
        unit="seconds",
        provenance="time of the last visible frame less that of the first",
    )
