"""Clips from arrays of frames in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from st2llm.data.card import VideoCard
from st2llm.data.convert.export import frames_of
from st2llm.data.convert.memory_files import build_from_memory
from st2llm.data.load import provenance
from st2llm.data.load.video import ClipLabels, DecodedClip, clip_of
from st2llm.display import ContainerList
from st2llm.errors import ConfigError, DataError
from st2llm.types import Video

Card = Mapping[str, Any] | None
_OF_FILES = ("size", "fps", "max_frames", "label", "captions")
"""Keys of a card that say how files are decoded and described."""


@dataclass(frozen=True)
class _ArrayLoader:
    """Builds one clip from an array, as the loader of video files does from a file."""

    described: ClipLabels
    time_s: Float64[np.ndarray, " time"]
    fps: float

    def __call__(self, card: VideoCard, files: Mapping[str, Path]) -> Video:
        ((name, path),) = files.items()
        decoded = DecodedClip(np.load(path), self.time_s, self.fps, ())
        return clip_of(card, decoded, self.described, provenance.provenance_of(card, {name: path}, ()))


def clip_from_array(
    frames: np.ndarray,
    *,
    fps: float,
    id: str = "clip",
    label: str | None = None,
    labels: Sequence[str] = (),
    card: Card = None,
) -> Video:
    """See `Video.from_array`."""
    if not fps > 0:
        raise DataError(f"fps should be a positive number of frames a second, but it is {fps!r}.")
    times = np.arange(len(frames), dtype=np.float64) / fps
    classes = tuple(labels) or ((label,) if label is not None else ())
    return _clip(frames, ClipLabels(id, id, label, classes), times, float(fps), card)


def clips_from_rows(rows: Sequence[Mapping[str, Any]], card: Card = None) -> ContainerList[Video]:
    """The clips of rows as `to_hf` writes them: clip, label, caption, fps, time_s, shape and frames."""
    classes = tuple(sorted({row["label"] for row in rows if row.get("label") is not None}))
    clips = []
    for row in rows:
        frames = frames_of(dict(row)) if "shape" in row else np.asarray(row["frames"])
        fps = float(row["fps"])
        times = np.asarray(row["time_s"], np.float64) if "time_s" in row else np.arange(len(frames)) / fps
        described = ClipLabels(
            str(row["clip"]), str(row["clip"]), row.get("label"), classes, row.get("caption") or ""
        )
        clips.append(_clip(frames, described, times, fps, card))
    return ContainerList(clips)


def _clip(frames: np.ndarray, described: ClipLabels, time_s: np.ndarray, fps: float, card: Card) -> Video:
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise DataError(
            f"frames should be uint8 [time, row, col, 3] (RGB, 0 to 255), but they are {frames.dtype} of shape "
            f"{list(frames.shape)}.{_frames_hint(frames)}"
        )
    if taken := sorted(set(card or ()) & set(_OF_FILES)):
        raise ConfigError(
            f"card: {taken[0]!r} is about files of video. Change the array, or give `label` as a parameter."
        )
    loader = _ArrayLoader(described, time_s, fps)
    settings = {"kind": "video", "files": "frames.npy"}
    return build_from_memory(loader, settings, {"frames.npy": np.ascontiguousarray(frames)}, card)


def _frames_hint(frames: np.ndarray) -> str:
    """What to do about frames of another form; '' where that is not clear."""
    if frames.ndim == 3:
        return " Repeat grey frames: numpy.repeat(frames[..., None], 3, axis=3)."
    if frames.ndim == 4 and frames.shape[3] != 3 and frames.shape[1] == 3:
        return " Move the colours to the end: frames.transpose(0, 2, 3, 1)."
    if frames.ndim == 4 and frames.dtype.kind == "f":
        return " Scale them: (255 * frames).round().astype('uint8') for values from 0 to 1."
    return ""
