"""Questions with exact answers, computed from the visible part of a sample, for tests and training of models."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from st2llm.errors import DataError, nearest
from st2llm.serialize.questions import event, graph, grid, trajectory, video
from st2llm.serialize.questions.question import QuestionAnswer, choice_question, is_correct, number_question
from st2llm.types import Calendar, Sample, seed_from

__all__ = [
    "TASK",
    "QuestionAnswer",
    "choice_question",
    "generate_questions",
    "is_correct",
    "number_question",
    "question_sample",
]

TASK = "question-answer"

_GENERATORS: Mapping[str, Callable[[Sample, np.random.Generator], Iterator[QuestionAnswer]]] = {
    "graph": graph.generate,
    "grid": grid.generate,
    "video": video.generate,
    "trajectory": trajectory.generate,
    "event": event.generate,
}
_CODE_CHANNELS = ("place", "mark")
_SEQUENCES = ("trajectory", "event")
MAX_PLACES = 12
"""Maximum number of places of a graph that a question keeps: those it names, then others in order."""


def generate_questions(sample: Sample, *, seed: int = 0) -> list[QuestionAnswer]:
    """Generates questions of all topics that have an unambiguous answer in the visible values.

    The places and times that they name are drawn at random; the same sample and seed give the same questions. Topics
    whose answer would be a tie, or would depend on a hidden value, are left out. Raises DataError for an unknown kind.
    """
    if sample.kind not in _GENERATORS:
        raise DataError(f"There are no questions about {sample.kind!r}. {nearest(sample.kind, _GENERATORS)}")
    draw = np.random.default_rng(seed_from(f"questions\n{seed}\n{sample.id}"))
    return list(_GENERATORS[sample.kind](sample.without_truth(), draw))


def question_sample(sample: Sample, question: QuestionAnswer) -> Sample:
    """The sample as a question-answer problem: visible values only, with the question, and the answer as its label.

    Steps after the last visible one are removed, and from a graph with more than MAX_PLACES places those that the
    question does not name, so that a prompt can show the rest. The options of a choice become Side.options, unless the
    values are codes of them (places, marks). Graph and grid templates list the options; for other kinds the text of the
    question does.
    """
    sample = _reduce_places(sample, question)
    end = visible_end(sample)
    visible = sample.visible[:end] & ~sample.wanted[:end]
    side, days = sample.side, sample.side.calendar
    coded = any(name in _CODE_CHANNELS for name in side.channels) and sample.kind in _SEQUENCES
    listed = sample.kind in ("graph", "grid")  # their templates list the options
    return replace(
        sample,
        id=f"{sample.id}/{question.topic}",
        values=np.where(visible, sample.values[:end], np.nan),
        visible=visible,
        wanted=np.zeros_like(visible),
        time=sample.time[:end],
        truth=None,
        label=question.answer,
        question=question.text if listed else question.text_with_options,
        task=TASK,
        side=replace(
            side,
            calendar=Calendar(days.step_of_day[:end], days.day_of_week[:end], days.holiday[:end]),
            options=side.options if coded else question.options,
            option_labels=side.option_labels if coded else (),
            step_lonlat=None if side.step_lonlat is None else side.step_lonlat[:end],
        ),
    )


def _reduce_places(sample: Sample, question: QuestionAnswer) -> Sample:
    """A graph reduced to MAX_PLACES places."""
    if sample.kind != "graph" or len(sample.place) <= MAX_PLACES or not question.places:
        return sample
    named = set(question.places)
    others = [i for i in range(len(sample.place)) if i not in named][: max(0, MAX_PLACES - len(named))]
    kept = sorted([*named, *others])
    moved = {node: i for i, node in enumerate(kept)}
    side = sample.side
    neighbours = tuple(
        tuple((moved[other], weight) for other, weight in side.neighbours[node] if other in moved)
        for node in kept
    )
    return replace(
        sample,
        values=sample.values[:, kept],
        visible=sample.visible[:, kept],
        wanted=sample.wanted[:, kept],
        place=tuple(sample.place[i] for i in kept),
        truth=None,
        side=replace(
            side,
            labels=tuple(side.labels[i] for i in kept),
            neighbours=neighbours,
            lonlat=None if side.lonlat is None else side.lonlat[kept],
            xy=None if side.xy is None else side.xy[kept],
        ),
    )


def visible_end(sample: Sample) -> int:
    """One past the last visible step. Raises DataError where nothing is visible."""
    steps = np.flatnonzero((sample.visible & ~sample.wanted).any(axis=(1, 2)))
    if not steps.size:
        raise DataError(f"Nothing of {sample.id} is visible, so nothing can be asked about it.")
    return int(steps[-1]) + 1
