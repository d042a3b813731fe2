"""From training samples and a task to the preprocessor and the shape that every arm is built for."""

from collections.abc import Sequence

from st2llm.config.model import EncoderSettings, Projection
from st2llm.encode.extra_features import codes_of, places_of
from st2llm.encode.field import FieldShape, edges_of
from st2llm.encode.regions import partition_of
from st2llm.encode.sequence import SequenceShape
from st2llm.llm.local import LanguageModel
from st2llm.model.arm import Blueprint, blueprint_of
from st2llm.predict.preprocess.field import FieldPreprocessor, fit_field_preprocessor
from st2llm.predict.preprocess.sequence import SequencePreprocessor, fit_sequence_preprocessor
from st2llm.serialize.template.template import load_prompt
from st2llm.tasks import Task
from st2llm.types import DAY_S, NO_EDGES, Sample


def steps_per_day(sample: Sample) -> int:
    """How many steps a local day has at most; 1 where steps are longer than a day, or of no fixed length."""
    return max(1, DAY_S // sample.side.freq_s) if sample.side.freq_s else 1


def field_shape(sample: Sample, task: Task, preprocessor: FieldPreprocessor) -> FieldShape:
    """What an encoder of fields has to fit for a task like this sample's."""
    context = task.context
    return FieldShape(
        history=context or task.length,
        horizon=task.length - context,
        nodes=len(sample.place),
        channels=sample.values.shape[2],
        steps_per_day=steps_per_day(sample),
        note_words=len(preprocessor.vocabulary.words),
        amid=not context,
        classes=class_count(sample),
    )


def class_count(sample: Sample) -> int:
    """How many classes a sample like this may have; 0 where no class is asked for."""
    return len(sample.side.options) if sample.task == "classify" else 0


def encoder_shape(
    preprocessor: FieldPreprocessor | SequencePreprocessor, sample: Sample, task: Task
) -> FieldShape | SequenceShape:
    """What an encoder has to fit for the question of a task."""
    return (
        preprocessor.shape
        if isinstance(preprocessor, SequencePreprocessor)
        else field_shape(sample, task, preprocessor)
    )


def make_blueprint(
    shape: FieldShape | SequenceShape,
    sample: Sample,
    encoder: EncoderSettings,
    *,
    llm: LanguageModel | None,
    up: Projection,
) -> Blueprint:
    """What an arm for samples like this one is built from: its neighbours, and what is known of its places or codes."""
    if isinstance(shape, SequenceShape):
        return blueprint_of(
            shape, NO_EDGES, encoder, llm=llm, up=up, places=codes_of(sample, encoder.extra_features)
        )
    edges = edges_of(sample)
    places = places_of(sample, edges, encoder.extra_features)
    regions = partition_of(sample, edges, encoder.region_size) if encoder.graph == "regions" else None
    return blueprint_of(shape, edges, encoder, llm=llm, up=up, places=places, partition=regions)


def soft_token_count(nodes: int, history: int, encoder: EncoderSettings) -> int:
    """How many embeddings an encoder of fields makes: one a place, or one a patch of it and one for its question."""
    return nodes * (1 if encoder.tokens == "place" else -(-history // encoder.patch) + 1)


def fit_preprocessor(
    train: Sequence[Sample],
    task: Task,
    *,
    skip: str,
    encoder: EncoderSettings,
    up: Projection,
    instruction: str | None = None,
    with_instructions: bool,
) -> FieldPreprocessor | SequencePreprocessor:
    """Fits the preprocessor that every arm of a comparison uses.

    instruction: id of the template that is read before the soft tokens; None means `<kind>/<task>.soft`.
    with_instructions: whether any arm reads it.
    """
    first = train[0]
    template = load_prompt(instruction or f"{first.kind}/{first.task}.soft") if with_instructions else None
    tokens = up.tokens if up.head == "resampler" else None
    if first.kind in ("trajectory", "event"):
        return fit_sequence_preprocessor(
            train, skip=skip, points=task.context, template=template, slots=tokens
        )
    slots = tokens or soft_token_count(len(first.place), task.context or task.length, encoder)
    return fit_field_preprocessor(
        train,
        skip=skip,
        template=template,
        slots=slots,
        extra_features=encoder.extra_features,
        center_on=encoder.center_on,
    )
