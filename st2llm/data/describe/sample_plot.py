"""The page of plots of samples: what is known of each place, object or clip, what is true, and what is predicted."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from st2llm.data import calendar
from st2llm.data.describe.plotting import (
    EDGE,
    INK,
    PALETTE,
    SECOND,
    date_ticks,
    draw_page,
    empty_panel,
    save_page,
)
from st2llm.errors import DataError
from st2llm.types import HOUR_S, Prediction, Sample

_PANELS = 6
"""Panels of a page."""
_OPTIONS = 6
"""Options of a panel, the most likely first."""
_TRUE = "#5d6d7e"
_LEVELS = (0.05, 0.5, 0.95)
_HEIGHTS = {1: 4.0, 2: 6.0}
"""The height of a page in inches by its rows of panels; 8 for more."""
Answered = tuple[Sample, Prediction | None]
Shown = TypeVar("Shown")


def plot_predictions(samples: Sequence[Sample], predictions: Sequence[Prediction], file: Path) -> None:
    """Writes a page of plots of the last sample of each place, object or clip as PNG, in one step.

    Series of up to six places, paths of up to six objects, the most likely options of up to six, or the next event
    after those before it. A band is the interval from the 5 % to the 95 % quantile. True values are drawn where the
    samples hold them. Answers that could not be read have a panel that says so.
    """
    last: dict[tuple[str, ...], Answered] = {
        sample.place: (sample, prediction.with_quantiles(_LEVELS))
        for sample, prediction in zip(samples, predictions, strict=True)
    }
    save_page(_draw, list(last.values()), file)


def sample_figure(sample: Sample, prediction: Prediction | None = None) -> Figure:
    """The page of one sample, and of its prediction where there is one; see `plot_predictions`.

    Raises DataError where the prediction has the shape of another sample.
    """
    if prediction is None:
        return draw_page(_draw, list[Answered]([(sample, None)]))
    if prediction.value is not None and prediction.value.shape != sample.values.shape:
        raise DataError(
            f"The prediction has the shape {prediction.value.shape}, but {sample.id} has {sample.values.shape}. Plot "
            f"it with the sample that it was made for."
        )
    return draw_page(_draw, list[Answered]([(sample, prediction.with_quantiles(_LEVELS))]))


def _draw(figure: Figure, answered: list[Answered]) -> None:
    if not answered:
        empty_panel(figure.add_subplot(), "nothing was predicted")
        return
    first = answered[0][0]
    if first.kind == "event" and first.task == "next-event":
        _panels(figure, answered, _event_panel)
    elif any(prediction is not None and prediction.ranking for _, prediction in answered):
        _panels(figure, answered, _options_panel)
    elif first.kind == "trajectory" and "x" not in first.side.channels:
        _panels(figure, answered, _stays_panel)
    elif first.kind == "trajectory":
        _panels(figure, answered, _path_panel)
        if len(answered) == 1:
            figure.set_size_inches(7.5, 6.0)  # a path is about as high as it is wide
    else:
        places = [(pair, node) for pair in answered for node in _shown_nodes(pair[0])]
        spread = np.unique(np.linspace(0, len(places) - 1, _PANELS).round().astype(int))
        _panels(figure, [places[i] for i in spread], lambda axes, place: _series_panel(axes, *place))


def _shown_nodes(sample: Sample) -> Sequence[int]:
    """The nodes that are predicted; all where nothing at a node is, but a label."""
    return sample.wanted_nodes or range(len(sample.place))


def _panels(figure: Figure, items: Sequence[Shown], draw: Callable[[Axes, Shown], None]) -> None:
    """A panel for each of the first items, in two columns."""
    shown = items[:_PANELS]
    cols = 1 if len(shown) == 1 else 2
    rows = -(-len(shown) // cols)
    figure.set_figheight(_HEIGHTS.get(rows, 8.0))
    for number, item in enumerate(shown):
        draw(figure.add_subplot(rows, cols, number + 1), item)


def _series_panel(axes: Axes, answered: Answered, node: int) -> None:
    """The values of a place over time, and the predicted ones."""
    sample, prediction = answered
    channels = np.flatnonzero(sample.wanted[:, node].any(axis=0))
    at = int(channels[0]) if channels.size else 0
    axes.set_title(sample.side.labels[node])
    clock, label = _clock(sample)
    axes.plot(clock, sample.values[:, node, at], color=INK, marker=".", markersize=3, label="known")
    wanted = sample.wanted[:, node, at]
    if sample.truth is not None and wanted.any():
        _dashed(axes, clock[wanted], sample.truth[wanted, node, at])
    if prediction is not None:
        _predicted_line(axes, clock, wanted, prediction, (node, at))
    axes.set_ylabel(_unit(sample, at))
    axes.set_xlabel(label)
    if sample.side.freq_s:
        date_ticks(axes)
    axes.legend(frameon=False, fontsize=7)


def _dashed(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """The true values as a dashed line; as crosses where there are too few for a line."""
    few = len(x) <= 2
    axes.plot(x, y, color=_TRUE, label="true", linestyle="none" if few else "--", marker="x" if few else None)


def _unit(sample: Sample, channel: int) -> str:
    """The unit of a channel's values, else the name of the channel; both where channels differ."""
    described = sample.side.described_channels
    if channel >= len(described):
        return sample.side.unit
    details = described[channel]
    return details.label if sample.side.channel_details else details.unit or details.name


