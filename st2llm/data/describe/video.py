"""The summary of clips."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from st2llm.data import video_features
from st2llm.data.describe import dependence, summary
from st2llm.types import Video

REGIONS = (8, 8)
_FRAMES = 250


def video_summary(data: Sequence[Video]) -> dict[str, Any]:
    """The summary and dependence of clips.

    The dependence is that of the brightness of 8 x 8 regions in the first 250 frames, averaged over clips.
    """
    sizes = Counter(f"{clip.frames.shape[2]}x{clip.frames.shape[1]}" for clip in data)
    labels = Counter(clip.label for clip in data if clip.label is not None)
    return {
        "shape": {"clip": len(data), "frame": sum(len(clip.frames) for clip in data)},
        "size": dict(sizes),
        "frames_of_a_clip": summary.quartiles(np.array([len(clip.frames) for clip in data])),
        "fps": summary.quartiles(np.array([clip.fps for clip in data])),
        "seconds_of_a_clip": summary.quartiles(np.array([clip.time_s[-1] for clip in data])),
        "unit": "luma 0 to 255",
        "quantity": "frames",
        "labels": dict(labels),
        "captions": sum(bool(clip.caption) for clip in data),
        "missing_share": 0.0,
        "dependence": _dependence(data),
    }


def region_brightness(clip: Video) -> Float64[np.ndarray, "time node channel"]:
    """The brightness of each region in the first frames of a clip."""
    shown = clip.frames[:_FRAMES]
    regions = (min(REGIONS[0], shown.shape[1]), min(REGIONS[1], shown.shape[2]))
    return video_features.region_values(shown, regions)[:, :, :1]


def _dependence(data: Sequence[Video]) -> dict[str, Any]:
    measures: dict[str, list[float]] = {"temporal": [], "spatial": [], "anomalies": [], "joint": []}
    for clip in data:
        values = region_brightness(clip)
        shown = clip.frames.shape[1:3]
        edges = dependence.cell_edges(min(REGIONS[0], shown[0]), min(REGIONS[1], shown[1]))
        for name, value in (
            ("temporal", dependence.autocorrelation(values, 1)),
            ("spatial", dependence.morans_i(values[:, :, 0].mean(axis=0), edges)),
            ("anomalies", dependence.space_time_i(values, edges, 0)),
            ("joint", dependence.space_time_i(values, edges, 1)),
        ):
            if value is not None:
                measures[name].append(value)
    mean = {name: float(np.mean(values)) if values else None for name, values in measures.items()}
    return {
        "temporal": {"autocorrelation_frame": mean["temporal"]},
        "spatial": {
            "neighbours": "the 4 adjacent regions of 8 x 8",
            "morans_i_of_means": mean["spatial"],
            "morans_i_of_anomalies": mean["anomalies"],
        },
        "joint": {"space_time_morans_i_lag_1": mean["joint"]},
    }
