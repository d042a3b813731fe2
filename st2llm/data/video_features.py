"""Features of video frames, in numpy: brightness and motion of regions, block matching, cuts and colours."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from numpy.lib.stride_tricks import sliding_window_view

from st2llm.errors import DataError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

CHANNELS = ("brightness", "motion")
"""Mean luma (0 to 255), and mean absolute difference of luma from the frame before (0 to 255)."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""The weights of ITU-R BT.601."""
_FRAMES_PER_BLOCK = 32
SEARCH_PX = 7
"""The search range of block matching in pixels each way, in frames of at most MAX_SIDE_PX pixels a side."""
MAX_SIDE_PX = 160
_BLOCK = 8
_STILL_THRESHOLD = 2.0
"""Blocks whose luma changes by less than this on average are still; smaller changes are noise."""
_MAX_RESIDUAL = 0.7
"""A shift explains a change if at most this share of the change remains."""
_MIN_IMPROVEMENT = 0.05
_CUT_THRESHOLD = 0.5

Frames = UInt8[np.ndarray, "time row col 3"]


def luma(frames: Frames) -> Float32[np.ndarray, "time row col"]:
    """Brightness of each pixel, 0 to 255 (ITU-R BT.601)."""
    return np.asarray(frames @ _LUMA, dtype=np.float32)


def region_values(frames: Frames, regions: tuple[int, int]) -> Float64[np.ndarray, "time node channel"]:
    """The CHANNELS of each region, regions row by row. The motion of the first frame is 0.

    Raises DataError where a frame has fewer pixels than regions along a side.
    """
    values = np.zeros((len(frames), regions[0] * regions[1], len(CHANNELS)))
    last: Float32[np.ndarray, "one row col"] | None = None
    for start in range(0, len(frames), _FRAMES_PER_BLOCK):
        part = slice(start, start + _FRAMES_PER_BLOCK)
        light = luma(frames[part])
        joined = np.concatenate([light[:1] if last is None else last, light])
        values[part, :, 0] = region_means(light, regions)
        values[part, :, 1] = region_means(np.abs(np.diff(joined, axis=0)), regions)
        last = light[-1:]
    return values


def pixel_values(
    frames: Frames, regions: tuple[int, int], pixels: int
) -> Float64[np.ndarray, "time node channel"]:
    """The luma of `pixels` rows and columns of each region, row by row; regions row by row.

    A frame with more pixels than that is averaged. Raises DataError where it has fewer.
    """
    raster = (regions[0] * pixels, regions[1] * pixels)
    blocks = range(0, len(frames), _FRAMES_PER_BLOCK)
    means = np.concatenate(
        [region_means(luma(frames[start : start + _FRAMES_PER_BLOCK]), raster) for start in blocks]
    )
    split = means.reshape(len(frames), regions[0], pixels, regions[1], pixels).swapaxes(2, 3)
    return split.reshape(len(frames), regions[0] * regions[1], pixels**2)


def channels_of(pixels: int) -> tuple[str, ...]:
    """The names of the values of a region: CHANNELS, or its pixels by row and column where it has values of them."""
    sides = range(1, pixels + 1)
    return tuple(f"pixel {row},{col}" for row in sides for col in sides) if pixels else CHANNELS


def region_means(
    values: Float32[np.ndarray, "time row col"], regions: tuple[int, int]
) -> Float64[np.ndarray, "time node"]:
    """The mean of each region, regions row by row."""
    down, right = (region_edges(*pair) for pair in zip(values.shape[1:], regions, strict=True))
    sums = np.add.reduceat(np.add.reduceat(values, down[:-1], axis=1, dtype=np.float64), right[:-1], axis=2)
    means = sums / np.outer(np.diff(down), np.diff(right))
    return np.asarray(means.reshape(len(values), -1), dtype=np.float64)


def region_edges(pixels: int, parts: int) -> Int64[np.ndarray, " edge"]:
    """The start of each of `parts` equal parts of a side, and the end of the last. Raises DataError for small sides."""
    if not 1 <= parts <= pixels:
        raise DataError(
            f"Frames of {pixels} pixels along a side cannot be cut into {parts} regions. Correct `regions` or `size`."
        )
    return np.rint(np.linspace(0, pixels, parts + 1)).astype(np.int64)