def _predicted_line(
    axes: Axes, clock: np.ndarray, wanted: np.ndarray, prediction: Prediction, at: tuple[int, int]
) -> None:
    node, channel = at
    if prediction.value is None:
        axes.set_title(f"{axes.get_title()}: not readable")
        return
    axes.plot(
        clock[wanted],
        prediction.value[wanted, node, channel],
        color=SECOND,
        marker=".",
        markersize=3,
        label="predicted",
    )
    if prediction.quantiles is not None:
        low, high = (prediction.quantiles[level][wanted, node, channel] for level in (0.05, 0.95))
        axes.fill_between(clock[wanted], low, high, color=SECOND, alpha=0.2, linewidth=0, label="5 to 95 %")


def _clock(sample: Sample) -> tuple[np.ndarray, str]:
    """The time axis of a sample: local times, or seconds where steps are shorter than a second."""
    if not sample.side.freq_s:
        return sample.time / 1000, "seconds"
    local = calendar.local_times(sample.time, sample.side.timezone).tz_localize(None)
    return local.to_numpy(), f"local time ({sample.side.timezone})"


def _path_panel(axes: Axes, answered: Answered) -> None:
    """The known fixes of an object in the plane, the predicted ones with the interval of each coordinate."""
    sample, prediction = answered
    xy = [sample.side.channels.index(name) for name in ("x", "y")]
    axes.plot(*sample.values[:, 0][:, xy].T, color=INK, marker=".", label="known")
    axes.set_title(sample.side.labels[0])
    if sample.truth is not None and np.isfinite(sample.truth[:, 0][:, xy]).any():
        _dashed(axes, *sample.truth[:, 0][:, xy].T)
    if prediction is not None and prediction.value is None:
        axes.set_title(f"{sample.side.labels[0]}: not readable")
    elif prediction is not None:
        _predicted_path(axes, prediction, xy)
    axes.set(
        xlabel=f"x ({sample.side.unit})",
        ylabel=f"y ({sample.side.unit})",
        aspect="equal",
        adjustable="datalim",
    )
    axes.legend(frameon=False, fontsize=7)


def _predicted_path(axes: Axes, prediction: Prediction, xy: list[int]) -> None:
    if prediction.value is None:
        return
    path = prediction.value[:, 0][:, xy]
    axes.plot(*path.T, color=SECOND, marker=".", label="predicted")
    if prediction.quantiles is not None:
        low, high = (prediction.quantiles[level][:, 0][:, xy] for level in (0.05, 0.95))
        axes.hlines(path[:, 1], low[:, 0], high[:, 0], color=SECOND, alpha=0.4, label="5 to 95 %")
        axes.vlines(path[:, 0], low[:, 1], high[:, 1], color=SECOND, alpha=0.4)


