"""A small arm with every weight drawn at random, and the preprocessor it was made for."""

import torch

from st2llm.config.model import FROZEN, Adaptation
from st2llm.encode.field import FieldShape
from st2llm.llm.local import LanguageModel
from st2llm.model.arm import Arm, ArmSpec, EncoderSettings, build_arm
from st2llm.predict.preprocess.field import FieldPreprocessor, fit_field_preprocessor
from st2llm.types import Sample, Serializer, TrainingWindows
from support import fields

HISTORY, HORIZON, NODES = 24, 4, 3


def windows() -> list[Sample]:
    values = fields.series(240)
    values[[5, 40], [0, 2]] = float("nan")
    return fields.windows(values, history=HISTORY, horizon=HORIZON, stride=12)


def small_blueprint(tokens: str = "place") -> ArmSpec:
    """Of 12 steps in and 3 out at three places."""
    settings = EncoderSettings(d_st=16, patch=4, layers=1, tokens=tokens)
    return ArmSpec(FieldShape(12, 3, NODES, 1, 24), fields.EDGES, 32, 0.3, 4, settings)


def arm_and_preprocessor(
    backbone: str,
    *,
    llm: LanguageModel | None = None,
    tokens: str = "place",
    template: Serializer | None = None,
    trained: bool = True,
) -> tuple[Arm, FieldPreprocessor]:
    settings = EncoderSettings(d_st=8, patch=8, layers=1, tokens=tokens)
    blueprint = ArmSpec(FieldShape(HISTORY, HORIZON, NODES, 1, 24), fields.EDGES, 32, 0.3, 4, settings)
    adaptations = {
        "llm-lora": Adaptation(method="lora", rank=4),
        "matched": Adaptation(method="lora", rank=16),
    }
    arm = build_arm(
        backbone,
        blueprint,
        seed=0,
        llm=llm,
        adaptation=adaptations.get(backbone, FROZEN),
    )
    if trained:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            torch.nn.init.normal_(arm.head.out.weight, std=0.3)
    return arm, fit_field_preprocessor(
        TrainingWindows(windows()[:8]), skip="ridge", template=template, slots=arm.encoder.slots
    )