@dataclass(frozen=True)
class RegionFlow:
    """The motion between two frames, by region.

    xy: pixels right and down; 0 where nothing moves. moving: the share of the region's area that changes.
    """

    xy: Float64[np.ndarray, "node 2"]
    moving: Float64[np.ndarray, " node"]


def block_flow(
    before: UInt8[np.ndarray, "row col 3"], after: UInt8[np.ndarray, "row col 3"], regions: tuple[int, int]
) -> RegionFlow:
    """The motion of regions by block matching: for each block that changes, the shift that explains it best.

    Shifts are at most SEARCH_PX pixels. The motion of a region is the mean of its moving blocks, weighted by how much
    they change. Frames larger than MAX_SIDE_PX are downscaled first, so that shifts reach further there.
    """
    key = (_digest(before), _digest(after), regions)
    return _cached(_FLOWS, key, lambda: _block_flow(before, after, regions))


def _block_flow(
    before: UInt8[np.ndarray, "row col 3"], after: UInt8[np.ndarray, "row col 3"], regions: tuple[int, int]
) -> RegionFlow:
    old, new, scale = _pooled(before), _pooled(after), _factor(before.shape)
    shifts, gain, moves = _matched(old, new)
    rows, cols = moves.shape
    nodes = _nodes_of_blocks(rows, cols, regions)
    weight = np.where(moves, gain, 0.0)
    xy, moving = np.zeros((regions[0] * regions[1], 2)), np.zeros(regions[0] * regions[1])
    for node in range(len(moving)):
        inside = nodes == node
        moving[node] = moves[inside].mean() if inside.any() else 0.0
        total = weight[inside].sum()
        if total > 0:
            xy[node] = scale * (shifts[inside] * weight[inside][:, None]).sum(axis=0) / total
    xy.setflags(write=False)
    moving.setflags(write=False)
    return RegionFlow(xy, moving)


_CACHE_SIZE = 4096
_FLOWS: OrderedDict[tuple[bytes, bytes, tuple[int, int]], RegionFlow] = OrderedDict()
_HISTOGRAMS: OrderedDict[bytes, Float64[np.ndarray, " bin"]] = OrderedDict()


def _digest(frame: UInt8[np.ndarray, "row col 3"]) -> bytes:
    return hashlib.blake2b(
        np.ascontiguousarray(frame).data, digest_size=16, person=repr(frame.shape).encode()[:16]
    ).digest()


