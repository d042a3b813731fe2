"""Questions about clips with computed answers: of made clips to learn from, of real ones to be examined on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from st2llm import tasks
from st2llm.config.model import Projection
from st2llm.config.training import VideoQuestionRecipe
from st2llm.data import load_data
from st2llm.data.load.moving_shapes import moving_shapes
from st2llm.data.windows import split
from st2llm.encode.field_batch import FieldBatch
from st2llm.errors import DataError
from st2llm.predict.preprocess.field import FieldPreprocessor
from st2llm.predict.preprocess.fit import fit_preprocessor
from st2llm.serialize.questions import generate_questions
from st2llm.tasks import Task
from st2llm.types import Sample, SplitPlan


@dataclass(frozen=True)
class QuestionClips:
    """Windows of made clips to learn from, and rows of questions about these and, of other clips, to choose by."""

    samples: tuple[Sample, ...]
    task: Task
    train: list[dict[str, Any]]
    validation: list[dict[str, Any]]


def generate_clips(recipe: VideoQuestionRecipe) -> QuestionClips:
    """Nine tenths of the made clips are learned from, the others choose the best state. A run's twin gets the same."""
    return _generate(recipe.clips, recipe.frames, recipe.seed, recipe.topics, recipe.validation)


@lru_cache(maxsize=1)
def _generate(count: int, length: int, seed: int, topics: tuple[str, ...], validation: int) -> QuestionClips:
    task = tasks.forecast(length, 1)
    samples = _windows(moving_shapes(count, frames=length + 1, seed=seed), task)
    cut = max(1, len(samples) // 10)
    train, held = (question_rows(part, topics) for part in (samples[:-cut], samples[-cut:]))
    return QuestionClips(tuple(samples[:-cut]), task, train, held[:: max(1, len(held) // validation)])


def fit_clip_preprocessor(
    clips: QuestionClips, recipe: VideoQuestionRecipe, *, up: Projection
) -> FieldPreprocessor:
    """What is fitted on the clips that are learned from."""
    preprocessor = fit_preprocessor(
        clips.samples, clips.task, skip="none", encoder=recipe.encoder, up=up, with_instructions=False
    )
    if not isinstance(preprocessor, FieldPreprocessor):
        raise DataError("Clips are fields, but the preprocessor is of sequences.")
    return preprocessor


def exam_rows(recipe: VideoQuestionRecipe) -> list[dict[str, Any]]:
    """Questions about evenly spaced windows of each test data set's clips. Raises DataError where there is none."""
    task, found = tasks.forecast(recipe.frames, 1), []
    for name in recipe.test:
        data = load_data(name)
        clips = [
            replace(clip, split=SplitPlan(1.0, 0.0, 0.0))
            for clip in (data if isinstance(data, list) else [data])
        ]
        samples = _windows(clips, task)
        if not samples:
            raise DataError(f"{name} has no clip of {task.length} frames. Lower `frames`.")
        count = min(recipe.windows, len(samples))
        chosen = [samples[i * len(samples) // count] for i in range(count)]
        found += question_rows(chosen, recipe.topics)
    return found


def question_rows(samples: Sequence[Sample], topics: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each question of these topics about each sample, with what an exam marks it by."""
    return [
        {
            "id": f"{sample.id}/{one.topic}",
            "sample": sample.id,
            "topic": one.topic,
            "truth": one.answer,
            "options": list(one.options),
            "decimals": one.decimals,
            "within": one.within,
            "window": sample,
            "question": one,
        }
        for sample in samples
        for one in generate_questions(sample)
        if one.topic in topics
    ]


def collate_clips(
    preprocessor: FieldPreprocessor, rows: Sequence[dict[str, Any]], *, blind: bool
) -> FieldBatch:
    """The windows that questions are about, without the truth; blind: with nothing seen of them."""
    batch = preprocessor.collate([row["window"].without_truth() for row in rows], with_instructions=False)
    if not blind:
        return batch
    return replace(
        batch,
        values=torch.zeros_like(batch.values),
        visible=torch.zeros_like(batch.visible),
        features=torch.zeros_like(batch.features),
    )


def _windows(clips: Sequence[Any], task: Task) -> list[Sample]:
    """Windows of clips that are all of one part, one after the other."""
    part = split(list(clips), task, stride=task.length).train
    return [part[i] for i in range(len(part))]
