"""Measures of dependence in time, in space, and in both."""

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from st2llm.types import Edges

NEAREST = 4
_MAX_EVENTS = 3000
_NEAR_QUANTILE = 0.05


def autocorrelation(values: Float64[np.ndarray, "time node channel"], lag: int) -> float | None:
    """Pearson correlation of readings `lag` steps apart; None without such pairs or variation.

    It pools the pairs of all places. Each place and channel is centred; several channels are scaled as well.
    """
    if lag >= len(values):
        return None
    centred = anomalies(values)
    early, late = centred[:-lag].ravel(), centred[lag:].ravel()
    present = np.isfinite(early) & np.isfinite(late)
    early, late = early[present], late[present]
    scale = float(np.sqrt((early**2).sum() * (late**2).sum()))
    return float((early * late).sum() / scale) if scale > 0 else None


def anomalies(
    values: Float64[np.ndarray, "time node channel"],
) -> Float64[np.ndarray, "time node channel"]:
    """Values minus the mean of their place; several channels are scaled to equal variance."""
    present = np.isfinite(values)
    count = np.maximum(present.sum(axis=0), 1)
    centred = values - np.where(present, values, 0.0).sum(axis=0) / count
    if values.shape[2] > 1:
        flat = np.where(present, centred, 0.0)
        spread = np.sqrt((flat**2).sum(axis=(0, 1)) / np.maximum(present.sum(axis=(0, 1)), 1))
        centred = centred / np.where(spread > 0, spread, 1.0)
    return np.asarray(centred)


def morans_i(values: Float64[np.ndarray, " node"], edges: Edges) -> float | None:
    """Moran's I (1950) over weighted edges: 1 similar, 0 unrelated, -1 opposed; None without edges or variation.

    Places without a value and their edges are left out.
    """
    present = np.isfinite(values)
    kept = present[edges.source] & present[edges.target]
    weight = edges.weight[kept]
    centred = values - (values[present].mean() if present.any() else 0.0)
    spread = float((centred[present] ** 2).sum())
    if not len(weight) or not spread or not weight.sum():
        return None
    products = float((weight * centred[edges.source[kept]] * centred[edges.target[kept]]).sum())
    return int(present.sum()) / float(weight.sum()) * products / spread


def space_time_i(values: Float64[np.ndarray, "time node channel"], edges: Edges, lag: int) -> float | None:
    """Moran's I across `lag` steps: the anomaly of a place against those of its neighbours `lag` steps earlier.

    Lag 0 is the spatial dependence of the anomalies. None without edges, pairs or variation.
    """
    if lag >= len(values) or not len(edges.weight):
        return None
    nodes = values.shape[1]
    weights = csr_matrix((edges.weight, (edges.target, edges.source)), shape=(nodes, nodes))
    weights.setdiag(0)
    products, weight, square, count = 0.0, 0.0, 0.0, 0
    for channel in range(values.shape[2]):
        z = anomalies(values[:, :, channel : channel + 1])[:, :, 0]
        present = np.isfinite(z)
        spread = np.sqrt((z[present] ** 2).mean()) if present.any() else 0.0
        if not spread:
            continue
        z = np.where(present, z / spread, 0.0)
        late, early = z[lag:], z[: len(z) - lag]
        products += float((late * (weights @ early.T).T).sum())
        weight += float((present[lag:] * (weights @ present[: len(z) - lag].T.astype(np.float64)).T).sum())
        square, count = square + float((z**2).sum()), count + int(present.sum())
    return products / weight / (square / count) if weight and square else None


def nearest_edges(xy: Float64[np.ndarray, "node 2"], k: int = NEAREST) -> Edges:
    """An edge of weight 1 to each place from each of its k nearest places."""
    k = min(k, len(xy) - 1)
    if k < 1:
        none = np.zeros(0, dtype=np.int64)
        return Edges(none, none, np.zeros(0))
    _, near = cKDTree(xy).query(xy, k=k + 1)
    target = np.repeat(np.arange(len(xy), dtype=np.int64), k)
    source = np.asarray(near[:, 1:], dtype=np.int64).ravel()
    return Edges(source, target, np.ones(len(source)))


def cell_edges(rows: int, cols: int) -> Edges:
    """Edges of weight 1 in both directions between cells of a raster that share a side."""
    at = np.arange(rows * cols, dtype=np.int64).reshape(rows, cols)
    pairs = [(at[:-1].ravel(), at[1:].ravel()), (at[:, :-1].ravel(), at[:, 1:].ravel())]
    one, other = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    return Edges(np.concatenate([one, other]), np.concatenate([other, one]), np.ones(2 * len(one)))


def knox_ratio(
    time: Int64[np.ndarray, " event"], xy: Float64[np.ndarray, "event 2"], *, seed: int = 0
) -> tuple[float, float, float] | None:
    """The Knox ratio (1964): pairs that are near in space and time, over their number if the two were independent.

    Near means among the closest 5 % of all pairs. More than 3,000 events are subsampled to 3,000. Returns the ratio and
    the two limits (metres, seconds); None for fewer than 20 events or without variation.
    """
    draw = np.random.default_rng(seed)
    if len(time) < 20:
        return None
    kept = np.sort(draw.permutation(len(time))[:_MAX_EVENTS])
    one, other = np.triu_indices(len(kept), k=1)
    apart_s = np.abs(time[kept][one] - time[kept][other]).astype(np.float64)
    apart_m = np.hypot(*(xy[kept][one] - xy[kept][other]).T)
    close_s, close_m = (
        float(np.quantile(apart_s, _NEAR_QUANTILE)),
        float(np.quantile(apart_m, _NEAR_QUANTILE)),
    )
    near_s, near_m = apart_s <= close_s, apart_m <= close_m
    expected = near_s.mean() * near_m.mean()
    if not expected or near_s.all() or near_m.all():
        return None
    return float((near_s & near_m).mean() / expected), close_m, close_s


def clark_evans(xy: Float64[np.ndarray, "event 2"], area_m2: float) -> float | None:
    """The Clark-Evans ratio (1954): the mean distance to the nearest event, over that of a random pattern.

    Below 1 is clustered, 1 random, up to 2.15 regular. None for fewer than two events or no area.
    """
    if len(xy) < 2 or area_m2 <= 0:
        return None
    nearest, _ = cKDTree(xy).query(xy, k=2)
    expected = 0.5 / np.sqrt(len(xy) / area_m2)
    return float(nearest[:, 1].mean() / expected)


def mutual_information(one: Int64[np.ndarray, " pair"], other: Int64[np.ndarray, " pair"]) -> float | None:
    """Mutual information of two codes in bits, with the bias correction of Miller (1955); None without pairs."""
    if not len(one):
        return None
    _, a = np.unique(one, return_inverse=True)
    _, b = np.unique(other, return_inverse=True)
    joint = np.unique(a * (int(b.max()) + 1) + b, return_counts=True)[1]
    first, second = np.bincount(a), np.bincount(b)
    bias = (len(first) + len(second) - len(joint) - 1) / (2 * len(one) * np.log(2))
    return float(max(0.0, entropy(first) + entropy(second) - entropy(joint) + bias))


def entropy(counts: np.ndarray) -> float:
    """The entropy in bits of a distribution that is given by counts."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())
