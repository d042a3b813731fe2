"""Splits of clips: windows of region features within each clip, or whole clips to classify."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import overload

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.data import video_features
from st2llm.data.windows.partition import shuffle_key
from st2llm.errors import DataError
from st2llm.tasks import Classify, Forecast, Task
from st2llm.types import Calendar, Document, Layout, Sample, Side, SplitPlan, Video, last_known_time

_TASK_TYPES = ("forecast", "impute", "interpolate", "krige", "classify")
_PARTS = ("train", "validation", "test")


class ClipFeatures:
    """Clips and the features of their regions, which are computed once for each clip, on first use."""

    def __init__(self, clips: list[Video]) -> None:
        self.clips = tuple(clips)
        self._values: dict[int, Float64[np.ndarray, "time node channel"]] = {}

    def values(self, clip: int) -> Float64[np.ndarray, "time node channel"]:
        """Brightness and motion of each region at each frame, or the brightness of its pixels; see `video_features`."""
        if clip not in self._values:
            video = self.clips[clip]
            self._values[clip] = (
                video_features.pixel_values(video.frames, video.regions, video.pixels)
                if video.pixels
                else video_features.region_values(video.frames, video.regions)
            )
        return self._values[clip]

    @cached_property
    def offsets(self) -> Int64[np.ndarray, " clip"]:
        """The number of frames in all clips before each clip."""
        return np.cumsum([0, *(len(clip.frames) for clip in self.clips)], dtype=np.int64)[:-1]


@dataclass(frozen=True, eq=False)
class ClipWindows(Sequence[Sample]):
    """The samples of one part of a split of clips; each is built on access.

    spans: the clip, the first frame and the frame after the last one of each sample.
    """

    clips: ClipFeatures
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
        """The first frame of each sample, counted through the frames of all clips."""
        first: Int64[np.ndarray, " window"] = self.clips.offsets[self.spans[:, 0]] + self.spans[:, 1]
        return first

    def select(self, positions: Iterable[int]) -> "ClipWindows":
        """The samples at these positions, in this order. Raises IndexError for a position out of range."""
        return replace(self, spans=self.spans[np.asarray(list(positions), dtype=np.int64)])

    @cached_property
    def sha256(self) -> str:
        """A hash of the clips, the task and every span."""
        digest = hashlib.sha256(f"{self.task.name} {self.task.length}\n".encode())
        for clip in self.clips.clips:
            pixels = f" {clip.regions} {clip.pixels}" if clip.pixels else ""
            digest.update(
                f"{clip.name} {clip.id} {clip.provenance.sha256} {len(clip.frames)}{pixels}\n".encode()
            )
        digest.update(self.spans.astype("<i8").tobytes())
        return digest.hexdigest()

    def _sample(self, clip: int, span: slice) -> Sample:
        video, raw = self.clips.clips[clip], self.clips.values(clip)[span]
        name = f"{video.name}/{video.id}/{span.start}"
        hidden = self.task.hidden(raw.shape, key=name)
        asked = np.isin(video_features.CHANNELS, video.asked) if not video.pixels else True
        wanted = hidden & asked
        classify = isinstance(self.task, Classify)
        time = np.rint(video.time_s[span] * 1000).astype(np.int64)
        documents = _documents(video, last_known_time(time, ~hidden, wanted))
        return Sample(
            id=name,
            kind=video.kind,
            values=np.where(hidden, np.nan, raw),
            visible=~hidden,
            wanted=wanted,
            time=time,
            place=_layout(video.regions).ids,
            side=replace(_side(video, span, hidden, classify=classify), documents=documents),
            truth=np.where(wanted, raw, np.nan),
            label=video.label if classify else None,
            task=self.task.type,
        )


def split_clips(
    clips: list[Video], task: Task, stride: int = 1
) -> tuple[ClipWindows, ClipWindows, ClipWindows]:
    """Train, validation and test samples of clips.

    Tasks that predict values: each clip is split by time into the shares of its split plan, then cut into windows
    `stride` frames apart that do not cross a boundary. A sample shows the frames of which nothing is hidden.
    Classification splits by clip: by the `part` of each clip, else by shares of the clips in order of their ids, or of
    the clips of each class (`by: class` in the split plan). A sample is a whole clip, or a window of `task.length`
    frames; it does not hold the caption.

    Raises DataError where there is no clip, a part has no room for a sample, a clip has no class or is shorter than the
    window, shares give a part a class that training lacks or the test part one class alone, or clips do not have the
    task.
    """
    if stride < 1:
        raise DataError(f"The stride between windows must be at least 1 frame, but it is {stride}.")
    if not clips:
        raise DataError("There is no clip to split. Give a list of at least one Video.")
    if task.type not in _TASK_TYPES:
        names = ", ".join(_TASK_TYPES)
        raise DataError(f"{clips[0].name}: clips have no task {task.type!r}. Choose one of {names}.")
    if isinstance(task, Forecast) and task.missing:
        raise DataError(
            f"{clips[0].name}: no frame of a clip can be missing, but forecast.missing is {task.missing:g}. Leave it "
            f"out: it is for graphs, grids and trajectories."
        )
    ordered = sorted(clips, key=lambda clip: clip.id)
    spans = _by_clip(ordered, task, stride) if isinstance(task, Classify) else _by_time(ordered, task, stride)
    features = ClipFeatures(ordered)
    train, validation, test = (
        ClipWindows(features, task, np.array(part, dtype=np.int64).reshape(-1, 3)) for part in spans
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
                f"window of {task.length} frames ({task.name}). Give the part a larger share or choose a "
                f"shorter window."
            )
    return parts


def _by_clip(clips: list[Video], task: Task, stride: int) -> tuple[FrameSpans, FrameSpans, FrameSpans]:
    parts: tuple[FrameSpans, FrameSpans, FrameSpans] = ([], [], [])
    assigned = _parts_of_clips(clips)
    for number, clip in enumerate(clips):
        if clip.label is None:
            raise DataError(
                f"{clip.name}: the clip {clip.id!r} has no class to predict. Give `label` in the data card."
            )
        length = task.length or len(clip.frames)
        if length > len(clip.frames):
            raise DataError(
                f"{clip.name}: the clip {clip.id!r} has {len(clip.frames)} frames, fewer than the window of {length}. "
                f"Choose a shorter window, or whole clips (length 0)."
            )
        starts = range(0, len(clip.frames) - length + 1, stride if task.length else length)
        parts[assigned[number]].extend((number, start, start + length) for start in starts)
    if all(clip.part is None for clip in clips):
        _check_classes(clips, assigned)
    return parts


def _parts_of_clips(clips: list[Video]) -> list[int]:
    """The part of each clip: its own, else by the shares of the split plan in order of name, or within each class."""
    plan = clips[0].split
    groups: dict[str | None, list[int]] = {}
    for number, clip in enumerate(clips):
        groups.setdefault(clip.label if plan.by == "class" else None, []).append(number)
    assigned = [0] * len(clips)
    for members in groups.values():
        if plan.by == "class":
            members.sort(key=lambda number: shuffle_key(clips[number].name, clips[number].id))
        cuts = np.array(_boundaries(plan, len(members)))
        for rank, number in enumerate(members):
            own = clips[number].part
            assigned[number] = int(np.searchsorted(cuts, rank, side="right")) - 1 if own is None else own
    return assigned


def _check_classes(clips: list[Video], assigned: list[int]) -> None:
    """Raises DataError where shares leave training without a class, or the test part with one class of several."""
    labels = [{clips[i].label for i, part in enumerate(assigned) if part == p} for p in range(len(_PARTS))]
    new = sorted(str(label) for label in (labels[1] | labels[2]) - labels[0])
    single = len(labels[2]) == 1 and assigned.count(2) > 1 and len(set.union(*labels)) > 1
    if not new and not single:
        return
    problem = (
        f"training lacks the class {new[0]!r}"
        if new
        else f"test holds the class {min(map(str, labels[2]))!r} alone"
    )
    parts = "name the clips of each part under `parts` in the data card"
    if clips[0].split.by == "class":
        raise DataError(
            f"{clips[0].name}: the clips of each class are split by shares, and so {problem}. Give training a larger "
            f"share, or {parts}."
        )
    raise DataError(
        f"{clips[0].name}: the clips are split by shares in order of name, and so {problem}. Add `by: class` to "
        f"`split`, which takes the shares of each class, or {parts}."
    )


def _boundaries(plan: SplitPlan, steps: int) -> tuple[int, int, int, int]:
    """Where train, validation and test begin, and where test ends. Rounding keeps 0.7 + 0.1 from losing a frame."""
    first, second = (
        steps if share > 1 - 1e-9 else int(round(share, 9) * steps + 1e-6)
        for share in (plan.train, plan.train + plan.validation)
    )
    return 0, first, second, steps


def _layout(regions: tuple[int, int]) -> Layout:
    return Layout(np.arange(regions[0], dtype=np.float64), np.arange(regions[1], dtype=np.float64))


def _side(video: Video, span: slice, hidden: np.ndarray, *, classify: bool) -> Side:
    visible = np.asarray(~hidden.any(axis=(1, 2)))
    frames = video.frames[span]
    steps = len(visible)
    zeros = np.zeros(steps, dtype=np.int64)
    return Side(
        dataset=video.name,
        unit="levels of 0 to 255",
        timezone="UTC",
        freq_s=0,
        calendar=Calendar(zeros, zeros, ("",) * steps),
        labels=region_names(video.regions),
        neighbours=adjacent(video.regions),
        description=video.description,
        quantity="brightness of pixels" if video.pixels else "brightness and motion",
        notes=(video.caption,) if video.caption and not classify else (),
        channels=video_features.channels_of(video.pixels),
        layout=_layout(video.regions),
        options=video.labels if classify else (),
        option_labels=tuple(label.replace("_", " ") for label in video.labels) if classify else (),
        frames=frames if visible.all() else frames[_slice_or_indices(visible)],
        fps=video.fps,
    )


def _documents(video: Video, known_ms: int | None) -> tuple[Document, ...]:
    """The documents about the clip that could be read at the last known time of a sample, for all of its regions."""
    at = None if known_ms is None else known_ms // 1000
    return tuple(replace(document, place="") for document in video.documents.visible(at, (video.id,)))


def _slice_or_indices(visible: np.ndarray) -> slice | np.ndarray:
    """The visible steps, as a slice where they are consecutive, so that no frame is copied."""
    steps = np.flatnonzero(visible)
    consecutive = len(steps) and steps[-1] - steps[0] + 1 == len(steps)
    return slice(int(steps[0]), int(steps[-1]) + 1) if consecutive else steps


def region_names(regions: tuple[int, int]) -> tuple[str, ...]:
    """Labels of the regions, row by row: top left, centre, ...; 'row 1, column 2' above three rows or columns."""
    rows, cols = regions
    if rows > 3 or cols > 3:
        return tuple(f"row {i + 1}, column {j + 1}" for i in range(rows) for j in range(cols))
    down = {1: ("",), 2: ("top", "bottom"), 3: ("top", "middle", "bottom")}[rows]
    right = {1: ("",), 2: ("left", "right"), 3: ("left", "centre", "right")}[cols]
    names = [" ".join(filter(None, (i, j))) or "whole picture" for i in down for j in right]
    return tuple("centre" if name == "middle centre" else name for name in names)


def adjacent(regions: tuple[int, int]) -> tuple[tuple[tuple[int, float], ...], ...]:
    """The regions above, left of, right of and below each region, with weight 1."""
    rows, cols = regions
    neighbours = []
    for i in range(rows):
        for j in range(cols):
            around = ((i - 1, j), (i, j - 1), (i, j + 1), (i + 1, j))
            neighbours.append(
                tuple((r * cols + c, 1.0) for r, c in around if 0 <= r < rows and 0 <= c < cols)
            )
    return tuple(neighbours)
