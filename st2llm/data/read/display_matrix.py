"""How the frames of a video file are turned and mirrored for display: the display matrix of its container or codec."""

from dataclasses import dataclass

import numpy as np
from av import VideoFrame
from av.sidedata.sidedata import Type
from jaxtyping import UInt8


@dataclass(frozen=True)
class Orientation:
    """The display of a stored frame: perhaps with rows and columns exchanged, then with rows or columns reversed."""

    transposed: bool = False
    rows_reversed: bool = False
    cols_reversed: bool = False

    def apply(self, frame: UInt8[np.ndarray, "row col 3"]) -> UInt8[np.ndarray, "row col 3"]:
        """The frame as it is shown."""
        shown = frame.transpose(1, 0, 2) if self.transposed else frame
        shown = shown[:: -1 if self.rows_reversed else 1, :: -1 if self.cols_reversed else 1]
        return np.ascontiguousarray(shown)

    @property
    def step(self) -> str:
        """What `apply` does, in a word; '' where it does nothing."""
        if not (self.transposed or self.rows_reversed or self.cols_reversed):
            return ""
        # A rotation reverses one axis of an exchange, or both axes of none.
        rotates = (self.rows_reversed != self.cols_reversed) == self.transposed
        return "rotated" if rotates else "mirrored"


UPRIGHT = Orientation()


def orientation_of(frame: VideoFrame) -> Orientation:
    """The orientation that a decoded frame carries, to the nearest quarter turn.

    A display matrix maps x, y of a pixel to (a x + c y, b x + d y), with y pointing down (ISO 14496-12, 6.2.2; FFmpeg's
    libavutil/display.h).
    """
    for side_data in frame.side_data:
        if side_data.type == Type.DISPLAYMATRIX:
            a, b, _, c, d = np.frombuffer(bytes(side_data), dtype="<i4")[:5].astype(np.int64).tolist()
            if abs(b) + abs(c) > abs(a) + abs(d):
                return Orientation(True, rows_reversed=b < 0, cols_reversed=c < 0)
            return Orientation(False, rows_reversed=d < 0, cols_reversed=a < 0)
    return UPRIGHT
