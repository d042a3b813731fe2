"""The summaries of graphs and grids."""

from typing import Any

import numpy as np

from st2llm.data.describe import dependence, summary
from st2llm.types import DAY_S, MONTH_S, Edges, Grid, SensorGraph

WORST = 5


def graph_summary(data: SensorGraph) -> dict[str, Any]:
    """The summary and dependence of a sensor graph."""
    missing = ~np.isfinite(data.values)
    by_place = missing.mean(axis=(0, 2))
    worst = np.argsort(-by_place, kind="stable")[:WORST]
    edges, near = _edges(data)
    return {
        "shape": dict(zip(("time", "node", "channel"), data.values.shape, strict=True)),
        **_common(data),
        **_levels(data),
        "missing_share": float(missing.mean()),
        "missing_worst": {data.places[i]: float(by_place[i]) for i in worst if by_place[i] > 0},
        "edges": len(data.edges.weight),
        "holidays": len({name for name in data.calendar.holiday if name}),
        "dependence": _dependence(data.values, edges, near, data.freq_s),
    }


def grid_summary(data: Grid) -> dict[str, Any]:
    """The summary and dependence of a grid; cells that never have a reading (land) do not count as missing."""
    values = data.values.reshape(len(data.values), -1, data.values.shape[3])
    rows, cols = data.values.shape[1:3]
    used = np.isfinite(values).any(axis=(0, 2))
    edges = dependence.cell_edges(rows, cols)
    layout = data.layout
    return {
        "shape": dict(zip(("time", "row", "col", "channel"), data.values.shape, strict=True)),
        **_common(data),
        "rows": f"{layout.rows[0]:g} to {layout.rows[-1]:g} {layout.unit}",
        "cols": f"{layout.cols[0]:g} to {layout.cols[-1]:g} {layout.unit}",
        **_levels(data),
        "empty_cells_share": float(1 - used.mean()),
        "missing_share": float((~np.isfinite(values[:, used])).mean()) if used.any() else 1.0,
        "dependence": _dependence(values, edges, "the 4 adjacent cells", data.freq_s),
    }


def lags(freq_s: int) -> dict[str, int]:
    """Lags in steps: one step, and the day, week or year if they hold several steps."""
    if freq_s == MONTH_S:
        return {"step": 1, "year": 12}
    spans = {"day": DAY_S, "week": 7 * DAY_S}
    return {"step": 1, **{name: s // freq_s for name, s in spans.items() if s // freq_s > 1}}


def _levels(data: SensorGraph | Grid) -> dict[str, Any]:
    """Mean, minimum and maximum, by channel where there are several, since units may differ."""
    if len(data.channels) == 1:
        return summary.spread(data.values)
    return {"levels": {name: summary.spread(data.values[..., i]) for i, name in enumerate(data.channels)}}


def _common(data: SensorGraph | Grid) -> dict[str, Any]:
    return {
        **summary.span(int(data.time[0]), int(data.time[-1]), data.timezone),
        "step_s": data.freq_s,
        "unit": data.unit,
        "quantity": data.quantity,
        "channels": _channels(data),
    }


def _channels(data: SensorGraph | Grid) -> list[str]:
    """The names of the channels, with what each measures where the data say so."""
    if not data.channel_details:
        return list(data.channels)
    return [f"{channel.name}: {channel.label}, {channel.role}" for channel in data.channel_details]


def _edges(data: SensorGraph) -> tuple[Edges, str]:
    """The edges of the graph, or those from the nearest places where it has none; and their description."""
    if len(data.edges.weight) or data.xy is None:
        return data.edges, "edges" if len(data.edges.weight) else ""
    return dependence.nearest_edges(
        data.xy
    ), f"the {min(dependence.NEAREST, len(data.xy) - 1)} nearest places"


def _dependence(values: np.ndarray, edges: Edges, near: str, freq_s: int) -> dict[str, Any]:
    present = np.isfinite(values[:, :, 0])
    count = present.sum(axis=0)
    means = np.where(
        count > 0, np.where(present, values[:, :, 0], 0).sum(axis=0) / np.maximum(count, 1), np.nan
    )
    return {
        "temporal": {
            f"autocorrelation_{name}": dependence.autocorrelation(values, lag)
            for name, lag in lags(freq_s).items()
        },
        "spatial": {
            "neighbours": near or "none: no edges, no coordinates",
            "morans_i_of_means": dependence.morans_i(means, edges),
            "morans_i_of_anomalies": dependence.space_time_i(values, edges, 0),
        },
        "joint": {"space_time_morans_i_lag_1": dependence.space_time_i(values, edges, 1)},
    }
