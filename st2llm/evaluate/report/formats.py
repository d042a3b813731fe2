"""Text forms of numbers: signed percentages, four significant digits, thousands separators."""

import math
from collections.abc import Mapping

from st2llm.metrics import PATH_METRICS, SCALED_METRICS, split_metric

MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EN DASH}"
"""The text of a missing value."""
SCALED_UNIT = "SD"
"""The unit of errors that are divided by the standard deviation of their channel in training."""


METRIC_NAMES: Mapping[str, str] = {
    "event_f1": "event F1",
    "log_loss": "log loss",
    "acc@1": "Acc@1",
    "acc@5": "Acc@5",
    "acc@10": "Acc@10",
    "ade_m": "ADE",
    "fde_m": "FDE",
    "minade_m": "best draw's ADE",
    "minfde_m": "best draw's FDE",
    "energy_m": "energy score",
    "cover90": "in its 90 %",
    "mae_scaled": "scaled MAE",
    "rmse_scaled": "scaled RMSE",
    "crps_scaled": "scaled CRPS",
}
"""Names of metrics that are not their key in capitals."""
PERCENT_METRICS = frozenset({"acc@1", "acc@5", "acc@10", "cover90"})
"""Metrics in percent."""
IMPUTATION_NAMES: Mapping[str, str] = {
    "last-value": "last value",
    "last-position": "last position",
    "counts": "most visited place",
    "median-gap": "median gap",
    "majority": "majority class",
    "mean": "mean of the place",
}
"""Names of the rules that are imputed for unreadable answers."""


def metric_name(key: str) -> str:
    """The name of a metric: `MAE`, `Acc@1`, `ADE`; of one channel: `MAE of temperature`."""
    base, channel = split_metric(key)
    name = METRIC_NAMES.get(base, base.upper())
    return f"{name} of {channel.replace('_', ' ')}" if channel else name


def metric_unit(key: str, unit: str) -> str:
    """The unit of a metric: that of the data or channel, or its own; '' where it has none."""
    key = split_metric(key)[0]
    if key in SCALED_METRICS:
        return SCALED_UNIT
    if key in ("ade_m", "fde_m", *PATH_METRICS):
        return unit or "units of the map"
    if key in PERCENT_METRICS:
        return "%"
    return "nats" if key in ("nll", "log_loss") else unit if key in ("mae", "rmse", "crps") else ""


def format_score(key: str, value: float | None) -> str:
    """A metric's value in its unit: shares in percent, all else as `figure`."""
    if split_metric(key)[0] in PERCENT_METRICS and value is not None and math.isfinite(value):
        return f"{100 * value:.2f}"
    return format_number(value)


def format_score_interval(key: str, low: float | None, high: float | None) -> str:
    """An interval of a metric (`25.10 to 27.02`), '' where there is none."""
    return "" if low is None or high is None else f"{format_score(key, low)} to {format_score(key, high)}"


def format_number(value: float | None) -> str:
    """A metric with three to four significant digits (`26.13`, `0.1204`, `1,234`)."""
    if value is None or not math.isfinite(value):
        return MISSING
    size = abs(value)
    if 0 < size < 0.001:
        return _minus(f"{value:.2e}")
    digits = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 1 else 4
    return _minus(f"{value:,.{digits}f}")


def format_interval(low: float | None, high: float | None) -> str:
    """An interval of a metric (`25.10 to 27.02`), '' where there is none."""
    return "" if low is None or high is None else f"{format_number(low)} to {format_number(high)}"


def format_gain(value: float | None, *, relative: bool = True) -> str:
    """A gain with its sign: a share as percent, a difference of scores in points (hundredths), with one decimal."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{_signed(100 * value, 1)} {'%' if relative else 'points'}"


def format_gain_interval(low: float | None, high: float | None) -> str:
    """The interval of a gain, in the gain's own unit: `[−5.0, −1.2]`; '' where there is none."""
    if low is None or high is None:
        return ""
    ends = [_signed(100 * x, 1) for x in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"


def format_gain_size(value: float | None, *, relative: bool = True) -> str:
    """How large a gain is, without its sign."""
    return format_gain(value, relative=relative).lstrip("+" + MINUS)


def format_p(value: float) -> str:
    """A p value with two digits (`= 0.03`, `< 0.001`)."""
    return "< 0.001" if value < 0.001 else f"= {value:.2g}" if value < 0.1 else f"= {value:.2f}"


def format_count(value: float | None) -> str:
    """A whole number with its thousands set apart."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:,.0f}"


def format_large(value: float | None) -> str:
    """A large number in short (`134.5 M`)."""
    if value is None or not math.isfinite(value):
        return MISSING
    for limit, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:,.0f}"


def format_share(share: float) -> str:
    """A share as a percentage: `6 %`."""
    return f"{100 * share:.0f} %"


def format_duration(seconds: float | None) -> str:
    """A duration in ms, s, min or h."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds == 0:
        return "0 s"
    if seconds < 0.0995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 99.5:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def pluralize(number: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _signed(value: float, digits: int) -> str:
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return (MINUS if value < 0 else "+") + text


def _minus(text: str) -> str:
    return text.replace("-", MINUS) if text.startswith("-") else text
