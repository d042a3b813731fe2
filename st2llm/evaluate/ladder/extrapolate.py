"""What a larger language model would need: seconds and memory, from a fit through the measured models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BYTES_OF = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a weight by the dtype that records name."""


@dataclass(frozen=True)
class Measured:
    """What one model took. params: of its layers in use. seconds: a training step, or an answer. peak_mb: resident."""

    params: int
    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Needs:
    """The estimate for a model of `params` parameters.

    exponent: of the power law of seconds in parameters; 1 is assumed where one model was measured. factor: how many
    times larger the model is than the largest measured one. models: how many were measured.
    """

    params: float
    seconds: float
    peak_gb: float
    exponent: float
    factor: float
    models: int


def estimate_needs(measured: Sequence[Measured], params: float) -> Needs | None:
    """Seconds by a power law (least squares of logarithms), memory by a straight line, both in parameters.

    None where nothing was measured. One model alone gives no slope: seconds are then proportional to parameters, and
    memory grows by two bytes a parameter. The same holds where all models have the same size.
    """
    known = [each for each in measured if each.params > 0 and each.seconds > 0]
    if not known:
        return None
    sizes = np.array([each.params for each in known], dtype=float)
    seconds = np.log([each.seconds for each in known])
    peaks = np.array([each.peak_mb for each in known])
    exponent, per_param = 1.0, 2e-6
    if len(set(sizes)) > 1:
        exponent = float(np.polyfit(np.log(sizes), seconds, 1)[0])
        per_param = max(0.0, float(np.polyfit(sizes, peaks, 1)[0]))
    level = float(seconds.mean()) - exponent * float(np.log(sizes).mean())
    base = float(peaks.mean()) - per_param * float(sizes.mean())
    return Needs(
        params=params,
        seconds=math.exp(level + exponent * math.log(params)),
        peak_gb=(base + per_param * params) / 1000,
        exponent=exponent,
        factor=params / float(sizes.max()),
        models=len(set(sizes)),
    )


def weights_gb(params: float, dtype: str) -> float:
    """The memory of the weights alone, in GB, below which no run can be."""
    return params * BYTES_OF.get(dtype, 2) / 1e9
