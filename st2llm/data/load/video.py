"""Builds clips from a video card: mp4, avi and mkv files, decoded by PyAV and downscaled while they are read."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import av
import numpy as np
import regex
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8

from st2llm.data import safe_open, video_features
from st2llm.data.card.video import CSV_PREFIX, VideoCard
from st2llm.data.load import provenance
from st2llm.data.load.side.documents import DocumentPlaces, read_documents
from st2llm.data.read.display_matrix import orientation_of
from st2llm.data.read.whole_table import read_table
from st2llm.display import ContainerList
from st2llm.errors import DataError, nearest
from st2llm.types import NO_DOCUMENTS, DocumentSet, Provenance, Video

MAX_PIXELS = 2**26
"""The largest frame that is decoded."""
MAX_BYTES = 4 * 2**30
"""The most that the frames of a data set may take in memory."""
MAX_LOST_SHARE = 0.5
_FRAME_TOLERANCE = 0.05
"""The share of a period by which a frame may be early when frames are thinned: times are rounded to milliseconds."""
_PATTERN_SECONDS = 1.0
"""How long the pattern of `label` may take on one name: some patterns take years."""
# Playlists and lists of files are formats as well, and would open the files and addresses that they name.
_OPTIONS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi",
    "protocol_whitelist": "file",
}
_DAMAGED_FRAME_ERRORS = (
    "InvalidDataError",
    "UnknownError",
    "PatchWelcomeError",
    "EOFError",
    "BugError",
    "ExternalError",
)
"""The errors of PyAV that mean one damaged frame."""


@dataclass(frozen=True)
class DecodeOptions:
    """How clips are decoded. size: the most rows and columns. fps: the most frames a second. max_frames: in a clip."""

    size: tuple[int, int] = (160, 160)
    fps: float | None = None
    max_frames: int | None = None


@dataclass
class _DecodeState:
    """The frames that were kept so far, and counts of what happened."""

    kept: list[UInt8[np.ndarray, "row col 3"]] = field(default_factory=list)
    time_s: list[float] = field(default_factory=list)
    decoded: int = 0
    lost: int = 0
    repeated: int = 0
    unstamped: int = 0
    turned: Counter[str] = field(default_factory=Counter)
    end_s: float = 0.0
    bytes: int = 0
    next_period: int = 0


@dataclass(frozen=True)
class DecodedClip:
    """The frames of one file. time_s: seconds from the first frame. steps: what was done to the frames, in words."""

    frames: UInt8[np.ndarray, "time row col 3"]
    time_s: np.ndarray
    fps: float
    steps: tuple[str, ...]


@dataclass(frozen=True)
class ClipLabels:
    """What is known of a clip besides its frames. classes, documents: of all clips. stem: the name of its file."""

    id: str
    stem: str
    label: str | None
    classes: tuple[str, ...]
    caption: str = ""
    documents: DocumentSet = NO_DOCUMENTS


def build(card: VideoCard, files: dict[str, Path]) -> ContainerList[Video]:
    """The clips that a card describes, in order of name; `files` maps the names in the card to paths.

    Raises DataError where a file is not a video, or labels and files do not match.
    """
    names = sorted(set(files) - set(card.tables()))
    ids = _ids(names)
    labels = _labels(card, files, names)
    captions = _captions(card, files, names)
    classes = tuple(sorted({label for label in labels.values() if label}))
    documents, steps = read_documents(
        card.side, files, card.timezone, DocumentPlaces.of(ids.values(), relative=True)
    )
    options = DecodeOptions(card.size, card.fps, card.max_frames)
    clips, bytes_left = [], MAX_BYTES
    for name in names:
        decoded = decode(files[name], options, max_bytes=bytes_left)
        bytes_left -= decoded.frames.nbytes
        stem, caption = PurePosixPath(name).stem, captions.get(name, "")
        described = ClipLabels(ids[name], stem, labels.get(name), classes, caption, documents)
        source = provenance.provenance_of(card, {name: files[name]}, (*decoded.steps, *steps))
        clips.append(clip_of(card, decoded, described, source))
    return ContainerList(clips)


def clip_of(card: VideoCard, decoded: DecodedClip, described: ClipLabels, source: Provenance) -> Video:
    """The clip of decoded frames. Raises DataError where frames are smaller than `regions`, or than their `pixels`."""
    _check_regions(card, described.id, decoded)
    return Video(
        name=card.name,
        id=described.id,
        frames=decoded.frames,
        time_s=decoded.time_s,
        fps=decoded.fps,
        label=described.label,
        labels=described.classes,
        caption=described.caption,
        regions=card.regions,
        asked=tuple(card.asked),
        pixels=card.pixels,
        part=card.part_of(described.stem),
        split=card.plan(),
        description=card.description,
        default_task=dict(card.default_task),
        provenance=source,
        documents=described.documents,
    )


def decode(path: Path, options: DecodeOptions | None = None, *, max_bytes: int = MAX_BYTES) -> DecodedClip:
    """The frames of a file and their times: turned as the file says, downscaled and thinned.

    max_bytes: the most memory that the frames may take. Raises DataError where the file is not mp4, avi or mkv, has no
    frame, lacks more than half of its frames, or takes too much memory. The file is closed in any case.
    """
    options = options or DecodeOptions()
    try:
        with av.open(
            str(safe_open.checked_file(path)), options=_OPTIONS, metadata_errors="replace"
        ) as container:
            return _decode_container(container, path, options, max_bytes)
    except (av.FFmpegError, ValueError, OverflowError, MemoryError) as error:
        reason = " ".join(str(getattr(error, "strerror", "") or error).split()) or type(error).__name__
        raise DataError(
            f"{path} cannot be read as a video: {reason[:160]}. An mp4, avi or mkv file is expected: get it again, or "
            f"convert it."
        ) from error


def _decode_container(
    container: InputContainer, path: Path, options: DecodeOptions, max_bytes: int
) -> DecodedClip:
    if not container.streams.video:
        raise DataError(f"{path} has no video stream. Leave it out of `files`, or get the right file.")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise DataError(f"{path} has frames in an unknown codec. Convert it, for instance to H.264.")
    if stream.width * stream.height > MAX_PIXELS:
        raise DataError(
            f"{path} has frames of {stream.width} x {stream.height}, more than {MAX_PIXELS} pixels. Convert it."
        )
    state = _DecodeState()
    complete = True
    for frame in _frames(container, stream, state):
        _keep_if_due(frame, stream, options, state)
        if state.bytes > max_bytes:
            raise DataError(
                f"{path}: the frames of the data set take over {MAX_BYTES / 2**30:.0f} GiB. Set `size`, `fps` or "
                f"`max_frames` in the card."
            )
        if options.max_frames is not None and len(state.kept) >= options.max_frames:
            complete = False
            break
    if complete:
        state.lost = max(state.lost, _declared_frames(container, stream, state) - state.decoded)
    if not state.kept:
        raise DataError(
            f"{path} has no frame that can be decoded ({state.lost} are damaged). Get the file again."
        )
    if state.lost > MAX_LOST_SHARE * (state.lost + state.decoded):
        raise DataError(
            f"{path} is damaged or truncated: {state.lost} of {state.lost + state.decoded} frames are lost, more than "
            f"half. Get the file again."
        )
    return _decoded_clip(stream, options, state, complete)


def _frames(container: InputContainer, stream: VideoStream, state: _DecodeState) -> Iterator[VideoFrame]:
    """The frames that can be decoded; the others are counted as lost."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            _reraise_unless_damaged(error)
            state.lost += 1
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            _reraise_unless_damaged(error)
            state.lost += 1
            continue
        for frame in frames:
            if frame.is_corrupt:
                state.lost += 1
            else:
                state.decoded += 1
                yield frame


