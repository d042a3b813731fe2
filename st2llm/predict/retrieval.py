"""Predicts from the training windows whose embeddings, by a trained encoder, are nearest to a sample's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import nn

from st2llm.predict.preprocess import Preprocessor
from st2llm.retrieve.nearest_forecast import NearestForecast
from st2llm.retrieve.window_index import WindowIndex
from st2llm.types import Prediction, Sample, TrainingWindows

_BATCH_SIZE = 32


@dataclass(frozen=True, eq=False)
class EmbeddingDistance:
    """Cosine distances between encoder embeddings of visible values, before the contrastive projection head (SimCLR,
    Chen et al. 2020).

    by_place: compares each place by its own embedding, rather than windows by the mean over their places.
    """

    module: nn.Module
    preprocessor: Preprocessor
    train: TrainingWindows
    by_place: bool
    _embeddings: dict[str, Float64[np.ndarray, "node d"]] = field(default_factory=dict)
    _matrices: dict[tuple[int | None, bytes], Float64[np.ndarray, "window d"]] = field(default_factory=dict)

    def apart(
        self, sample: Sample, node: int | None, windows: Int64[np.ndarray, " window"]
    ) -> Float64[np.ndarray, " window"]:
        self.embed([sample])
        return np.asarray(1.0 - self._matrix(windows, node) @ self._vector(sample, node))

    def _matrix(
        self, windows: Int64[np.ndarray, " window"], node: int | None
    ) -> Float64[np.ndarray, "window d"]:
        """The normalised embeddings of training windows, computed once for each place."""
        key = node if self.by_place else None, windows.tobytes()
        if key not in self._matrices:
            samples = [self.train[int(i)] for i in windows]
            self.embed(samples)
            self._matrices[key] = np.stack([self._vector(sample, node) for sample in samples])
        return self._matrices[key]

    @torch.inference_mode()
    def embed(self, samples: Sequence[Sample]) -> None:
        """Embeds the samples that have not been embedded yet, in batches and without their truth."""
        missing = [sample.without_truth() for sample in samples if sample.id not in self._embeddings]
        device = next(self.module.parameters()).device
        for start in range(0, len(missing), _BATCH_SIZE):
            part = missing[start : start + _BATCH_SIZE]
            batch: Any = self.preprocessor.collate(part, with_instructions=False).to(device)
            rows = self.module.embed(batch).cpu().numpy().astype(np.float64)  # type: ignore[operator]
            self._embeddings.update({sample.id: row for sample, row in zip(part, rows, strict=True)})

    def _vector(self, sample: Sample, node: int | None) -> Float64[np.ndarray, " d"]:
        rows = self._embeddings[sample.id]
        vector = rows[node] if self.by_place and node is not None else rows.mean(axis=0)
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))


def predict_from_neighbours(
    module: nn.Module,
    preprocessor: Preprocessor,
    train: TrainingWindows,
    samples: Sequence[Sample],
    *,
    by_place: bool,
) -> list[Prediction]:
    """The mean of what followed the nearest training windows, or their classes; see `NearestForecast`."""
    module.eval()
    measure = EmbeddingDistance(module, preprocessor, train, by_place)
    measure.embed(samples)
    return NearestForecast(WindowIndex.fit(train, measure=measure)).predict(samples)
