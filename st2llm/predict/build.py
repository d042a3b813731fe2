"""Builds what a training recipe names: its data splits, language model, preprocessor and module.

`st2llm.train` builds them to train, `predict.checkpoint` to answer with what was trained.
"""

from st2llm.config.arm import ArmRecipe
from st2llm.config.model import LLM_BACKBONES, LLMSettings, Projection
from st2llm.config.objectives import DiffusionSettings
from st2llm.config.training import PretrainRecipe, SoftTokenRecipe, TaskRecipe
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.data.windows.splits import Splits, evenly_spaced, with_split_of
from st2llm.encode.field import FieldShape
from st2llm.encode.sequence import SequenceShape
from st2llm.llm import load_llm
from st2llm.llm.local import LanguageModel, require_local
from st2llm.model.arm import Arm, build_arm
from st2llm.model.objectives.noise_schedule import NoiseSchedule
from st2llm.model.objectives.saits import Saits
from st2llm.model.objectives.videomae import VideoMae, VideoMaeSizes
from st2llm.model.pretraining import FieldPretrainingModel, SequencePretrainingModel
from st2llm.predict.preprocess import Preprocessor
from st2llm.predict.preprocess.field import fit_field_preprocessor
from st2llm.predict.preprocess.fit import SEQUENCE_KINDS, make_blueprint
from st2llm.predict.preprocess.sequence import fit_sequence_preprocessor
from st2llm.types import Container, Sample, TrainingWindows

PROMPT_NORM = ("down.prompt_norm.mean", "down.prompt_norm.scale")
"""Buffers of an arm that are fitted to the prompts of training (`fit_prompt_norm`)."""


def load_splits(recipe: TaskRecipe) -> Splits:
    """The windows of the recipe's data, by part. Without `split.stride` windows begin a horizon apart."""
    return split_for(recipe, load_data(recipe.data))


def windows_of_arm(recipe: ArmRecipe) -> TrainingWindows:
    """The windows that an arm of a comparison was trained on, with those of validation where it was refitted."""
    splits = load_splits(recipe)
    train = splits.train.cached()
    if not recipe.refit:
        return train
    return train.with_validation(evenly_spaced(splits.validation, recipe.validation).cached())


def split_for(recipe: TaskRecipe, data: Container) -> Splits:
    """The windows of these data for a recipe, by part."""
    task = recipe.parsed_task
    stride = recipe.split.stride or int(getattr(task, "horizon", 1))
    data = with_split_of(data, recipe.split)
    return split(data, task, stride=stride, context=recipe.split.context)


def load_language_model(settings: LLMSettings) -> LanguageModel:
    """A language model on this machine. Raises ConfigError for one behind an endpoint."""
    s = settings
    return require_local(load_llm(s.name, depth=s.depth, dtype=s.dtype, quant=s.quant))


def noise_schedule(settings: DiffusionSettings) -> NoiseSchedule:
    """The noise schedule of a diffusion objective, and what the model predicts of the noise."""
    return NoiseSchedule(settings.schedule, settings.prediction_type)


def fit_pretraining_preprocessor(
    recipe: PretrainRecipe, train: TrainingWindows, *, whole: bool | None = None
) -> Preprocessor:
    """Fits a preprocessor of whole windows, without instructions or base forecast of fields.

    whole: whether paths are read as wholes, with wanted positions as hidden points; None where an objective needs it.
    """
    if train[0].kind in SEQUENCE_KINDS:
        objectives = recipe.objectives
        needed = bool(objectives.masked or objectives.diffusion) if whole is None else whole
        whole = train[0].task == "forecast" and needed
        return fit_sequence_preprocessor(
            train, skip=recipe.skip, points=recipe.parsed_task.context, whole=whole
        )
    encoder, slots = recipe.encoder, len(train[0].place)
    return fit_field_preprocessor(
        train,
        skip="none",
        template=None,
        slots=slots,
        encoder=encoder,
    )


def build_pretraining_module(
    recipe: PretrainRecipe, shape: FieldShape | SequenceShape, sample: Sample
) -> Arm | SequencePretrainingModel | FieldPretrainingModel | Saits | VideoMae:
    """A fresh module: for sequences and classes an arm without a backbone, for fields an encoder with heads for whole
    windows, SAITS or VideoMAE.
    """
    e = recipe.encoder
    if (saits := recipe.objectives.saits) and isinstance(shape, FieldShape) and not shape.classes:
        return Saits(
            shape,
            width=e.d_st,
            layers=e.layers,
            dropout=e.dropout,
            seed=recipe.seed,
            per_place=saits.per_place,
        )
    if (videomae := recipe.objectives.videomae) and isinstance(shape, FieldShape) and not shape.classes:
        sizes = VideoMaeSizes(
            e.d_st, e.layers, videomae.tubelet, videomae.decoder_width, videomae.decoder_layers
        )
        return VideoMae(shape, sizes, seed=recipe.seed)
    blueprint = make_blueprint(shape, sample, recipe.encoder, llm=None, up=Projection())
    contrastive, diffusion = recipe.objectives.contrastive, recipe.objectives.diffusion
    schedule = noise_schedule(diffusion) if diffusion else None
    if isinstance(shape, SequenceShape) and (contrastive or diffusion):
        return SequencePretrainingModel(blueprint, seed=recipe.seed, schedule=schedule)
    if isinstance(shape, SequenceShape) or shape.classes:
        return build_arm("none", blueprint, seed=recipe.seed)
    return FieldPretrainingModel(blueprint, seed=recipe.seed, schedule=schedule)


def build_aligned_arm(
    recipe: SoftTokenRecipe, shape: FieldShape | SequenceShape, sample: Sample, llm: LanguageModel
) -> Arm:
    """A fresh arm whose backbone is the language model, adapted as the recipe says."""
    blueprint = make_blueprint(shape, sample, recipe.encoder, llm=llm, up=recipe.up)
    backbone = "llm-frozen" if recipe.adapt.frozen else "llm-lora"
    return build_arm(backbone, blueprint, seed=recipe.seed, llm=llm, adaptation=recipe.adapt)


def build_suite_arm(
    recipe: ArmRecipe, shape: FieldShape | SequenceShape, sample: Sample
) -> tuple[Arm, LanguageModel | None]:
    """A fresh arm of a comparison, and the language model that it reads through, with adapters where it is adapted."""
    shared = None if recipe.llm is None else load_language_model(recipe.llm)
    spec = make_blueprint(shape, sample, recipe.encoder, llm=shared, up=recipe.up)
    llm = shared if recipe.backbone in (*LLM_BACKBONES, "matched") else None
    if recipe.llm is not None and recipe.backbone == "llm-random":
        s = recipe.llm
        named = load_llm(f"random:{s.name}", depth=s.depth, dtype=s.dtype, quant=s.quant, seed=recipe.seed)
        llm = require_local(named)
    arm = build_arm(recipe.backbone, spec, seed=recipe.seed, llm=llm, adaptation=recipe.adapt)
    return arm, llm if recipe.backbone in LLM_BACKBONES else None
