"""Cutting clips into parts and samples: windows of region features within each clip, or whole clips to classify."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import overload

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.data import video_features
from st2llm.errors import DataError
from st2llm.tasks import Classify, Forecast, Impute, Interpolate, Krige, Task
from st2llm.types import Calendar, Layout, Sample, Side, SplitPlan, Video

TASKS = (Forecast, Impute, Interpolate, Krige, Classify)
_PARTS = ("train", "validation", "test")


class ClipFeatures:
    """Clips, and the features of their regions, computed once for each clip when first asked for."""

    def __init__(self, clips: list[Video]) -> None:
        self.clips = tuple(clips)
        self._values: dict[int, Float64[np.ndarray, "time node channel"]] = {}

    def values(self, clip: int) -> Float64[np.ndarray, "time node channel"]:
        """Brightness and motion of each region at each frame; see `frames.region_values`."""
        if clip not in self._values:
            video = self.clips[clip]
            self._values[clip] = video_features.region_values(video.frames, video.regions)
        return self._values[clip]

    @cached_property
    def offsets(self) -> Int64[np.ndarray, " clip"]:
        """How many frames the clips before each one have."""
        return np.cumsum([0, *(len(clip.frames) for clip in self.clips)], dtype=np.int64)[:-1]


@dataclass(frozen=True, eq=False)
class ClipWindows(Sequence[Sample]):
    """Samples of one part of a split of clips; each is made when it is asked for.

    spans: clip, first frame and the frame after the last of each sample.
    """

    store: ClipFeatures
    task: Task
    spans: Int64[np.ndarray, "window 3"]

    def __len__(self) -> int:
        return len(self.spans)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "ClipWindows": ...

    def __getitem__(self, index: int | slice) -> "Sample | ClipWindows":
        if isinstance(index, slice):
            return replace(self, spans=self.spans[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"There is no sample {index}: this part of the split has {len(self)}.")
        clip, start, end = (int(number) for number in self.spans[index])
        return self._sample(clip, slice(start, end))

    def indices(self) -> Int64[np.ndarray, " window"]:
        """The first frame of each sample, counted through all clips."""
        first: Int64[np.ndarray, " window"] = self.store.offsets[self.spans[:, 0]] + self.spans[:, 1]
        return first

    def select(self, positions: Iterable[int]) -> "ClipWindows":
        """The samples at these positions, in this order. Raises IndexError for one that is not there."""
        return replace(self, spans=self.spans[np.asarray(list(positions), dtype=np.int64)])

    @cached_property
    def sha256(self) -> str:
        """Names these samples: the clips, the task and every span."""
        digest = hashlib.sha256(f"{self.task.name} {self.task.length}\n".encode())
        for clip in self.store.clips:
            digest.update(f"{clip.name} {clip.id} {clip.provenance.sha256} {len(clip.frames)}\n".encode())
        digest.update(self.spans.astype("<i8").tobytes())
        return digest.hexdigest()

    def _sample(self, clip: int, span: slice) -> Sample:
        video, raw = self.store.clips[clip], self.store.values(clip)[span]
        name = f"{video.name}/{video.id}/{span.start}"
        hidden = self.task.hidden(raw.shape, key=name)
        wanted = hidden & np.isin(video_features.CHANNELS, video.asked)
        classify = isinstance(self.task, Classify)
        return Sample(
            id=name,
            kind=video.kind,
            values=np.where(hidden, np.nan, raw),
            visible=~hidden,
            wanted=wanted,
            time=np.rint(video.time_s[span] * 1000).astype(np.int64),
            place=_layout(video.regions).ids,
            side=_side(video, span, hidden, classify=classify),
            truth=np.where(wanted, raw, np.nan),
            label=video.label if classify else None,
            task=self.task.word,
        )


def split_clips(
    clips: list[Video], task: Task, stride: int = 1
) -> tuple[ClipWindows, ClipWindows, ClipWindows]:
    """Samples to learn from, to choose by, and to be judged on.

    Values are asked for in windows `stride` frames apart; each clip is cut by time into the shares of its split plan,
    so that no window crosses a boundary; the frames a sample shows are those of which nothing is hidden. Classification
    splits by clip: as `part` of the clips says, else by shares of the clips in order of their ids; a sample is a whole
    clip, or a window of `task.length` frames. A clip's caption is told but where its class is asked for.

    Raises DataError where there is no clip, a part has no room for a sample, a clip has no class to ask for or is
    shorter than the window, or the task is none of clips.
    """
    if stride < 1:
        raise DataError(f"The stride between windows must be at least 1 frame, but it is {stride}.")
    if not clips:
        raise DataError("There is no clip to split. Give a list of at least one Video.")
    if not isinstance(task, TASKS):
        words = ", ".join(sort.word for sort in TASKS)
        raise DataError(f"{clips[0].name}: clips have no task {task.word!r}. Ask for one of {words}.")
    ordered = sorted(clips, key=lambda clip: clip.id)
    spans = _by_clip(ordered, task, stride) if isinstance(task, Classify) else _by_time(ordered, task, stride)
    store = ClipFeatures(ordered)
    train, validation, test = (
        ClipWindows(store, task, np.array(part, dtype=np.int64).reshape(-1, 3)) for part in spans
    )
    return train, validation, test


FrameSpans = list[tuple[int, int, int]]


def _by_time(clips: list[Video], task: Task, stride: int) -> tuple[FrameSpans, FrameSpans, FrameSpans]:
    parts: tuple[FrameSpans, FrameSpans, FrameSpans] = ([], [], [])
    for number, clip in enumerate(clips):
        cuts = _boundaries(clip.split, len(clip.frames))
        for part, begin, end in zip(parts, cuts[:-1], cuts[1:], strict=True):
            part += [
                (number, start, start + task.length) for start in range(begin, end - task.length + 1, stride)
            ]
    for name, part in zip(_PARTS, parts, strict=True):
        share = max(getattr(clip.split, name) for clip in clips)
        if not part and share > 0:
            longest = max(len(clip.frames) for clip in clips)
            raise DataError(
                f"{clips[0].name}: no clip has room in its {name} part ({share:.0%} of at most {longest} frames) for a "
                f"window of {task.length} frames ({task.name}). Give the part a larger share or ask for a "
                f"shorter window."
            )
    return parts


def _by_clip(clips: list[Video], task: Task, stride: int) -> tuple[FrameSpans, FrameSpans, FrameSpans]:
    parts: tuple[FrameSpans, FrameSpans, FrameSpans] = ([], [], [])
    cuts = np.array(_boundaries(clips[0].split, len(clips)))
    for number, clip in enumerate(clips):
        if clip.label is None:
            raise DataError(
                f"{clip.name}: the clip {clip.id!r} has no class to ask for. Say `label` in the data card."
            )
        length = task.length or len(clip.frames)
        if length > len(clip.frames):
            raise DataError(
                f"{clip.name}: the clip {clip.id!r} has {len(clip.frames)} frames, fewer than the window of {length}. "
                f"Ask for a shorter window, or for whole clips (length 0)."
            )
        part = clip.part if clip.part is not None else int(np.searchsorted(cuts, number, side="right")) - 1
        starts = range(0, len(clip.frames) - length + 1, stride if task.length else length)
        parts[part].extend((number, start, start + length) for start in starts)
    return parts


def _boundaries(plan: SplitPlan, steps: int) -> tuple[int, int, int, int]:
    """Where train, validation and test begin, and where test ends; 0.7 + 0.1 is a hair under 0.8, at no cost."""
    first, second = (
        steps if share > 1 - 1e-9 else int(round(share, 9) * steps + 1e-6)
        for share in (plan.train, plan.train + plan.validation)
    )
    return 0, first, second, steps


def _layout(regions: tuple[int, int]) -> Layout:
    return Layout(np.arange(regions[0], dtype=np.float64), np.arange(regions[1], dtype=np.float64))


def _side(video: Video, span: slice, hidden: np.ndarray, *, classify: bool) -> Side:
    seen = np.asarray(~hidden.any(axis=(1, 2)))
    shown = video.frames[span]
    steps = len(seen)
    nothing = np.zeros(steps, dtype=np.int64)
    return Side(
        dataset=video.name,
        unit="levels of 0 to 255",
        timezone="UTC",
        freq_s=0,
        calendar=Calendar(nothing, nothing, ("",) * steps),
        labels=region_names(video.regions),
        neighbours=adjacent(video.regions),
        description=video.description,
        quantity="brightness and motion",
        notes=(video.caption,) if video.caption and not classify else (),
        channels=video_features.CHANNELS,
        layout=_layout(video.regions),
        options=video.labels if classify else (),
        option_labels=tuple(label.replace("_", " ") for label in video.labels) if classify else (),
        frames=shown if seen.all() else shown[_slice_or_indices(seen)],
        fps=video.fps,
    )


def _slice_or_indices(seen: np.ndarray) -> slice | np.ndarray:
    """The steps that are seen as a slice where they follow each other, so that no frame is copied."""
    steps = np.flatnonzero(seen)
    together = len(steps) and steps[-1] - steps[0] + 1 == len(steps)
    return slice(int(steps[0]), int(steps[-1]) + 1) if together else steps


def region_names(regions: tuple[int, int]) -> tuple[str, ...]:
    """Words for the regions, row by row: top left, centre, ...; row 1, column 2 where there are more than three."""
    rows, cols = regions
    if rows > 3 or cols > 3:
        return tuple(f"row {i + 1}, column {j + 1}" for i in range(rows) for j in range(cols))
    down = {1: ("",), 2: ("top", "bottom"), 3: ("top", "middle", "bottom")}[rows]
    right = {1: ("",), 2: ("left", "right"), 3: ("left", "centre", "right")}[cols]
    names = [" ".join(filter(None, (i, j))) or "whole picture" for i in down for j in right]
    return tuple("centre" if name == "middle centre" else name for name in names)


def adjacent(regions: tuple[int, int]) -> tuple[tuple[tuple[int, float], ...], ...]:
    """The regions above, left, right and below of each, with weight 1."""
    rows, cols = regions
    found = []
    for i in range(rows):
        for j in range(cols):
            around = ((i - 1, j), (i, j - 1), (i, j + 1), (i + 1, j))
            found.append(tuple((r * cols + c, 1.0) for r, c in around if 0 <= r < rows and 0 <= c < cols))
    return tuple(found)
