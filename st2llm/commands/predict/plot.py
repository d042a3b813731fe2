"""A page of plots of predictions: what was known of each place, object or clip, and what is predicted after it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from st2llm.commands.predict.table import with_quantiles
from st2llm.data import calendar
from st2llm.data.describe.plotting import EDGE, INK, PALETTE, SECOND, date_ticks, empty_panel, save_page
from st2llm.types import HOUR_S, Prediction, Sample

_PANELS = 6
"""Panels of a page."""
_OPTIONS = 6
"""Options of a panel, the most likely first."""
_TRUE = "#5d6d7e"
Answered = tuple[Sample, Prediction]
Shown = TypeVar("Shown")


def plot_predictions(samples: Sequence[Sample], predictions: Sequence[Prediction], file: Path) -> None:
    """Writes a page of plots of the last sample of each place, object or clip as PNG, in one step.

    Series of up to six places, paths of up to six objects, the most likely options of up to six, or the next event
    after those before it. A band is the interval from the 5 % to the 95 % quantile. True values are drawn where the
    samples hold them. Answers that could not be read have a panel that says so.
    """
    last = {sample.place: (sample, with_quantiles(p)) for sample, p in zip(samples, predictions, strict=True)}
    save_page(_draw, list(last.values()), file)


def _draw(figure: Figure, answered: list[Answered]) -> None:
    if not answered:
        empty_panel(figure.add_subplot(), "nothing was predicted")
        return
    first = answered[0][0]
    if first.kind == "event" and first.task == "next-event":
        _panels(figure, answered, _event_panel)
    elif any(prediction.ranking for _, prediction in answered):
        _panels(figure, answered, _options_panel)
    elif first.kind == "trajectory":
        _panels(figure, answered, _path_panel)
    else:
        places = [(pair, node) for pair in answered for node in pair[0].wanted_nodes]
        spread = np.unique(np.linspace(0, len(places) - 1, _PANELS).round().astype(int))
        _panels(figure, [places[i] for i in spread], lambda axes, place: _series_panel(axes, *place))


def _panels(figure: Figure, items: Sequence[Shown], draw: Callable[[Axes, Shown], None]) -> None:
    """A panel for each of the first items, in two columns."""
    shown = items[:_PANELS]
    cols = 1 if len(shown) == 1 else 2
    rows = -(-len(shown) // cols)
    for number, item in enumerate(shown):
        draw(figure.add_subplot(rows, cols, number + 1), item)


def _series_panel(axes: Axes, answered: Answered, node: int) -> None:
    """The values of a place over time, and the predicted ones."""
    sample, prediction = answered
    at = int(np.flatnonzero(sample.wanted[:, node].any(axis=0))[0])
    axes.set_title(sample.side.labels[node])
    clock, label = _clock(sample)
    axes.plot(clock, sample.values[:, node, at], color=INK, marker=".", markersize=3, label="known")
    wanted = sample.wanted[:, node, at]
    if sample.truth is not None:
        axes.plot(clock[wanted], sample.truth[wanted, node, at], color=_TRUE, linestyle="--", label="true")
    _predicted_line(axes, clock, wanted, prediction, (node, at))
    axes.set_ylabel(sample.side.unit)
    axes.set_xlabel(label)
    if sample.side.freq_s:
        date_ticks(axes)
    axes.legend(frameon=False, fontsize=7)


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
    x, y = (sample.side.channels.index(name) for name in ("x", "y"))
    known = sample.values[:, 0][:, [x, y]]
    axes.plot(*known.T, color=INK, marker=".", label="known")
    axes.set_title(sample.side.labels[0])
    if sample.truth is not None:
        axes.plot(*sample.truth[:, 0][:, [x, y]].T, color=_TRUE, linestyle="--", label="true")
    if prediction.value is None:
        axes.set_title(f"{sample.side.labels[0]}: not readable")
        return
    path = prediction.value[:, 0][:, [x, y]]
    axes.plot(*path.T, color=SECOND, marker=".", label="predicted")
    if prediction.quantiles is not None:
        low, high = (prediction.quantiles[level][:, 0][:, [x, y]] for level in (0.05, 0.95))
        axes.hlines(path[:, 1], low[:, 0], high[:, 0], color=SECOND, alpha=0.4, label="5 to 95 %")
        axes.vlines(path[:, 0], low[:, 1], high[:, 1], color=SECOND, alpha=0.4)
    axes.set(
        xlabel=f"x ({sample.side.unit})",
        ylabel=f"y ({sample.side.unit})",
        aspect="equal",
        adjustable="datalim",
    )
    axes.legend(frameon=False, fontsize=7)


def _options_panel(axes: Axes, answered: Answered) -> None:
    """The most likely options of a sample, with their probabilities where the model has them."""
    sample, prediction = answered
    axes.set_title(sample.side.labels[0] if len(sample.place) == 1 else sample.id)
    if prediction.ranking is None:
        empty_panel(axes, "the answer could not be read")
        return
    names = dict(zip(sample.side.options, sample.side.option_labels, strict=False))
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
    """The times of the events before, and that of the next one with its interval."""
    sample, prediction = answered
    gap = sample.side.channels.index("gap_h")
    hours = (sample.time[:-1] - sample.time[-2]) / HOUR_S
    axes.vlines(hours, 0, 1, color=INK, linewidth=1, label="events")
    axes.set(
        yticks=[], xlabel=f"hours after {calendar.local_iso(int(sample.time[-2]), sample.side.timezone)}"
    )
    axes.set_title(f"The next event of {sample.place[0]}")
    if prediction.value is None or not np.isfinite(prediction.value[-1, 0, gap]):
        axes.set_title(f"{axes.get_title()}: its time is not predicted")
        return
    axes.vlines(prediction.value[-1, 0, gap], 0, 1, color=SECOND, linewidth=2, label="predicted")
    if prediction.quantiles is not None:
        low, high = (float(prediction.quantiles[level][-1, 0, gap]) for level in (0.05, 0.95))
        axes.axvspan(low, high, color=PALETTE[1], alpha=0.15, linewidth=0, label="5 to 95 %")
    axes.set_ylim(0, 1.15)
    axes.legend(frameon=False, loc="upper center", ncols=3)
