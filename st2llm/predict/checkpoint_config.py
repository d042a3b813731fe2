"""config.yaml and scaler.json of a checkpoint: written from a preprocessor, and read back into one."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from st2llm.config.arm import ArmRecipe
from st2llm.config.training import PretrainRecipe, SoftTokenRecipe
from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import NoteVocabulary
from st2llm.encode.point_scaler import PointScaler, QueryScaler
from st2llm.encode.scaler import FieldScaler
from st2llm.encode.sequence import SequenceShape
from st2llm.predict.baselines import BaselinePredictor, SlotMean, fit_baseline
from st2llm.predict.baselines.fields import LastValue, LinearInterpolation, WindowMean
from st2llm.predict.build import windows_of_arm
from st2llm.predict.preprocess import Preprocessor
from st2llm.predict.preprocess.field import SKIPS as FIELD_SKIPS
from st2llm.predict.preprocess.field import FieldPreprocessor, base_of_windows, next_patch_of
from st2llm.predict.preprocess.fit import soft_token_count
from st2llm.predict.preprocess.sequence import SKIPS, SequencePreprocessor
from st2llm.serialize.template.template import load_prompt
from st2llm.types import Sample, TrainingWindows
from st2llm.types.axes import FIELD_KINDS, FieldAxes

Recipes = PretrainRecipe | SoftTokenRecipe | ArmRecipe
_FILLED_BY_SLOT_MEANS: Mapping[str, type[LastValue] | type[LinearInterpolation] | type[WindowMean]] = {
    "last": LastValue,
    "level": WindowMean,
    "linear": LinearInterpolation,
}
"""Base rules that learn nothing but the slot means, which scaler.json holds, by the setting `skip`."""


def checkpoint_config(
    recipe: Recipes, preprocessor: Preprocessor, shape: FieldShape | SequenceShape, sample: Sample
) -> dict[str, Any]:
    """The content of config.yaml: the recipe, and what it takes to build the module again. sample: one of training."""
    sizes = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(shape).items()}
    return {
        "recipe": recipe.model_dump(mode="json"),
        "shape": {"of": preprocessor.data_family, **sizes},
        "options": list(sample.side.options),
        **(FieldAxes.of(sample).to_json() if sample.kind in FIELD_KINDS else {}),
        **preprocessor.config(),
    }


def restore_preprocessor(
    recipe: Recipes, config: Mapping[str, Any], scaler: Mapping[str, Any], *, slots: int | None
) -> tuple[Preprocessor, FieldShape | SequenceShape]:
    """The preprocessor and the sizes of a checkpoint, from the content of its config.yaml and scaler.json.

    slots: number of soft tokens where the projection head fixes it; None means as many as the encoder makes.
    """
    sizes = dict(config["shape"])
    restore = _restore_sequence if sizes.pop("of") == "sequence" else _restore_field
    return restore(recipe, config, scaler, sizes, slots)


def _restore_field(
    recipe: Recipes,
    config: Mapping[str, Any],
    scaler: Mapping[str, Any],
    sizes: Mapping[str, Any],
    slots: int | None,
) -> tuple[Preprocessor, FieldShape | SequenceShape]:
    shape = FieldShape(**{**sizes, "ahead": tuple(sizes.get("ahead", ()))})
    base_rule, skip = None, base_of_windows(recipe.skip, recipe.encoder)
    if "slots" in scaler and (rule := _FILLED_BY_SLOT_MEANS.get(skip)):
        base_rule = BaselinePredictor(FIELD_SKIPS[skip], rule(SlotMean.from_json(scaler["slots"])))
    elif isinstance(recipe, ArmRecipe) and skip != "none" and not _subtracts_slot_twice(recipe):
        # The coefficients of such a rule are not in the checkpoint: it is fitted again, on the same windows.
        base_rule = fit_baseline(FIELD_SKIPS[skip], windows_of_arm(recipe))
    if slots is None:
        slots = soft_token_count(shape.nodes, shape.history, recipe.encoder)
    preprocessor = FieldPreprocessor(
        scaler=FieldScaler(np.array(scaler["mean"]), np.array(scaler["std"])),
        vocabulary=NoteVocabulary(tuple(config["words"])),
        base_rule=base_rule,
        template=_template(config),
        slots=slots,
        extra_features=recipe.encoder.extra_features,
        slot_means=SlotMean.from_json(scaler["usual"]) if "usual" in scaler else None,
        axes=FieldAxes.from_json(config),
        channel_independent=recipe.encoder.channel_independent,
        next_patch=next_patch_of(recipe.encoder),
    )
    return preprocessor, shape


def _subtracts_slot_twice(recipe: ArmRecipe) -> bool:
    """Whether values are centred on the mean that the base rule would forecast, so that there is no base rule."""
    return recipe.encoder.center_on == "slot" and recipe.skip == "slot"


def _restore_sequence(
    recipe: Recipes,
    config: Mapping[str, Any],
    scaler: Mapping[str, Any],
    sizes: Mapping[str, Any],
    slots: int | None,
) -> tuple[Preprocessor, FieldShape | SequenceShape]:
    shape = SequenceShape(**{**sizes, "gaps": tuple(sizes["gaps"])})
    preprocessor = SequencePreprocessor(
        scaler=PointScaler(
            np.array(scaler["mean"]),
            np.array(scaler["std"]),
            scaler["metres"],
            scaler.get("step_m", 1.0),
            QueryScaler(**{name: tuple(numbers) for name, numbers in scaler.get("query", {}).items()}),
        ),
        shape=shape,
        base_rule=SKIPS[recipe.skip](TrainingWindows([])) if recipe.skip != "none" else None,
        template=_template(config),
        slots=shape.points + 1 if slots is None else slots,
    )
    return preprocessor, shape


def _template(config: Mapping[str, Any]) -> Any:
    return load_prompt(config["instruction"]) if config.get("instruction") else None
