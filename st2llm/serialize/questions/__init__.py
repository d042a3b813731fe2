"""Questions with exact answers, computed from what a sample shows: to test models with, and to teach them."""

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
"""Places of a graph that a question keeps: those it names, and others in their order."""


def generate_questions(sample: Sample, *, seed: int = 0) -> list[QuestionAnswer]:
    """Questions of all topics that what is visible answers beyond doubt; which places and times they name is drawn.

    The same sample and seed give the same questions, whatever else is asked. What is hidden plays no part: a topic
    whose answer would be a tie, or hang on a hidden value, is left out.
    """
    if sample.kind not in _GENERATORS:
        raise DataError(f"There are no questions about {sample.kind!r}. {nearest(sample.kind, _GENERATORS)}")
    draw = np.random.default_rng(seed_from(f"questions\n{seed}\n{sample.id}"))
    return list(_GENERATORS[sample.kind](sample.without_truth(), draw))


def question_sample(sample: Sample, question: QuestionAnswer) -> Sample:
    """The sample as a problem of its own: only what is visible is left, the question is asked, the label is its answer.

    Steps after the last visible one are cut off, and of a graph with more than MOST_PLACES places those that the
    question does not name, so that a prompt can show all that is left. The options of a choice become Side.options,
    but where the values hold codes that count through them (places, marks). Graph and grid templates list the
    options; of other kinds the question does so itself.
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
    """A graph without the places that are too many."""
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
    """Where the steps end of which anything is visible. Raises DataError where nothing is."""
    steps = np.flatnonzero((sample.visible & ~sample.wanted).any(axis=(1, 2)))
    if not steps.size:
        raise DataError(f"Nothing of {sample.id} is visible, so nothing can be asked about it.")
    return int(steps[-1]) + 1