def _reraise_unless_damaged(error: av.FFmpegError) -> None:
    """Raises errors that do not come from damaged frames, such as a failing disk."""
    if type(error).__name__ not in _DAMAGED_FRAME_ERRORS:
        raise error


def _keep_if_due(frame: VideoFrame, stream: VideoStream, options: DecodeOptions, state: _DecodeState) -> None:
    """Keeps a frame if it is the first of its period."""
    time = frame.time
    if time is None:
        state.unstamped += 1
        time = (state.decoded - 1) / float(stream.average_rate or 25)
    duration = frame.duration * frame.time_base if frame.duration and frame.time_base else 0
    state.end_s = max(state.end_s, float(time + duration))
    if state.time_s and time <= state.time_s[-1]:
        state.repeated += 1
        return
    if options.fps is not None:
        period = math.floor(
            (time - (state.time_s[0] if state.time_s else time)) * options.fps + _FRAME_TOLERANCE
        )
        if period < state.next_period:
            return
        state.next_period = period + 1
    orientation = orientation_of(frame)
    rows, cols = _scaled_shape(frame, options.size, transposed=orientation.transposed)
    small = frame.reformat(width=cols, height=rows, format="rgb24", interpolation="AREA").to_ndarray()
    upright = orientation.apply(small)
    if state.kept and upright.shape != state.kept[0].shape:
        # A few streams change their size: later frames take the size of the first.
        first = state.kept[0].shape
        shape = (first[1], first[0]) if orientation.transposed else (first[0], first[1])
        resized = frame.reformat(
            width=shape[1], height=shape[0], format="rgb24", interpolation="AREA"
        ).to_ndarray()
        upright = orientation.apply(resized)
    if orientation.step:
        state.turned[orientation.step] += 1
    state.kept.append(upright)
    state.time_s.append(float(time))
    state.bytes += upright.nbytes


def _scaled_shape(frame: VideoFrame, most: tuple[int, int], *, transposed: bool) -> tuple[int, int]:
    """Rows and columns of the stored frame, scaled so that it fits into `most` as it is shown."""
    rows, cols = (most[1], most[0]) if transposed else most
    scale = min(1.0, rows / frame.height, cols / frame.width)
    return max(1, round(frame.height * scale)), max(1, round(frame.width * scale))


