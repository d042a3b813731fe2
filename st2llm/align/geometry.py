"""Similarity of two sets of embeddings of the same samples, to measure alignment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from st2llm.errors import AlignmentError

Embeddings = Float64[np.ndarray, "sample d"]
Measure = Callable[[np.ndarray, np.ndarray], float]
_SUBSETS = 200
_SUBSET_SHARE = 0.8


def cka(x: Embeddings, y: Float64[np.ndarray, "sample e"]) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019) by the unbiased HSIC (Song et al. 2012): about 0 for
    unrelated embeddings, 1 for rotations of each other.

    Raises AlignmentError below four samples.
    """
    if len(x) < 4:
        raise AlignmentError(f"CKA needs four samples at least, but there are {len(x)}.")
    k, m = (_without_diagonal(z @ z.T) for z in (_centred(x), _centred(y)))
    return float(_hsic(k, m) / np.sqrt(max(_hsic(k, k) * _hsic(m, m), 1e-30)))


def rsa(x: Embeddings, y: Float64[np.ndarray, "sample e"]) -> float:
    """Representational similarity (Kriegeskorte et al. 2008): Spearman correlation of the cosine distances."""
    correlation = spearmanr(pdist(_centred(x), "cosine"), pdist(_centred(y), "cosine")).statistic
    return float(correlation)


def retrieval_hits(
    x: Embeddings, y: Embeddings, k: int, *, labels: Sequence[str] | None = None
) -> Float64[np.ndarray, " sample"]:
    """Whether each sample's own y is among the k nearest of x's row by cosine, after centring each side: 0 or 1.

    labels: samples with equal labels count as matches.
    """
    a, b = normalise_rows(_centred(x)), normalise_rows(_centred(y))
    near = np.argsort(-(a @ b.T), axis=1, kind="stable")[:, :k]
    names = np.array(list(labels) if labels is not None else np.arange(len(x)))
    return np.asarray((names[near] == names[:, None]).any(axis=1), dtype=np.float64)


def modality_gap(x: Embeddings, y: Embeddings) -> float:
    """The distance between the centroids of both sides, rows of unit length (Liang et al. 2022): 0 to 2."""
    a, b = normalise_rows(x), normalise_rows(y)
    return float(np.linalg.norm(a.mean(axis=0) - b.mean(axis=0)))


def effective_rank(x: Embeddings) -> float:
    """The exponential of the entropy of the singular values (Roy and Vetterli 2007): between 1 and the width."""
    values = np.linalg.svd(_centred(x), compute_uv=False)
    share = values / max(values.sum(), 1e-30)
    share = share[share > 1e-12]
    return float(np.exp(-(share * np.log(share)).sum()))


def probe_transfer(x: Embeddings, y: Embeddings, labels: Sequence[str]) -> tuple[float, float]:
    """Accuracy of a linear probe fitted on y (texts) of even samples and tested on x of odd ones, and that of the
    majority label. Each side is standardised by its own mean and deviation.

    Raises AlignmentError where the even samples have a single label.
    """
    names = np.array(list(labels))
    fit_rows, test_rows = np.arange(0, len(names), 2), np.arange(1, len(names), 2)
    if len(set(names[fit_rows].tolist())) < 2:
        raise AlignmentError("A probe needs two labels at least among the samples that it is fitted on.")
    probe = LogisticRegression(C=0.1, max_iter=2000).fit(_standardised(y)[fit_rows], names[fit_rows])
    majority = max(set(names[fit_rows].tolist()), key=names[fit_rows].tolist().count)
    predicted = probe.predict(_standardised(x)[test_rows])
    return float((predicted == names[test_rows]).mean()), float((names[test_rows] == majority).mean())


@dataclass(frozen=True)
class Estimate:
    """A measure of paired embeddings with its 95 % interval, and its mean and 97.5 % quantile over random
    pairings.
    """

    value: float
    low: float
    high: float
    permuted: float
    permuted_high: float


def estimate(
    measure: Measure, x: Embeddings, y: Float64[np.ndarray, "sample e"], *, seed: int = 0
) -> Estimate:
    """The measure with an interval by the delete-d jackknife (Shao and Wu 1989) over 200 subsets of four fifths;
    resampling with replacement would make samples their own neighbours. permuted: 200 random pairings.
    """
    rng = np.random.default_rng(seed)
    n = len(x)
    value = measure(x, y)
    subset_size = max(4, round(_SUBSET_SHARE * n))
    subset_values = [measure(x[rows], y[rows]) for rows in _subsets(rng, n, subset_size)]
    spread = 1.96 * float(np.std(subset_values)) * np.sqrt(subset_size / max(1, n - subset_size))
    chance = np.array([measure(x, y[rng.permutation(n)]) for _ in range(_SUBSETS)])
    return Estimate(
        value, value - spread, value + spread, float(chance.mean()), float(np.quantile(chance, 0.975))
    )


def nearest_words(
    tokens: Float64[np.ndarray, "token d"], table: Float64[np.ndarray, "word d"], count: int = 5
) -> Int64[np.ndarray, "token count"]:
    """The rows of an embedding table that are nearest to each token by cosine, the nearest first."""
    a, b = normalise_rows(tokens), normalise_rows(table)
    return np.asarray(np.argsort(-(a @ b.T), axis=1, kind="stable")[:, :count], dtype=np.int64)


def normalise_rows(x: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros is unchanged."""
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12))


def _subsets(rng: np.random.Generator, n: int, size: int) -> list[np.ndarray]:
    return [np.sort(rng.permutation(n)[:size]) for _ in range(_SUBSETS)]


def _centred(x: np.ndarray) -> np.ndarray:
    return np.asarray(x - x.mean(axis=0))


def _standardised(x: np.ndarray) -> np.ndarray:
    return np.asarray((x - x.mean(axis=0)) / x.std(axis=0).clip(1e-9))


def _without_diagonal(kernel: np.ndarray) -> np.ndarray:
    copy = kernel.copy()
    np.fill_diagonal(copy, 0.0)
    return copy


def _hsic(k: np.ndarray, m: np.ndarray) -> float:
    n = len(k)
    cross = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k.sum(axis=0) @ m.sum(axis=0)) / (n - 2)
    return float(((k * m).sum() + cross) / (n * (n - 3)))
