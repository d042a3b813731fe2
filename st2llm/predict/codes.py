"""Channels whose values are codes of options (places, marks): predictions there are rankings, not numbers."""

import numpy as np
from jaxtyping import Bool

from st2llm.types import Sample

CODE_CHANNELS = ("place", "mark")
"""Channels whose values are indices into `Side.options`."""
EVENT_UNITS = {"gap_h": "hours", "x": "metres", "y": "metres"}
"""The units of the channels of events; a magnitude has the unit of its data, which no card states."""


def wanted_codes(sample: Sample) -> Bool[np.ndarray, "time node channel"]:
    """The wanted entries that are codes."""
    is_code = np.array([name in CODE_CHANNELS for name in sample.side.channels], dtype=bool)
    if sample.kind not in ("trajectory", "event") or len(is_code) != sample.values.shape[2]:
        return np.zeros(sample.wanted.shape, dtype=bool)
    return np.asarray(sample.wanted & is_code, dtype=bool)


def wants_label(sample: Sample) -> bool:
    """Whether a label is wanted: a code, or the class of the whole sample."""
    return sample.task == "classify" or bool(wanted_codes(sample).any())