def _cached(cache: OrderedDict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    """The value of a key from a cache of the _CACHE_SIZE most recently used ones; `make` computes a missing value."""
    if key in cache:
        cache.move_to_end(key)
        return cache[key]
    value = cache[key] = make()
    if len(cache) > _CACHE_SIZE:
        cache.popitem(last=False)
    return value


def shot_cuts(frames: Frames) -> Int64[np.ndarray, " cut"]:
    """The frames that start a new shot, which share less than half of their colours with the frame before.

    The measure is the share of the colour histogram (4 x 4 x 4 bins) that two frames do not have in common.
    """
    histograms = np.stack([_histogram(frame) for frame in frames])
    apart = np.abs(np.diff(histograms, axis=0)).sum(axis=1) / 2
    return np.flatnonzero(apart > _CUT_THRESHOLD).astype(np.int64) + 1


def named_colours(frame: UInt8[np.ndarray, "row col 3"]) -> list[tuple[str, float]]:
    """The names of the colours in a frame and their shares of its area, the largest first."""
    codes = _named(frame.reshape(-1, 3).astype(np.float32))
    shares = np.bincount(codes, minlength=len(COLOUR_NAMES)) / len(codes)
    order = np.argsort(-shares, kind="stable")
    return [(COLOUR_NAMES[i], float(shares[i])) for i in order if shares[i] > 0]


COLOUR_NAMES = (
    "black",
    "white",
    "grey",
    "red",
    "orange",
    "yellow",
    "green",
    "turquoise",
    "blue",
    "purple",
    "pink",
    "brown",
)


def _named(rgb: Float32[np.ndarray, "pixel 3"]) -> Int64[np.ndarray, " pixel"]:
    """The index in NAMES of each pixel's colour, from its hue, saturation and value."""
    red, green, blue = np.ascontiguousarray(rgb.T)
    high, low = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    spread = high - low
    saturation = spread / np.maximum(high, 1)
    hue = _hue((red, green, blue), high, np.maximum(spread, 1e-6))
    colour = np.array([3, 4, 5, 6, 7, 8, 9, 10, 3])[
        np.searchsorted([15, 45, 70, 165, 200, 260, 300, 345], hue, side="right")
    ]
    warm = (colour == 4) | ((colour == 3) & (saturation < 0.6)) | ((colour == 5) & (high < 140))
    colour = np.where(warm & (high < 170), 11, colour)
    dull = saturation < 0.18
    colour = np.where(dull, np.where(high > 200, 1, 2), colour)
    return np.where(high < 45, 0, colour).astype(np.int64)


def _hue(
    rgb: tuple[Float32[np.ndarray, " pixel"], Float32[np.ndarray, " pixel"], Float32[np.ndarray, " pixel"]],
    high: Float32[np.ndarray, " pixel"],
    spread: Float32[np.ndarray, " pixel"],
) -> Float32[np.ndarray, " pixel"]:
    """The hue in degrees: red 0, green 120, blue 240."""
    red, green, blue = rgb
    sixth = np.where(
        high == red,
        (green - blue) / spread,
        np.where(high == green, 2 + (blue - red) / spread, 4 + (red - green) / spread),
    )
    return np.asarray(60 * sixth % 360, dtype=np.float32)


def _histogram(frame: UInt8[np.ndarray, "row col 3"]) -> Float64[np.ndarray, " bin"]:
    """The shares of 4 x 4 x 4 colours; those of the last few thousand frames are remembered."""

    def count() -> Float64[np.ndarray, " bin"]:
        bins = frame >> 6
        codes = (bins[..., 0] << 4) | (bins[..., 1] << 2) | bins[..., 2]
        return np.bincount(codes.ravel(), minlength=64) / codes.size

    return _cached(_HISTOGRAMS, _digest(frame), count)


def _factor(shape: tuple[int, ...]) -> int:
    return -(-max(shape[:2]) // MAX_SIDE_PX)


def _pooled(frame: UInt8[np.ndarray, "row col 3"]) -> Float32[np.ndarray, "row2 col2"]:
    """Luma, averaged over blocks of pixels where the frame is larger than MAX_SIDE_PX."""
    light, factor = luma(frame[None])[0], _factor(frame.shape)
    rows, cols = (side // factor * factor for side in light.shape)
    squares = light[:rows, :cols].reshape(rows // factor, factor, cols // factor, factor)
    return np.asarray(squares.mean(axis=(1, 3)), dtype=np.float32)


def _matched(
    old: Float32[np.ndarray, "row col"], new: Float32[np.ndarray, "row col"]
) -> tuple[
    Float32[np.ndarray, "down right 2"], Float32[np.ndarray, "down right"], Bool[np.ndarray, "down right"]
]:
    """For each block of the newer frame: its shift (right, down), the change it explains, and whether it moves.

    Blocks that hardly change are not searched: their shift is 0.
    """
    rows, cols = (-(-side // _BLOCK) * _BLOCK for side in new.shape)
    more = (rows - new.shape[0], cols - new.shape[1])
    whole = np.pad(new, ((0, more[0]), (0, more[1])), mode="edge")
    padded = np.pad(old, ((SEARCH_PX, SEARCH_PX + more[0]), (SEARCH_PX, SEARCH_PX + more[1])), mode="edge")
    blocks = sliding_window_view(whole, (_BLOCK, _BLOCK))[::_BLOCK, ::_BLOCK]
    reach = 2 * SEARCH_PX + _BLOCK
    around = sliding_window_view(padded, (reach, reach))[::_BLOCK, ::_BLOCK]
    inside = padded[SEARCH_PX : SEARCH_PX + rows, SEARCH_PX : SEARCH_PX + cols]
    change = _changes(whole, inside)
    best, shifts = change.copy(), np.zeros((*change.shape, 2), dtype=np.float32)
    changing = change >= _STILL_THRESHOLD
    if changing.any():
        best[changing], shifts[changing] = _best_shifts(blocks[changing], around[changing], change[changing])
    moves = changing & (best <= _MAX_RESIDUAL * change) & shifts.any(axis=2)
    return shifts, change - best, moves


def _changes(
    first: Float32[np.ndarray, "row col"], second: Float32[np.ndarray, "row col"]
) -> Float32[np.ndarray, "down right"]:
    """The mean absolute difference of two frames over each block."""
    apart = np.abs(first - second)
    rows = apart.reshape(len(apart) // _BLOCK, _BLOCK, -1).sum(axis=1)
    return np.asarray(rows.reshape(len(rows), -1, _BLOCK).sum(axis=2) / _BLOCK**2, dtype=np.float32)


def _best_shifts(
    blocks: Float32[np.ndarray, "block row col"],
    around: Float32[np.ndarray, "block row2 col2"],
    change: Float32[np.ndarray, " block"],
) -> tuple[Float32[np.ndarray, " block"], Float32[np.ndarray, "block 2"]]:
    """The least difference of each block from the older frame around it, and the shift (right, down) that has it."""
    left = _differences_by_shift(blocks, around)
    best, shifts = change.copy(), np.zeros((len(blocks), 2), dtype=np.float32)
    for right, down in _NEAREST_FIRST:
        # A block that moved by (right, down) was at its position minus that shift in the older frame.
        rest = left[SEARCH_PX - down, SEARCH_PX - right]
        # Small improvements do not count, so that among equal shifts, as in plain areas, the shortest is kept.
        better = rest < best - _MIN_IMPROVEMENT
        if better.any():
            best[better] = rest[better]
            shifts[better] = (right, down)
    return best, shifts


_NEAREST_FIRST: tuple[tuple[int, int], ...] = tuple(
    sorted(
        (
            (x, y)
            for x in range(-SEARCH_PX, SEARCH_PX + 1)
            for y in range(-SEARCH_PX, SEARCH_PX + 1)
            if x or y
        ),
        key=lambda xy: (xy[0] ** 2 + xy[1] ** 2, xy),
    )
)
"""All shifts (right, down) but none, the shortest first."""


def _differences_by_shift(
    blocks: Float32[np.ndarray, "block row col"], around: Float32[np.ndarray, "block row2 col2"]
) -> Float32[np.ndarray, "down right block"]:
    """The difference of each block from each place of the area around it.

    Blocks lie along the last axis, so that each operation runs over all of them.
    """
    inner, outer = (np.ascontiguousarray(np.moveaxis(each, 0, -1)) for each in (blocks, around))
    places = sliding_window_view(outer, _BLOCK, axis=1).transpose(0, 1, 3, 2)
    return np.stack(
        [_difference(inner[:, None], places[down : down + _BLOCK]) for down in range(2 * SEARCH_PX + 1)]
    )


def _difference(
    first: Float32[np.ndarray, "row _ col block"], second: Float32[np.ndarray, "row place col block"]
) -> Float32[np.ndarray, "place block"]:
    """The mean absolute difference of blocks: the sum over rows, one after the other, then over columns in pairs.

    That is the order in which numpy adds up contiguous blocks, and it sets the last bits of a sum.
    """
    total = np.abs(first[0] - second[0])
    apart = np.empty_like(total)
    for row in range(1, _BLOCK):
        np.subtract(first[row], second[row], out=apart)
        total += np.abs(apart, out=apart)
    while total.shape[1] > 1:
        total = total[:, ::2] + total[:, 1::2]
    return np.asarray(total[:, 0] / _BLOCK**2, dtype=np.float32)


def _nodes_of_blocks(rows: int, cols: int, regions: tuple[int, int]) -> Int64[np.ndarray, "down right"]:
    """The region that holds the centre of each block."""
    down = np.minimum(((np.arange(rows) + 0.5) / rows * regions[0]).astype(np.int64), regions[0] - 1)
    right = np.minimum(((np.arange(cols) + 0.5) / cols * regions[1]).astype(np.int64), regions[1] - 1)
    return down[:, None] * regions[1] + right[None, :]
