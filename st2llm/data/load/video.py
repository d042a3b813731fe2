"""A video card and its files to clips: mp4, avi and mkv through PyAV, made small while they are read."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8

from st2llm.data import safe_open, video_features
from st2llm.data.card.video import CSV_PREFIX, VideoCard
from st2llm.data.load import provenance
from st2llm.errors import DataError, nearest
from st2llm.types import Video

MAX_PIXELS = 2**26
"""The largest frame that is decoded."""
MAX_BYTES = 4 * 2**30
"""The most that the frames of a data set may take in memory."""
MAX_LOST_SHARE = 0.5
_FRAME_TOLERANCE = 0.05
"""How much of a period a frame may come before its turn when frames are thinned: stamps are rounded to milliseconds."""
# Playlists and lists of files are formats, too, and would open what they name: other files, addresses.
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
"""What a decoder says of one damaged frame, by the names of PyAV's errors."""


@dataclass(frozen=True)
class DecodeOptions:
    """How clips are read. size: the most rows and columns. fps: the most frames a second. max_frames: of a clip."""

    size: tuple[int, int] = (160, 160)
    fps: float | None = None
    max_frames: int | None = None


@dataclass
class _DecodeState:
    """What happened while a clip was read."""

    kept: list[UInt8[np.ndarray, "row col 3"]] = field(default_factory=list)
    time_s: list[float] = field(default_factory=list)
    decoded: int = 0
    lost: int = 0
    repeated: int = 0
    unstamped: int = 0
    turned: int = 0
    end_s: float = 0.0
    bytes: int = 0
    next_turn: int = 0


@dataclass(frozen=True)
class DecodedClip:
    """The frames of one file. steps: what was done to them, in words."""

    frames: UInt8[np.ndarray, "time row col 3"]
    time_s: np.ndarray
    fps: float
    steps: tuple[str, ...]


def build(card: VideoCard, files: dict[str, Path]) -> list[Video]:
    """The clips that a card describes, in order of name; `files` maps the names the card uses to paths.

    Raises DataError where a file is no video, or labels and files do not fit.
    """
    names = sorted(set(files) - set(card.tables()))
    ids = _ids(names)
    labels = _labels(card, files, names)
    captions = _captions(card, files, names)
    classes = tuple(sorted({label for label in labels.values() if label}))
    how = DecodeOptions(card.size, card.fps, card.max_frames)
    clips, room = [], MAX_BYTES
    for name in names:
        footage = decode(files[name], how, room=room)
        room -= footage.frames.nbytes
        _check_regions(card, name, footage)
        clips.append(
            Video(
                name=card.name,
                id=ids[name],
                frames=footage.frames,
                time_s=footage.time_s,
                fps=footage.fps,
                label=labels.get(name),
                labels=classes,
                caption=captions.get(name, ""),
                regions=card.regions,
                asked=tuple(card.asked),
                part=card.part_of(PurePosixPath(name).stem),
                split=card.plan(),
                description=card.description,
                default_task=dict(card.default_task),
                provenance=provenance.provenance_of(card, {name: files[name]}, footage.steps),
            )
        )
    return clips


def decode(path: Path, how: DecodeOptions | None = None, *, room: int = MAX_BYTES) -> DecodedClip:
    """The frames of a file and when each is shown, turned as the file says, made small, thinned.

    room: bytes that the frames may take. Raises DataError where the file is no mp4, avi or mkv, has no frame, is so
    damaged that more than half of its frames are lost, or takes too much room; the file is closed in any case.
    """
    how = how or DecodeOptions()
    try:
        with av.open(
            str(safe_open.checked_file(path)), options=_OPTIONS, metadata_errors="replace"
        ) as container:
            return _decode_container(container, path, how, room)
    except (av.FFmpegError, ValueError, OverflowError, MemoryError) as error:
        said = " ".join(str(getattr(error, "strerror", "") or error).split()) or type(error).__name__
        raise DataError(
            f"{path} cannot be read as a video: {said[:160]}. An mp4, avi or mkv file is expected: get it again, or "
            f"convert it."
        ) from error