def _declared_frames(container: InputContainer, stream: VideoStream, state: _DecodeState) -> int:
    """The number of frames that the file's header gives, else the number that was decoded."""
    if stream.frames:
        return int(stream.frames)
    rate = stream.average_rate
    if container.duration is None or not rate or len(container.streams) != 1 or not state.time_s:
        return state.decoded
    # Times are rounded and the duration of the last frame is an estimate, so one missing frame does not count.
    missing = math.floor((container.duration / av.time_base - state.end_s) * float(rate) + 0.2)
    return state.decoded + (missing if missing > 1 else 0)


def _decoded_clip(
    stream: VideoStream, options: DecodeOptions, state: _DecodeState, complete: bool
) -> DecodedClip:
    time_s = np.array(state.time_s, dtype=np.float64) - state.time_s[0]
    kept = np.stack(state.kept)
    fps = (len(time_s) - 1) / time_s[-1] if len(time_s) > 1 else float(stream.average_rate or 0.0)
    rows, cols = kept.shape[1:3]
    steps = [
        (state.lost, f"skipped {state.lost} frames that are damaged or missing"),
        (state.repeated, f"left out {state.repeated} frames whose time is not after the frame before"),
        (state.unstamped, f"placed {state.unstamped} frames without a time at the mean frame rate of the file"),
        *((count, f"{step} {count} frames as the file says") for step, count in state.turned.items()),
        ((rows, cols) not in ((stream.height, stream.width), (stream.width, stream.height)),
         f"downscaled frames from {stream.height} x {stream.width} (rows x columns) to {rows} x {cols}"),
        (options.fps is not None and len(kept) < state.decoded - state.repeated,
         f"kept {len(kept)} of {state.decoded} frames, at most {options.fps or 0:g} a second"),
        (not complete, f"read only the first {len(kept)} frames"),
    ]  # fmt: skip
    return DecodedClip(kept, time_s, float(fps), tuple(step for happened, step in steps if happened))


def _check_regions(card: VideoCard, name: str, decoded: DecodedClip) -> None:
    try:
        for side, parts in zip(decoded.frames.shape[1:3], card.regions, strict=True):
            video_features.region_edges(side, parts * max(1, card.pixels))
    except DataError as error:
        raise DataError(f"{card.name}, {name}: {error}") from error


def _ids(names: list[str]) -> dict[str, str]:
    """The stem of each file; where stems repeat, the path without its suffix."""
    stems = [PurePosixPath(name).stem for name in names]
    if len(set(stems)) == len(stems):
        return dict(zip(names, stems, strict=True))
    paths = [PurePosixPath(name).with_suffix("").as_posix() for name in names]
    unique = len(set(paths)) == len(paths)
    return dict(zip(names, paths if unique else names, strict=True))


def _labels(card: VideoCard, files: Mapping[str, Path], names: list[str]) -> dict[str, str]:
    rule = card.label
    if rule is None:
        return {}
    if rule == "stem":
        return {name: PurePosixPath(name).stem for name in names}
    if rule.startswith(CSV_PREFIX):
        return _table_column(files[rule.removeprefix(CSV_PREFIX)], "label", names)
    labels = {}
    for name in names:
        try:
            match = regex.search(rule, name, timeout=_PATTERN_SECONDS)
        except TimeoutError as error:
            raise DataError(
                f"{card.name}: `label: {rule[:80]}` takes over {_PATTERN_SECONDS:g} s on the name {name[:80]!r}. "
                f"Write it without a repetition inside a repetition."
            ) from error
        if match is None or not match["label"]:
            raise DataError(
                f"{card.name}: the name {name!r} does not match `label: {rule}`. Correct the pattern."
            )
        labels[name] = match["label"]
    return labels


def _captions(card: VideoCard, files: Mapping[str, Path], names: list[str]) -> dict[str, str]:
    rule = card.captions
    if isinstance(rule, str):
        return _table_column(files[rule.removeprefix(CSV_PREFIX)], "caption", names)
    stems = {PurePosixPath(name).stem: name for name in names}
    for stem in rule or {}:
        if stem not in stems:
            raise DataError(
                f"{card.name}: `captions` names {stem!r}, but no clip does. {nearest(stem, stems)}"
            )
    return {stems[stem]: caption for stem, caption in (rule or {}).items()}


def _table_column(path: Path, column: str, names: list[str]) -> dict[str, str]:
    """A column of a table by clip, whose file may be named without suffix. Raises DataError for a missing clip."""
    table = read_table(path)
    for needed in ("file", column):
        if needed not in table.columns:
            raise DataError(
                f"{path} has no column {needed!r}. {nearest(needed, [str(c) for c in table.columns])}"
            )
    cells = {
        str(name): str(cell).strip()
        for name, cell in zip(table["file"], table[column], strict=True)
        if isinstance(cell, str) and cell.strip()
    }
    values = {}
    for name in names:
        known = [key for key in (name, PurePosixPath(name).name, PurePosixPath(name).stem) if key in cells]
        if not known:
            raise DataError(
                f"{path} has no {column} for the clip {name!r}. {nearest(name, cells)} Add its row."
            )
        values[name] = cells[known[0]]
    return values
