"""Small films written to disk, and the mistakes that files of films have."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 25


def square_film(count: int = 20, rows: int = 48, cols: int = 64, *, step: int = 2) -> np.ndarray:
    """A white square of 16 pixels that moves `step` pixels to the right from frame to frame, on dark grey."""
    frames = np.full((count, rows, cols, 3), 40, dtype=np.uint8)
    for i in range(count):
        left = (4 + step * i) % (cols - 16)
        frames[i, 16:32, left : left + 16] = 230
    return frames


def write(
    path: Path, frames: np.ndarray, *, codec: str = "ffv1", times_ms: Sequence[int] | None = None
) -> Path:
    """A file of these RGB frames; ffv1 loses nothing, mpeg4 little. times_ms: when each is shown (40 ms apart else)."""
    times = times_ms if times_ms is not None else [i * 1000 // RATE for i in range(len(frames))]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p" if codec == "mpeg4" else "bgr0"
        base = Fraction(1, RATE) if times_ms is None else Fraction(1, 1000)
        stream.codec_context.time_base = base
        if codec == "mpeg4":
            stream.bit_rate = 4_000_000
            stream.options = {"g": "1"}
        for time, picture in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.time_base = base
            frame.pts = round(Fraction(time, 1000) / base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """A file with sound and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path: Path, a: int = 0, b: int = 1, c: int = -1, d: int = 0) -> Path:
    """Says in an mp4 that a pixel at x, y is shown at (a x + c y, b x + d y); by default a quarter turn clockwise."""
    one = 1 << 16
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    content[at : at + 36] = b"".join(
        n.to_bytes(4, "big", signed=True) for n in (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    )
    path.write_bytes(content)
    return path


def packets(path: Path) -> list[tuple[int, int]]:
    """Where each packet of a file begins, and its size."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None]


def spoil(path: Path, which: Sequence[int]) -> Path:
    """Overwrites the content of some packets."""
    content = bytearray(path.read_bytes())
    for number in which:
        begin, size = packets(path)[number]
        content[begin : begin + size + 8] = b"\xff" * (size + 8)
    path.write_bytes(bytes(content[: path.stat().st_size]))
    return path