def _decode_container(container: InputContainer, path: Path, how: DecodeOptions, room: int) -> DecodedClip:
    if not container.streams.video:
        raise DataError(f"{path} has no video stream. Leave it out of `files`, or get the right file.")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise DataError(
            f"{path} has pictures in a coding that is not known here. Convert it, for instance to H.264."
        )
    if stream.width * stream.height > MAX_PIXELS:
        raise DataError(
            f"{path} has frames of {stream.width} x {stream.height}, more than {MAX_PIXELS} pixels. Convert it."
        )
    tally = _DecodeState()
    whole = True
    for frame in _frames(container, stream, tally):
        _keep_if_due(frame, stream, how, tally)
        if tally.bytes > room:
            raise DataError(
                f"{path}: the frames of the data set take over {MAX_BYTES / 2**30:.0f} GiB. Set `size`, `fps` or "
                f"`max_frames` in the card."
            )
        if how.max_frames is not None and len(tally.kept) >= how.max_frames:
            whole = False
            break
    if whole:
        tally.lost = max(tally.lost, _declared_frames(container, stream, tally) - tally.decoded)
    if not tally.kept:
        raise DataError(
            f"{path} has no frame that can be shown ({tally.lost} are damaged). Get the file again."
        )
    if tally.lost > MAX_LOST_SHARE * (tally.lost + tally.decoded):
        raise DataError(
            f"{path} is damaged or cut off: {tally.lost} of {tally.lost + tally.decoded} frames are lost, more than "
            f"half. Get the file again."
        )
    return _decoded_clip(stream, how, tally, whole)


def _frames(container: InputContainer, stream: VideoStream, tally: _DecodeState) -> Iterator[VideoFrame]:
    """The frames that can be shown; those that cannot are counted as lost."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            _reraise_unless_damaged(error)
            tally.lost += 1
            return
        if packet is None:
            return
        try:
            found = packet.decode()
        except av.FFmpegError as error:
            _reraise_unless_damaged(error)
            tally.lost += 1
            continue
        for frame in found:
            if frame.is_corrupt:
                tally.lost += 1
            else:
                tally.decoded += 1
                yield frame


def _reraise_unless_damaged(error: av.FFmpegError) -> None:
    """Raises what is no matter of damaged frames: a disk that fails, memory that runs out."""
    if type(error).__name__ not in _DAMAGED_FRAME_ERRORS:
        raise error


def _keep_if_due(frame: VideoFrame, stream: VideoStream, how: DecodeOptions, tally: _DecodeState) -> None:
    """Keeps a frame where its turn has come."""
    time = frame.time
    if time is None:
        tally.unstamped += 1
        time = (tally.decoded - 1) / float(stream.average_rate or 25)
    lasts = frame.duration * frame.time_base if frame.duration and frame.time_base else 0
    tally.end_s = max(tally.end_s, float(time + lasts))
    if tally.time_s and time <= tally.time_s[-1]:
        tally.repeated += 1
        return
    if how.fps is not None:
        turn = math.floor((time - (tally.time_s[0] if tally.time_s else time)) * how.fps + _FRAME_TOLERANCE)
        if turn < tally.next_turn:
            return
        tally.next_turn = turn + 1
    quarter = round(frame.rotation / 90) % 4
    rows, cols = _scaled_shape(frame, quarter, how.size)
    small = frame.reformat(width=cols, height=rows, format="rgb24", interpolation="AREA").to_ndarray()
    turned = np.ascontiguousarray(np.rot90(small, quarter))
    if tally.kept and turned.shape != tally.kept[0].shape:
        # Rare streams change their size on the way: the frames before decide.
        first = tally.kept[0].shape
        shape = (first[1], first[0]) if quarter % 2 else (first[0], first[1])
        again = frame.reformat(
            width=shape[1], height=shape[0], format="rgb24", interpolation="AREA"
        ).to_ndarray()
        turned = np.ascontiguousarray(np.rot90(again, quarter))
    tally.turned += quarter != 0
    tally.kept.append(turned)
    tally.time_s.append(float(time))
    tally.bytes += turned.nbytes


def _scaled_shape(frame: VideoFrame, quarter: int, most: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the frame as it is stored, so small that it fits once it is turned."""
    rows, cols = most if quarter % 2 == 0 else (most[1], most[0])
    scale = min(1.0, rows / frame.height, cols / frame.width)
    return max(1, round(frame.height * scale)), max(1, round(frame.width * scale))


