"""Fits the preprocessor of a task on training samples, and makes the blueprint that its arms are built from."""

from dataclasses import replace
from typing import Any

from st2llm.config.model import EncoderSettings, Projection
from st2llm.encode.extra_features import code_features, place_features
from st2llm.encode.field import FieldShape, edges_of, patch_count
from st2llm.encode.regions import partition_places
from st2llm.encode.sequence import SequenceShape
from st2llm.llm.local import LanguageModel
from st2llm.model.arm import ArmSpec, arm_spec
from st2llm.predict.preprocess import Preprocessor
from st2llm.predict.preprocess.field import FieldPreprocessor, fit_field_preprocessor
from st2llm.predict.preprocess.sequence import SequencePreprocessor, fit_sequence_preprocessor
from st2llm.serialize.template.template import load_prompt
from st2llm.tasks import Task
from st2llm.types import (
    NO_EDGES,
    Sample,
    TrainingWindows,
    ValidationWindows,
    check_training_windows,
    check_validation_windows,
)

SEQUENCE_KINDS = ("trajectory", "event")
"""Kinds of data that are sequences; all others are fields."""


def make_blueprint(
    shape: FieldShape | SequenceShape,
    sample: Sample,
    encoder: EncoderSettings,
    *,
    llm: LanguageModel | None,
    up: Projection,
) -> ArmSpec:
    """The blueprint of arms for samples like this one: sizes, edges, and extra features of places or codes."""
    if isinstance(shape, SequenceShape):
        return arm_spec(
            shape,
            NO_EDGES,
            encoder,
            llm=llm,
            up=up,
            place_features=code_features(sample, encoder.extra_features),
        )
    edges = edges_of(sample)
    places = place_features(sample, edges, encoder.extra_features)
    regions = partition_places(sample, edges, encoder.region_size) if encoder.graph == "regions" else None
    return arm_spec(shape, edges, encoder, llm=llm, up=up, place_features=places, partition=regions)


def soft_token_count(nodes: int, history: int, encoder: EncoderSettings) -> int:
    """Embeddings that an encoder of fields makes: one a place, or one a patch of steps and one for the question."""
    per_place = (
        1 if encoder.tokens == "place" else patch_count(history, encoder.patch, encoder.patch_stride) + 1
    )
    return per_place if encoder.channel_independent else nodes * per_place


def fit_preprocessor(
    train: TrainingWindows,
    task: Task,
    *,
    skip: str,
    encoder: EncoderSettings,
    up: Projection,
    instruction: str | None = None,
    with_instructions: bool,
) -> Preprocessor:
    """Fits the preprocessor that every arm of a comparison uses.

    instruction: id of the template that is read before the soft tokens; None means `<kind>/<task>.soft`.
    with_instructions: whether any arm reads it.
    """
    check_training_windows(train, "A preprocessor")
    first = train[0]
    template = load_prompt(instruction or f"{first.kind}/{first.task}.soft") if with_instructions else None
    tokens = up.tokens if up.head == "resampler" else None
    if first.kind in SEQUENCE_KINDS:
        return fit_sequence_preprocessor(
            train, skip=skip, points=task.context, template=template, slots=tokens
        )
    slots = tokens or soft_token_count(len(first.place), task.context or task.length, encoder)
    return fit_field_preprocessor(
        train,
        skip=skip,
        template=template,
        slots=slots,
        encoder=encoder,
    )


def with_sizes_of(refitted: Preprocessor, first: Preprocessor) -> Preprocessor:
    """A preprocessor that was fitted on more windows, with the sizes of modules of the first: note words and points.

    So modules that were trained with the first, such as a warm encoder, keep their shapes.
    """
    if isinstance(refitted, FieldPreprocessor) and isinstance(first, FieldPreprocessor):
        return replace(refitted, vocabulary=first.vocabulary)
    if isinstance(refitted, SequencePreprocessor) and isinstance(first, SequencePreprocessor):
        sizes = replace(refitted.shape, points=first.shape.points, horizon=first.shape.horizon)
        return replace(refitted, shape=sizes, slots=first.slots)
    return refitted


def collate_for_training(
    preprocessor: Preprocessor, train: TrainingWindows, validation: ValidationWindows
) -> tuple[Any, Any]:
    """The tensors that a module is trained on and those that choose its state, without instructions.

    Raises DataError for windows of another part.
    """
    check_training_windows(train, "A module")
    check_validation_windows(validation, "The state of a module")
    collate = preprocessor.collate
    windows = preprocessor.for_training(collate(train, with_instructions=False))
    return windows, collate(validation, with_instructions=False)
