"""Questions about clips with computed answers: of generated clips to train on, of real ones to be examined on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from st2llm import tasks
from st2llm.config.model import Projection
from st2llm.config.training import VideoQuestionRecipe
from st2llm.data import load_data
from st2llm.data.load.moving_shapes import moving_shapes
from st2llm.data.windows import split
from st2llm.data.windows.coverage import container_provenance, coverage_of
from st2llm.data.windows.fitted_on import FittedOn, fitted_on_parts, refuse_overlap
from st2llm.encode.field_batch import FieldBatch
from st2llm.errors import DataError
from st2llm.model import checkpoint
from st2llm.predict.preprocess import Preprocessor
from st2llm.predict.preprocess.fit import fit_preprocessor
from st2llm.serialize.questions import generate_questions
from st2llm.tasks import Task
from st2llm.types import Container, Provenance, Sample, SplitPlan, TrainingWindows


@dataclass(frozen=True)
class QuestionClips:
    """Windows of generated clips. train: rows of questions about them. validation: rows about other clips."""

    samples: TrainingWindows
    task: Task
    train: list[dict[str, Any]]
    validation: list[dict[str, Any]]


def generate_clips(recipe: VideoQuestionRecipe) -> QuestionClips:
    """Generates the clips of a recipe: nine tenths to train on, the others for validation. Calls with the same settings
    return the same object.
    """
    return _generate(recipe.clips, recipe.frames, recipe.seed, recipe.topics, recipe.validation)


@lru_cache(maxsize=1)
def _generate(count: int, length: int, seed: int, topics: tuple[str, ...], validation: int) -> QuestionClips:
    task = tasks.forecast(length, 1)
    samples = _windows(moving_shapes(count, frames=length + 1, seed=seed), task)
    cut = max(1, len(samples) // 10)
    train, held = (question_rows(part, topics) for part in (samples[:-cut], samples[-cut:]))
    return QuestionClips(
        TrainingWindows(samples[:-cut]), task, train, held[:: max(1, len(held) // validation)]
    )


def fit_clip_preprocessor(
    clips: QuestionClips, recipe: VideoQuestionRecipe, *, up: Projection
) -> Preprocessor:
    """The preprocessor fitted on the training clips."""
    return fit_preprocessor(
        clips.samples, clips.task, skip="none", encoder=recipe.encoder, up=up, with_instructions=False
    )


def exam_rows(recipe: VideoQuestionRecipe) -> list[dict[str, Any]]:
    """Questions about evenly spaced windows of the clips of each test data set.

    Raises DataError for a data set without a clip of `frames` frames.
    """
    windows = [window for name in recipe.test for window in _exam_windows(recipe, name, load_data(name))]
    return question_rows(windows, recipe.topics)


def _exam_windows(recipe: VideoQuestionRecipe, name: str, data: Container) -> list[Sample]:
    task = tasks.forecast(recipe.frames, 1)
    clips = [
        replace(clip, split=SplitPlan(1.0, 0.0, 0.0)) for clip in (data if isinstance(data, list) else [data])
    ]
    samples = _windows(clips, task)
    if not samples:
        raise DataError(f"{name} has no clip of {task.length} frames. Lower `frames`.")
    count = min(recipe.windows, len(samples))
    return [samples[i * len(samples) // count] for i in range(count)]


def refuse_exam_clips(recipe: VideoQuestionRecipe, init_from: str) -> None:
    """Raises ConfigError where the checkpoint that a run starts from was fitted on clips of its exam."""
    fitted = checkpoint.checkpoint_fitted_on(checkpoint.read_checkpoint(Path(init_from)))
    for name in recipe.test if fitted.known else ():
        data = load_data(name)
        asked = coverage_of(_exam_windows(recipe, name, data), container_provenance(data), part="test")
        refuse_overlap(fitted, asked, who=f"The checkpoint {init_from} (init_from of {recipe.id})")


def question_rows(samples: Sequence[Sample], topics: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each question of these topics about each sample, with the answer and how an exam scores it."""
    return [
        {
            "id": f"{sample.id}/{question.topic}",
            "sample": sample.id,
            "topic": question.topic,
            "truth": question.answer,
            "options": list(question.options),
            "decimals": question.decimals,
            "within": question.tolerance,
            "window": sample,
            "question": question,
        }
        for sample in samples
        for question in generate_questions(sample)
        if question.topic in topics
    ]


def clips_fitted_on(rows: Sequence[Mapping[str, Any]], init_from: str | None = None) -> FittedOn:
    """What a model is fitted on that is trained on these questions. init_from: the checkpoint that it starts from."""
    own = fitted_on_parts({"train": (row["window"] for row in rows)}, Provenance())
    if init_from is None:
        return own
    return own + checkpoint.checkpoint_fitted_on(checkpoint.read_checkpoint(Path(init_from)))


def collate_clips(preprocessor: Preprocessor, rows: Sequence[dict[str, Any]], *, blind: bool) -> FieldBatch:
    """The windows that questions are about, without the truth; blind: with all values replaced by zeros."""
    batch: FieldBatch = preprocessor.collate(
        [row["window"].without_truth() for row in rows], with_instructions=False
    )
    if not blind:
        return batch
    return replace(
        batch,
        values=torch.zeros_like(batch.values),
        visible=torch.zeros_like(batch.visible),
        features=torch.zeros_like(batch.features),
    )


def _windows(clips: Sequence[Any], task: Task) -> list[Sample]:
    """Windows of clips, one after the other; all clips are in the training part."""
    part = split(list(clips), task, stride=task.length).train
    return [part[i] for i in range(len(part))]