def _declared_frames(container: InputContainer, stream: VideoStream, tally: _DecodeState) -> int:
    """How many frames the file should have by its own head, where it says so; else as many as were decoded."""
    if stream.frames:
        return int(stream.frames)
    rate = stream.average_rate
    if container.duration is None or not rate or len(container.streams) != 1 or not tally.time_s:
        return tally.decoded
    # Stamps are rounded to milliseconds, and the length of the last frame is a guess: one frame is no loss.
    missing = math.floor((container.duration / av.time_base - tally.end_s) * float(rate) + 0.2)
    return tally.decoded + (missing if missing > 1 else 0)


def _decoded_clip(stream: VideoStream, how: DecodeOptions, tally: _DecodeState, whole: bool) -> DecodedClip:
    time_s = np.array(tally.time_s, dtype=np.float64) - tally.time_s[0]
    kept = np.stack(tally.kept)
    fps = (len(time_s) - 1) / time_s[-1] if len(time_s) > 1 else float(stream.average_rate or 0.0)
    rows, cols = kept.shape[1:3]
    told = [
        (tally.lost, f"skipped {tally.lost} frames that are damaged or missing"),
        (tally.repeated, f"left out {tally.repeated} frames whose stamp does not come after the one before"),
        (tally.unstamped, f"{tally.unstamped} frames without a stamp are taken to follow at the file's mean rate"),
        (tally.turned, f"turned {tally.turned} frames upright as the file says"),
        ((rows, cols) not in ((stream.height, stream.width), (stream.width, stream.height)),
         f"made frames of {stream.height} x {stream.width} (rows x columns) smaller: {rows} x {cols}"),
        (how.fps is not None and len(kept) < tally.decoded - tally.repeated,
         f"kept {len(kept)} of {tally.decoded} frames, at most {how.fps or 0:g} a second"),
        (not whole, f"read the first {len(kept)} frames alone"),
    ]  # fmt: skip
    return DecodedClip(kept, time_s, float(fps), tuple(words for happened, words in told if happened))


def _check_regions(card: VideoCard, name: str, footage: DecodedClip) -> None:
    try:
        video_features.region_edges(footage.frames.shape[1], card.regions[0])
        video_features.region_edges(footage.frames.shape[2], card.regions[1])
    except DataError as error:
        raise DataError(f"{card.name}, {name}: {error}") from error


def _ids(names: list[str]) -> dict[str, str]:
    """The stem of each file; where stems repeat, the path without its end."""
    stems = [PurePosixPath(name).stem for name in names]
    if len(set(stems)) == len(stems):
        return dict(zip(names, stems, strict=True))
    paths = [PurePosixPath(name).with_suffix("").as_posix() for name in names]
    whole = len(set(paths)) == len(paths)
    return dict(zip(names, paths if whole else names, strict=True))


def _labels(card: VideoCard, files: Mapping[str, Path], names: list[str]) -> dict[str, str]:
    rule = card.label
    if rule is None:
        return {}
    if rule == "stem":
        return {name: PurePosixPath(name).stem for name in names}
    if rule.startswith(CSV_PREFIX):
        return _table_column(files[rule.removeprefix(CSV_PREFIX)], "label", names)
    found = {}
    for name in names:
        match = re.search(rule, name)
        if match is None or not match["label"]:
            raise DataError(
                f"{card.name}: the name {name!r} does not fit `label: {rule}`. Correct the pattern."
            )
        found[name] = match["label"]
    return found


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
    return {stems[stem]: words for stem, words in (rule or {}).items()}


def _table_column(path: Path, column: str, names: list[str]) -> dict[str, str]:
    """What a table says of each clip, by its name with or without the end. Raises DataError for one it lacks."""
    table = safe_open.csv(path, text=["file", column])
    for needed in ("file", column):
        if needed not in table.columns:
            raise DataError(
                f"{path} has no column {needed!r}. {nearest(needed, [str(c) for c in table.columns])}"
            )
    words = {
        str(name): str(word).strip()
        for name, word in zip(table["file"], table[column], strict=True)
        if isinstance(word, str) and word.strip()
    }
    found = {}
    for name in names:
        known = [key for key in (name, PurePosixPath(name).name, PurePosixPath(name).stem) if key in words]
        if not known:
            raise DataError(
                f"{path} has no {column} of the clip {name!r}. {nearest(name, words)} Add its row."
            )
        found[name] = words[known[0]]
    return found
