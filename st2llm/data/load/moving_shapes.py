"""Generates clips of moving shapes, as training data that needs no download."""

import numpy as np

from st2llm.display import ContainerList
from st2llm.errors import DataError
from st2llm.types import Provenance, SplitPlan, Video

_ROWS, _COLS, _FPS = 72, 96, 12.0


def moving_shapes(count: int, *, frames: int = 16, seed: int = 0) -> ContainerList[Video]:
    """`count` clips of one or two squares that move over a textured wall, of `frames` frames each, 12 a second.

    Size, contrast, place, direction and speed are random. Half of the clips grow brighter or darker; a quarter cut to
    another wall. The same seed gives the same clips. Raises DataError for fewer than one clip or four frames.
    """
    if count < 1 or frames < 4:
        raise DataError(f"At least 1 clip and 4 frames are expected, but they are {count} and {frames}.")
    return ContainerList(_clip(i, frames, np.random.default_rng([seed, i])) for i in range(count))


def _clip(number: int, frames: int, rng: np.random.Generator) -> Video:
    frames_ = _scene(frames, rng)
    if rng.random() < 0.25:
        at = int(rng.integers(frames // 4, 3 * frames // 4))
        frames_[at:] = _scene(frames, rng)[at:]
    if rng.random() < 0.5:
        ramp = np.linspace(0, rng.choice([-1, 1]) * rng.uniform(15, 70), frames)
        frames_ = frames_ + ramp[:, None, None]
    frames_ = frames_ + rng.normal(0, rng.uniform(0, 4), frames_.shape)
    grey = np.clip(np.rint(frames_), 0, 255).astype(np.uint8)
    return Video(
        name="moving-shapes",
        id=f"shapes-{number:05d}",
        frames=np.repeat(grey[..., None], 3, axis=3),
        time_s=np.arange(frames) / _FPS,
        fps=_FPS,
        split=SplitPlan(1.0, 0.0, 0.0),
        provenance=Provenance(source="made by st2llm", licence="Apache-2.0"),
    )


def _scene(frames: int, rng: np.random.Generator) -> np.ndarray:
    """A wall with a coarse texture and squares that move on straight lines and wrap around at the edges."""
    level, depth = rng.uniform(40, 200), rng.uniform(2, 25)
    coarse = rng.normal(0, depth, (6, 8))
    wall = level + np.kron(coarse, np.ones((_ROWS // 6, _COLS // 8)))
    frames_ = np.repeat(wall[None], frames, axis=0)
    for _ in range(int(rng.integers(1, 3))):
        size = int(rng.integers(10, 28))
        tone = rng.choice([-1, 1]) * rng.uniform(40, 130)
        speed, angle = rng.uniform(1.0, 5.0), rng.uniform(0, 2 * np.pi)
        x, y = rng.uniform(0, _COLS), rng.uniform(0, _ROWS)
        for i in range(frames):
            rows = (int(y + i * speed * np.sin(angle)) + np.arange(size)) % _ROWS
            cols = (int(x + i * speed * np.cos(angle)) + np.arange(size)) % _COLS
            frames_[i][np.ix_(rows, cols)] = wall[np.ix_(rows, cols)] + tone
    return frames_
