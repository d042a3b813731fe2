"""A checkpoint that answers: what `st2llm pretrain` trained, as one more predictor."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from st2llm.config.model import LLMSettings, Projection
from st2llm.config.training import DiffusionSettings, PretrainRecipe, SoftTokenRecipe
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.data.windows.splits import Splits
from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import NoteVocabulary
from st2llm.encode.point_batch import PointScaler
from st2llm.encode.scaler import Scaler
from st2llm.encode.sequence import SequenceShape
from st2llm.errors import ConfigError, DataError
from st2llm.llm import load_llm
from st2llm.llm.local import LanguageModel, require_local
from st2llm.model import checkpoint
from st2llm.model.arm import Arm, build
from st2llm.model.objectives.noise_schedule import Schedule
from st2llm.model.pretraining import Denoiser, Sequenced, Windowed
from st2llm.predict.arm import predict_in_batches
from st2llm.predict.baselines import BaselinePredictor
from st2llm.predict.baselines.fields import LastValue
from st2llm.predict.baselines.slots import HeldOutSlotMean, SlotMean
from st2llm.predict.preprocess.field import FieldPreprocessor, fit_field_preprocessor
from st2llm.predict.preprocess.fit import class_count, make_blueprint, soft_token_count, steps_per_day
from st2llm.predict.preprocess.sequence import SKIPS, SequencePreprocessor, fit_sequence_preprocessor
from st2llm.predict.retrieval import predict_from_neighbours
from st2llm.serialize.template.template import Template, load_prompt
from st2llm.types import Prediction, Sample

_BATCH = 32
AnyRecipe = PretrainRecipe | SoftTokenRecipe


def fit_pretraining_preprocessor(
    recipe: PretrainRecipe, train: Sequence[Sample]
) -> FieldPreprocessor | SequencePreprocessor:
    """What training samples say of scales and sizes."""
    if train[0].kind in ("trajectory", "event"):
        given = recipe.objectives
        whole = train[0].task == "forecast" and bool(given.masked or given.diffusion)
        return fit_sequence_preprocessor(
            train, skip=recipe.skip, points=recipe.parsed_task.context, whole=whole
        )
    e, slots = recipe.encoder, len(train[0].place)
    return fit_field_preprocessor(
        train, skip="none", template=None, slots=slots, extra_features=e.extra_features, center_on=e.center_on
    )


def window_shape(
    preprocessor: FieldPreprocessor | SequencePreprocessor, sample: Sample
) -> FieldShape | SequenceShape:
    """The shape of a module for whole windows like this sample, or for sequences."""
    if isinstance(preprocessor, SequencePreprocessor):
        return preprocessor.shape
    steps, nodes, channels = sample.values.shape
    words = len(preprocessor.vocabulary.words)
    return FieldShape(
        steps,
        steps,
        nodes,
        channels,
        steps_per_day(sample),
        note_words=words,
        amid=True,
        classes=class_count(sample),
    )


def build_aligned_arm(
    recipe: SoftTokenRecipe, shape: FieldShape | SequenceShape, sample: Sample, llm: LanguageModel
) -> Arm:
    """A fresh arm through a language model, adapted as the recipe says."""
    blueprint = make_blueprint(shape, sample, recipe.encoder, llm=llm, up=recipe.up)
    name = "llm-frozen" if recipe.adapt.frozen else "llm-lora"
    return build(name, blueprint, seed=recipe.seed, llm=llm, how=recipe.adapt)


def load_language_model(settings: LLMSettings) -> LanguageModel:
    """A language model on this machine. Raises ConfigError for one behind an endpoint."""
    s = settings
    return require_local(load_llm(s.name, depth=s.depth, dtype=s.dtype, quant=s.quant))


def noise_schedule(settings: DiffusionSettings) -> Schedule:
    """How a run adds noise, and what its model says of it."""
    return Schedule(settings.schedule, settings.prediction_type)


def build_pretraining_module(
    recipe: PretrainRecipe, shape: FieldShape | SequenceShape, sample: Sample
) -> nn.Module:
    """A fresh module: for sequences and classes the arm without a backbone, for values of fields the encoder with heads
    for whole windows."""
    blueprint = make_blueprint(shape, sample, recipe.encoder, llm=None, up=Projection())
    contrastive, diffusion = recipe.objectives.contrastive, recipe.objectives.diffusion
    schedule = noise_schedule(diffusion) if diffusion else None
    if isinstance(shape, SequenceShape) and (contrastive or diffusion):
        return Sequenced(blueprint, seed=recipe.seed, schedule=schedule)
    if isinstance(shape, SequenceShape) or shape.classes:
        return build("none", blueprint, seed=recipe.seed)
    return Windowed(blueprint, seed=recipe.seed, schedule=schedule)


def checkpoint_config(
    recipe: AnyRecipe,
    preprocessor: FieldPreprocessor | SequencePreprocessor,
    shape: FieldShape | SequenceShape,
    sample: Sample,
) -> dict[str, Any]:
    """The config of a checkpoint: the recipe, and what it takes to build the module anew. sample: of training."""
    kind = "sequence" if isinstance(shape, SequenceShape) else "field"
    words = [] if isinstance(preprocessor, SequencePreprocessor) else list(preprocessor.vocabulary.words)
    numbers = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(shape).items()}
    template = preprocessor.template.id if isinstance(preprocessor.template, Template) else None
    return {
        "recipe": recipe.model_dump(mode="json"),
        "shape": {"of": kind, **numbers},
        "words": words,
        "options": list(sample.side.options),
        "instruction": template,
    }


def scaler_state(preprocessor: FieldPreprocessor | SequencePreprocessor) -> dict[str, Any]:
    """The scaler.json of a checkpoint: scales, what is usual in each slot of the calendar where values are told as
    differences from it, and of a preprocessor with a last-value base what stands in for gaps."""
    found: dict[str, Any] = dict(preprocessor.scaler.to_json())
    if isinstance(preprocessor, FieldPreprocessor) and preprocessor.base is not None:
        found["slots"] = _table(preprocessor.base.rule.means)  # type: ignore[attr-defined]
    if isinstance(preprocessor, FieldPreprocessor) and preprocessor.usual is not None:
        usual = preprocessor.usual
        found["usual"] = _table(usual.means if isinstance(usual, HeldOutSlotMean) else usual)
    return found


def _table(means: SlotMean) -> dict[str, Any]:
    return {"table": means.table.tolist(), "freq_s": means.freq_s}


def _means(kept: Mapping[str, Any]) -> SlotMean:
    return SlotMean(np.array(kept["table"], dtype=np.float64), int(kept["freq_s"]))


def _last_value(slots: Mapping[str, Any]) -> BaselinePredictor:
    return BaselinePredictor("last-value", LastValue(_means(slots)))


@dataclass(frozen=True, eq=False)
class CheckpointPredictor:
    """Answers with a trained checkpoint. Made by `read`; the module is built with the first samples it is asked."""

    name: str
    checkpoint: checkpoint.Checkpoint
    recipe: AnyRecipe
    preprocessor: FieldPreprocessor | SequencePreprocessor
    shape: FieldShape | SequenceShape
    sha256: str

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """Raises DataError for samples of another size or kind than those it was trained on."""
        if not samples:
            return []
        self._check(samples[0])
        module, where = self._module(samples[0]), str(self.checkpoint.folder)
        checkpoint.load_into(module, checkpoint.weights_of(self.checkpoint.folder), where=where)
        recipe, with_instructions = self.recipe, isinstance(self.recipe, SoftTokenRecipe)
        if isinstance(recipe, SoftTokenRecipe):
            if not (recipe.objectives.regression or recipe.objectives.likelihood):
                raise DataError(
                    f"{where} was aligned by {', '.join(recipe.objectives.given)}, so its head has learned no answers. "
                    f"Go on from its encoder (`init_from: FOLDER`) with an objective that answers."
                )
        elif not {"regression", "likelihood", "masked"} & set(recipe.objectives.given):
            return self._drawn(module, recipe, samples)
        return predict_in_batches(
            module, self.preprocessor, samples, batch_size=_BATCH, with_instructions=with_instructions
        )

    def _module(self, sample: Sample) -> nn.Module:
        if not isinstance(self.recipe, SoftTokenRecipe):
            return build_pretraining_module(self.recipe, self.shape, sample)
        llm = load_language_model(self.recipe.llm)
        checkpoint.check_base(self.checkpoint.folder, llm)
        return build_aligned_arm(self.recipe, self.shape, sample, llm)

    @property
    def options(self) -> tuple[str, ...]:
        """The places or classes that it knows, in its own order; none where it asks for numbers."""
        return tuple(self.checkpoint.config.get("options", ()))

    def _check(self, sample: Sample) -> None:
        if self.options and sample.side.options != self.options:
            raise DataError(
                f"{self.checkpoint.folder} was trained on {_some(self.options)}, but {sample.id} offers "
                f"{_some(sample.side.options)}. Take the data it knows."
            )
        if isinstance(self.shape, SequenceShape):
            known = ("forecast", "recover") if self.shape.task == "track" else (self.shape.task,)
            if sample.task not in known:
                raise DataError(
                    f"{self.checkpoint.folder} was trained for {' and '.join(known)}, but {sample.id} asks for "
                    f"{sample.task}. Take the task that it was trained for."
                )
            return
        shape = self.shape
        own = (shape.history + (0 if shape.amid else shape.horizon), shape.nodes, shape.channels)
        came = sample.values.shape
        if came != own:
            raise DataError(
                f"{self.checkpoint.folder} was trained on windows of {own[0]} steps, {own[1]} places and {own[2]} "
                f"channels, but {sample.id} has {came[0]}, {came[1]} and {came[2]}. Take the data and task it knows."
            )

    def _drawn(
        self, module: nn.Module, recipe: PretrainRecipe, samples: Sequence[Sample]
    ) -> list[Prediction]:
        settings, preprocessor = recipe.objectives.diffusion, self.preprocessor
        if settings is None or not isinstance(module, Denoiser):
            return self._retrieved(module, recipe, samples)
        generator = torch.Generator().manual_seed(recipe.seed)
        found = []
        for begin in range(0, len(samples), _BATCH):
            part = [sample.without_truth() for sample in samples[begin : begin + _BATCH]]
            batch: Any = preprocessor.collate(part, with_instructions=False).to(
                next(module.parameters()).device
            )
            drawn = module.sampled(batch, draws=settings.draws, steps=settings.steps, generator=generator)
            found += preprocessor.postprocess_draws(part, drawn)
        return found

    def _retrieved(
        self, module: nn.Module, recipe: PretrainRecipe, samples: Sequence[Sample]
    ) -> list[Prediction]:
        """What was trained to compare alone has no answers of its own: it finds training windows that have."""
        contrast = recipe.objectives.contrastive
        train = load_splits(recipe).train
        each = contrast is not None and contrast.level == "node"
        return predict_from_neighbours(module, self.preprocessor, list(train), samples, each=each)


def load_splits(recipe: AnyRecipe) -> Splits:
    """The parts of its data that a run trains and chooses on; windows begin a horizon apart where the recipe does not
    say."""
    task = recipe.parsed_task
    stride = recipe.split.stride or int(getattr(task, "horizon", 1))
    return split(load_data(recipe.data), task, stride=stride, context=recipe.split.context)


def _some(options: tuple[str, ...]) -> str:
    return f"{len(options)} places or classes ({', '.join(options[:3])}{', ...' if len(options) > 3 else ''})"


def load_predictor(folder: Path, *, name: str) -> CheckpointPredictor:
    """A checkpoint folder, or a run's folder (its best state), as a predictor. Raises ConfigError where it is none."""
    found = checkpoint.read(folder)
    made = found.config["recipe"]
    if "shape" not in found.config:
        raise ConfigError(
            f"{folder} was fine-tuned on instructions: it answers in words. Name it in a suite, as `checkpoint` of a "
            f"text predictor."
        )
    recipe: AnyRecipe = (SoftTokenRecipe if "llm" in made else PretrainRecipe).model_validate(made)
    kept = dict(found.config["shape"])
    scaler = found.scaler
    template, tokens = None, None
    if isinstance(recipe, SoftTokenRecipe):
        template = load_prompt(found.config["instruction"]) if found.config["instruction"] else None
        tokens = recipe.up.tokens if recipe.up.head == "resampler" else None
    shape: FieldShape | SequenceShape
    preprocessor: FieldPreprocessor | SequencePreprocessor
    if kept.pop("of") == "sequence":
        shape = SequenceShape(**{**kept, "gaps": tuple(kept["gaps"])})
        points = PointScaler(np.array(scaler["mean"]), np.array(scaler["std"]), scaler["metres"])
        rule = SKIPS[recipe.skip]([]) if recipe.skip != "none" else None
        slots = shape.points + 1 if tokens is None else tokens
        preprocessor = SequencePreprocessor(points, shape, rule, template, slots)
    else:
        shape = FieldShape(**kept)
        own = Scaler(np.array(scaler["mean"]), np.array(scaler["std"]))
        base = _last_value(scaler["slots"]) if recipe.skip == "last" else None
        slots = soft_token_count(shape.nodes, shape.history, recipe.encoder) if tokens is None else tokens
        usual = _means(scaler["usual"]) if "usual" in scaler else None
        words = NoteVocabulary(tuple(found.config["words"]))
        preprocessor = FieldPreprocessor(
            own, words, base, template, slots, recipe.encoder.extra_features, usual
        )
    return CheckpointPredictor(name, found, recipe, preprocessor, shape, checkpoint.sha256_of(found.folder))
