"""Extra features of places (coordinates, Laplacian eigenvectors, text) and of windows (text, images) as numbers."""

import functools
from collections.abc import Sequence
from importlib import import_module

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import AddLaplacianEigenvectorPE
from torch_geometric.utils import to_undirected

from st2llm.data.positions import planar_positions
from st2llm.errors import ConfigError
from st2llm.types import Edges, Sample

FOURIER_FREQUENCIES = 6
"""Number of frequencies for a coordinate, each twice the one before."""
EIGENVECTORS = 8
_TEXT_SIZE, _IMAGE_SIZE = 384, 1280
_FRAMES_PER_WINDOW = 4
"""Frames of a window that are encoded, evenly spaced up to the last visible one."""


def place_feature_size(extra_features: Sequence[str]) -> int:
    """Number of features that `place_features` returns for a place."""
    return sum(
        {"coordinates": 4 * FOURIER_FREQUENCIES, "laplacian": EIGENVECTORS, "text": _TEXT_SIZE}.get(name, 0)
        for name in extra_features
    )


def window_feature_size(extra_features: Sequence[str]) -> int:
    """Number of features that `window_features` returns for a window."""
    return sum({"text": _TEXT_SIZE, "image": 2 * _IMAGE_SIZE}.get(name, 0) for name in extra_features)


def place_features(
    sample: Sample, edges: Edges, extra_features: Sequence[str]
) -> Float[Tensor, "node feature"]:
    """Features of each place that are the same for all windows, in the order of `extra_features`.

    coordinates: sines and cosines of the standardised position (Tancik et al. 2020). laplacian: the first
    eigenvectors of the graph Laplacian (Dwivedi et al. 2020), each with its largest entry positive; 0 beyond
    those of a small graph. text: the frozen sentence embedding of a place's label and description. Raises
    ConfigError for coordinates of places without positions.
    """
    columns = [_PLACE_FEATURES[name](sample, edges) for name in extra_features if name in _PLACE_FEATURES]
    empty = np.zeros((len(sample.place), 0), dtype=np.float32)
    return torch.from_numpy(np.concatenate([empty, *columns], axis=1).astype(np.float32))


def code_features(sample: Sample, extra_features: Sequence[str]) -> Float[Tensor, "code feature"] | None:
    """Features of each place or mark of a sequence data set: frozen sentence embeddings of their names.

    None without `extra_features`. Raises ConfigError for features of fields, and where a data set has no codes.
    """
    if not extra_features:
        return None
    if wrong := sorted(set(extra_features) - {"text"}):
        raise ConfigError(
            f"encoder.extra_features: {', '.join(wrong)} is for fields, but {sample.side.dataset} holds sequences, "
            f"which take `text` alone. Leave it out."
        )
    if not sample.side.options:
        raise ConfigError(
            f"encoder.extra_features: text embeds the names of places and marks, but {sample.side.dataset} has none of "
            f"them. Leave it out."
        )
    return torch.from_numpy(_sentences(sample.side.option_labels or sample.side.options))


def window_features(
    samples: Sequence[Sample], extra_features: Sequence[str]
) -> Float[Tensor, "window feature"]:
    """Features of each window, in the order of `extra_features`.

    text: the mean sentence embedding of its notes, 0 without notes. image: EfficientNet features of the visible
    frames, their mean and the difference between the last and the first; 0 where a sample has no frames.
    """
    columns = [_WINDOW_FEATURES[name](samples) for name in extra_features if name in _WINDOW_FEATURES]
    empty = np.zeros((len(samples), 0), dtype=np.float32)
    return torch.from_numpy(np.concatenate([empty, *columns], axis=1))


