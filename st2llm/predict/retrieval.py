"""Retrieval by a trained encoder: the training windows whose embeddings are nearest to a sample's."""

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
from st2llm.types import Prediction, Sample

_BATCH = 32


@dataclass(frozen=True, eq=False)
class EmbeddingDistance:
    """Cosine distances between embeddings of what samples show (before the head that contrast is trained through:
    SimCLR, Chen et al. 2020).

    each: whether places are compared for themselves, rather than windows by the mean over their places.
    """

    module: nn.Module
    preprocessor: Preprocessor
    train: Sequence[Sample]
    each: bool
    _known: dict[str, Float64[np.ndarray, "node d"]] = field(default_factory=dict)
    _rows: dict[tuple[int | None, bytes], Float64[np.ndarray, "window d"]] = field(default_factory=dict)

    def apart(
        self, sample: Sample, node: int | None, windows: Int64[np.ndarray, " window"]
    ) -> Float64[np.ndarray, " window"]:
        self.embed([sample])
        return np.asarray(1.0 - self._others(windows, node) @ self._vector(sample, node))

    def _others(
        self, windows: Int64[np.ndarray, " window"], node: int | None
    ) -> Float64[np.ndarray, "window d"]:
        """The vectors of training windows, made once for each place."""
        key = node if self.each else None, windows.tobytes()
        if key not in self._rows:
            others = [self.train[int(i)] for i in windows]
            self.embed(others)
            self._rows[key] = np.stack([self._vector(other, node) for other in others])
        return self._rows[key]

    @torch.inference_mode()
    def embed(self, samples: Sequence[Sample]) -> None:
        """Embeds those that have not been yet, many at a time. None is shown its truth."""
        fresh = [sample.without_truth() for sample in samples if sample.id not in self._known]
        device = next(self.module.parameters()).device
        for start in range(0, len(fresh), _BATCH):
            part = fresh[start : start + _BATCH]
            batch: Any = self.preprocessor.collate(part, with_instructions=False).to(device)
            rows = self.module.embedded(batch).cpu().numpy().astype(np.float64)  # type: ignore[operator]
            self._known.update({sample.id: row for sample, row in zip(part, rows, strict=True)})

    def _vector(self, sample: Sample, node: int | None) -> Float64[np.ndarray, " d"]:
        rows = self._known[sample.id]
        found = rows[node] if self.each and node is not None else rows.mean(axis=0)
        return np.asarray(found / max(float(np.linalg.norm(found)), 1e-12))


def predict_from_neighbours(
    module: nn.Module,
    preprocessor: Preprocessor,
    train: Sequence[Sample],
    samples: Sequence[Sample],
    *,
    each: bool,
) -> list[Prediction]:
    """What followed the training windows most alike (of classes: what they were); see `NearestForecast`."""
    module.eval()
    measure = EmbeddingDistance(module, preprocessor, train, each)
    measure.embed(samples)
    return NearestForecast(WindowIndex.fit(train, measure=measure)).predict(samples)
