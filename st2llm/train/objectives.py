"""PretrainObjectives from recipes: the weighted terms of pre-training, and those of alignment with a language model."""

from collections.abc import Sequence

from st2llm.align.prototypes import build_prototypes, embedding_vocabulary
from st2llm.config.objectives import PretrainObjectives
from st2llm.config.training import PretrainRecipe, SoftTokenRecipe
from st2llm.encode.field import FieldShape, edges_of
from st2llm.encode.point_batch import DAY_PARTS
from st2llm.encode.sequence import SequenceShape
from st2llm.errors import ConfigError
from st2llm.llm.local import LanguageModel
from st2llm.model.objectives.alignment import (
    CaptioningObjective,
    ContrastiveAlignment,
    PrototypeAlignment,
    WithoutCaptions,
)
from st2llm.model.objectives.combined import CombinedObjective
from st2llm.model.objectives.contrastive import Contrastive
from st2llm.model.objectives.diffusion import DiffusionObjective
from st2llm.model.objectives.masked import MaskedReconstruction, MaskedTrajectories
from st2llm.model.objectives.objective import Objective
from st2llm.model.objectives.saits import SaitsObjective
from st2llm.model.objectives.supervised import Likelihood, Regression
from st2llm.predict.build import noise_schedule
from st2llm.predict.preprocess import Preprocessor
from st2llm.types import NO_EDGES, Edges, Sample

Terms = dict[str, tuple[Objective, float]]
"""PretrainObjectives with their weights, by name."""


def pretraining_objective(
    recipe: PretrainRecipe,
    preprocessor: Preprocessor,
    shape: FieldShape | SequenceShape,
    sample: Sample,
    *,
    selected_by: Sequence[str] = (),
) -> Objective:
    """The recipe's objectives, combined. sample: one of training, for its edges. selected_by: see `CombinedObjective`.

    Raises ConfigError for an objective that the kind of data does not have.
    """
    settings = recipe.objectives
    if isinstance(shape, SequenceShape) or shape.classes:
        return _sequence_objective(recipe, shape, selected_by)
    if settings.likelihood:
        raise ConfigError(
            f"{recipe.id}: likelihood is for sequences. Fields have regression, masked, contrastive and diffusion."
        )
    if saits := settings.saits:
        scale = preprocessor.error_scale(sample)
        return SaitsObjective(scale, ratio=saits.ratio, observed=saits.observed)
    if videomae := settings.videomae:
        return MaskedReconstruction(NO_EDGES, policies=("tube",), ratio=videomae.ratio, squared=True)
    edges, terms = edges_of(sample), Terms()
    if settings.regression:
        terms["regression"] = (
            Regression(preprocessor.error_scale(sample), squared=settings.regression.loss == "squared"),
            settings.regression.weight,
        )
    if masked := settings.masked:
        terms["masked"] = (
            MaskedReconstruction(edges, policies=masked.policies, ratio=masked.ratio),
            masked.weight,
        )
    terms |= _shared_terms(settings, edges, shape.steps_per_day)
    return CombinedObjective(terms, weighting=recipe.weighting, selected_by=selected_by)


def _sequence_objective(
    recipe: PretrainRecipe, shape: FieldShape | SequenceShape, selected_by: Sequence[str]
) -> Objective:
    """The objective of sequences and classes: the likelihood of the head, contrast of sequences, and masked points and
    diffusion of paths.
    """
    settings = recipe.objectives
    task = shape.task if isinstance(shape, SequenceShape) else "classify"
    allowed = {"likelihood", *(("contrastive",) if isinstance(shape, SequenceShape) else ())}
    allowed |= {"masked", "diffusion"} if task == "track" else set()
    if not set(settings.given) <= allowed:
        raise ConfigError(
            f"{recipe.id}: {task} is trained by {' and '.join(sorted(allowed))}, but "
            f"{', '.join(settings.given)} came. Correct `objectives`."
        )
    terms = Terms()
    if settings.likelihood:
        terms["likelihood"] = (Likelihood(), settings.likelihood.weight)
    if masked := settings.masked:
        terms["masked"] = (MaskedTrajectories(policies=masked.policies, ratio=masked.ratio), masked.weight)
    if settings.contrastive and settings.contrastive.level != "graph":
        raise ConfigError(f"{recipe.id}: sequences are compared as wholes. Take contrastive.level: graph.")
    terms |= _shared_terms(settings, NO_EDGES, DAY_PARTS)
    if set(terms) == {"likelihood"}:
        return terms["likelihood"][0]
    return CombinedObjective(terms, weighting=recipe.weighting, selected_by=selected_by)


def _shared_terms(settings: PretrainObjectives, edges: Edges, steps_per_day: int) -> Terms:
    """The terms that fields and sequences share: contrastive and diffusion."""
    terms = Terms()
    if contrastive := settings.contrastive:
        options = contrastive.model_dump(exclude={"weight"})
        terms["contrastive"] = (
            Contrastive(edges, steps_per_day=steps_per_day, **options),
            contrastive.weight,
        )
    if diffusion := settings.diffusion:
        terms["diffusion"] = (DiffusionObjective(noise_schedule(diffusion)), diffusion.weight)
    return terms


def alignment_objective(
    recipe: SoftTokenRecipe, task_objective: Regression | Likelihood, llm: LanguageModel
) -> Objective:
    """The weighted sum of the recipe's objectives. task_objective: of the encoder's task, without a language model.

    Raises ConfigError for regression of sequences and classes, and for likelihood of fields.
    """
    settings, terms = recipe.objectives, Terms()
    if {"regression", "likelihood"} & set(settings.given) - {task_objective.name}:
        data = "values of fields" if isinstance(task_objective, Regression) else "sequences and classes"
        raise ConfigError(f"{recipe.id}: {data} are trained by objectives.{task_objective.name}.")
    if task := getattr(settings, task_objective.name):
        terms[task_objective.name] = (WithoutCaptions(task_objective), task.weight)
    if settings.language:
        terms["language"] = (CaptioningObjective(llm), settings.language.weight)
    if settings.contrast:
        terms["contrast"] = (ContrastiveAlignment(settings.contrast.temperature), settings.contrast.weight)
    if settings.prototypes:
        up = (
            recipe.up
            if recipe.up.prototype_source != "learned"
            else recipe.up.model_copy(update={"prototype_source": "kmeans"})
        )
        rows = build_prototypes(up, embedding_vocabulary(llm, recipe.up.prototype_words))()
        prototyped = PrototypeAlignment(rows.detach(), temperature=settings.prototypes.temperature)
        terms["prototypes"] = (prototyped, settings.prototypes.weight)
    return CombinedObjective(terms)