def _coordinates(sample: Sample, edges: Edges) -> Float32[np.ndarray, "node feature"]:
    xy = planar_positions(sample)
    if xy is None or not np.isfinite(xy).all():
        raise ConfigError(
            f"encoder.extra_features: coordinates needs the position of each place, but {sample.side.dataset} has "
            f"none. Add them to its card, or leave `coordinates` out."
        )
    scale = float(xy.std(axis=0).max()) or 1.0
    angle = ((xy - xy.mean(axis=0)) / scale)[:, :, None] * (np.pi / 4 * 2.0 ** np.arange(FOURIER_FREQUENCIES))
    waves = np.concatenate([np.sin(angle), np.cos(angle)], axis=2)
    return np.asarray(waves.reshape(len(xy), -1), dtype=np.float32)


def _laplacian(sample: Sample, edges: Edges) -> Float32[np.ndarray, "node feature"]:
    nodes = len(sample.place)
    features = np.zeros((nodes, EIGENVECTORS), dtype=np.float32)
    count = min(EIGENVECTORS, nodes - 2)
    if count < 1 or not len(edges.source):
        return features
    index = torch.from_numpy(np.stack([edges.source, edges.target]))
    index, weight = to_undirected(
        index, torch.from_numpy(edges.weight).float(), num_nodes=nodes, reduce="mean"
    )
    data = Data(edge_index=index, edge_weight=weight, num_nodes=nodes)
    # A fixed start makes the sparse solver repeat itself; signs are drawn by the transform and settled here.
    start = (
        {"v0": np.ones(nodes, dtype=np.float32)}
        if nodes >= AddLaplacianEigenvectorPE.SPARSE_THRESHOLD
        else {}
    )
    eigenvectors = AddLaplacianEigenvectorPE(count, is_undirected=True, **start)(
        data
    ).laplacian_eigenvector_pe.numpy()
    largest = eigenvectors[np.abs(eigenvectors).argmax(axis=0), np.arange(count)]
    features[:, :count] = eigenvectors * np.sign(largest) * np.sqrt(nodes)
    return features


def _labels(sample: Sample, edges: Edges) -> Float32[np.ndarray, "node feature"]:
    texts = sample.side.place_texts or ("",) * len(sample.side.labels)
    descriptions = [f"{label}. {text}".strip() for label, text in zip(sample.side.labels, texts, strict=True)]
    return _sentences(tuple(descriptions))


def _notes(samples: Sequence[Sample]) -> Float32[np.ndarray, "window feature"]:
    notes = sorted({note for sample in samples for note in sample.side.notes})
    vector_of = dict(zip(notes, _sentences(tuple(notes)), strict=True))
    vectors = [[vector_of[note] for note in sample.side.notes] for sample in samples]
    means = [np.mean(rows, axis=0) if rows else np.zeros(_TEXT_SIZE) for rows in vectors]
    return np.stack(means).astype(np.float32)


def _frames(samples: Sequence[Sample]) -> Float32[np.ndarray, "window feature"]:
    return np.stack([_frame_features(sample) for sample in samples])


def _frame_features(sample: Sample) -> Float32[np.ndarray, " feature"]:
    frames = sample.side.frames
    if frames is None or not len(frames):
        return np.zeros(2 * _IMAGE_SIZE, dtype=np.float32)
    chosen = np.unique(np.rint(np.linspace(0, len(frames) - 1, _FRAMES_PER_WINDOW)).astype(np.int64))
    features = _image_features(frames[chosen].tobytes(), frames[chosen].shape)
    return np.concatenate([features.mean(axis=0), features[-1] - features[0]])


# Imported when first used, because the frozen encoders take seconds to load.
@functools.lru_cache(maxsize=8192)
def _image_features(pixels: bytes, shape: tuple[int, ...]) -> Float32[np.ndarray, "frame feature"]:
    frames = np.frombuffer(pixels, dtype=np.uint8).reshape(shape).copy()
    features: np.ndarray = import_module("st2llm.features.image").load().features(frames)
    return features


def _sentences(texts: tuple[str, ...]) -> Float32[np.ndarray, "text feature"]:
    vectors: np.ndarray = import_module("st2llm.features.text").load("minilm").encode(texts)
    return vectors


_PLACE_FEATURES = {"coordinates": _coordinates, "laplacian": _laplacian, "text": _labels}
_WINDOW_FEATURES = {"text": _notes, "image": _frames}