def _stays_panel(axes: Axes, answered: Answered) -> None:
    """The places of an object over time, and the true next one."""
    sample, prediction = answered
    code = sample.values[:, 0, sample.side.channels.index("place")]
    names = dict(zip(sample.side.options, sample.side.option_labels, strict=False))
    ids = [sample.side.options[int(c)] if np.isfinite(c) else None for c in code]
    shown = list(dict.fromkeys(id for id in [*ids, sample.label] if id is not None))
    clock, label = _clock(sample)
    known = [i for i, id in enumerate(ids) if id is not None]
    axes.plot(clock[known], [shown.index(str(ids[i])) for i in known], color=INK, marker="o", label="known",
              drawstyle="steps-post")  # fmt: skip
    if sample.label is not None:
        axes.plot(
            clock[-1], shown.index(sample.label), "x", color=_TRUE, markersize=9, label="true next place"
        )
    unread = prediction is not None and prediction.unread_reason is not None
    axes.set_title(f"{sample.side.labels[0]}{': not readable' if unread else ''}")
    axes.set_yticks(range(len(shown)), [names.get(id, id)[:32] for id in shown])
    axes.set(xlabel=label, ylabel="place")
    date_ticks(axes)
    axes.legend(frameon=False, fontsize=7)


def _options_panel(axes: Axes, answered: Answered) -> None:
    """The most likely options of a sample, with their probabilities where the model has them."""
    sample, prediction = answered
    names = dict(zip(sample.side.options, sample.side.option_labels, strict=False))
    title = sample.side.labels[0] if len(sample.place) == 1 else sample.id
    true = "" if sample.label is None else f" (true: {names.get(sample.label, sample.label)[:32]})"
    axes.set_title(title + true)
    if prediction is None or prediction.ranking is None:
        empty_panel(axes, "the answer could not be read")
        return
    ranking = prediction.ranking[:_OPTIONS]
    shares = (prediction.probabilities or ())[: len(ranking)]
    bars = axes.barh(range(len(ranking)), shares or [1.0] * len(ranking), color=INK if shares else EDGE)
    axes.set_yticks(range(len(ranking)), [names.get(option, option)[:32] for option in ranking])
    axes.invert_yaxis()
    if shares:
        axes.bar_label(bars, [f"{share:.0%}" for share in shares], padding=2, fontsize=7)
        axes.set(xlabel="probability", xlim=(0, 1.12 * max(shares)))
    else:
        axes.set(xlabel="ranked, without probabilities", xticks=[])


def _event_panel(axes: Axes, answered: Answered) -> None:
    """The times of the events before, the true time of the next one, and the predicted one with its interval."""
    sample, prediction = answered
    gap = sample.side.channels.index("gap_h")
    hours = (sample.time[:-1] - sample.time[-2]) / HOUR_S
    axes.vlines(hours, 0, 1, color=INK, linewidth=1, label="events")
    axes.set(
        yticks=[], xlabel=f"hours after {calendar.local_iso(int(sample.time[-2]), sample.side.timezone)}"
    )
    axes.set_title(f"The next event of {sample.place[0]}")
    if sample.truth is not None and np.isfinite(sample.truth[-1, 0, gap]):
        axes.vlines(sample.truth[-1, 0, gap], 0, 1, color=_TRUE, linestyle="--", linewidth=2, label="true")
    if prediction is not None:
        _predicted_gap(axes, prediction, gap)
    axes.set_ylim(0, 1.15)
    axes.legend(frameon=False, loc="upper center", ncols=4)


def _predicted_gap(axes: Axes, prediction: Prediction, gap: int) -> None:
    if prediction.value is None or not np.isfinite(prediction.value[-1, 0, gap]):
        axes.set_title(f"{axes.get_title()}: its time is not predicted")
        return
    axes.vlines(prediction.value[-1, 0, gap], 0, 1, color=SECOND, linewidth=2, label="predicted")
    if prediction.quantiles is not None:
        low, high = (float(prediction.quantiles[level][-1, 0, gap]) for level in (0.05, 0.95))
        axes.axvspan(low, high, color=PALETTE[1], alpha=0.15, linewidth=0, label="5 to 95 %")
