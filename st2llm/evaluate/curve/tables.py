"""The tables of a curve: errors, gains, crossings and costs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from st2llm.evaluate.curve.answer import crossing_text, gain_text
from st2llm.evaluate.curve.pairs import Pair
from st2llm.evaluate.curve.points import cover_all
from st2llm.evaluate.curve.rows import CurveRow, by_predictor
from st2llm.evaluate.report.formats import (
    MISSING,
    format_count,
    format_duration,
    format_large,
    format_score,
    format_score_interval,
    metric_name,
    metric_unit,
)
from st2llm.evaluate.run_folder.record import Gain
from st2llm.metrics import is_higher_better


@dataclass(frozen=True)
class Table:
    """A table of a report. about: a sentence above it."""

    title: str
    about: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables_of(rows: Sequence[CurveRow], pairs: Sequence[Pair], unit: str) -> list[Table]:
    """All tables of one task; those without a single value are left out. unit: of the data."""
    metric, relative = rows[0].metric, not is_higher_better(rows[0].metric)
    name = f"{metric_name(metric)}{f' ({suffix})' if (suffix := metric_unit(metric, unit)) else ''}"

    def gains(get: Callable[[CurveRow], Gain | None]) -> Callable[[CurveRow], str]:
        return lambda row: "" if (gain := get(row)) is None else gain_text(gain, relative=relative)

    tables = [
        _by_point(rows, name, "With its 95 % interval over blocks and seeds.", _error),
        _by_point(
            rows,
            "Gain over the best predictor without pretrained weights",
            "Of each point; the reference is the best on validation there.",
            gains(lambda row: row.gain_best),
        ),
        _by_point(
            rows,
            "Gain over the same arm with random weights",
            "The gain of pre-training.",
            gains(lambda row: row.gain_pretraining),
        ),
        _groups(rows, relative=relative),
        _by_point(
            rows,
            "Cosines of gradients",
            "Of each two objectives that a predictor is trained by, on the parameters that they share; means over "
            "evaluations and seeds. Below 0 they are in conflict.",
            lambda row: "; ".join(f"{pair} {value:+.2f}" for pair, value in row.cosines.items()),
        ),
        _crossings(pairs, relative=relative),
        _by_point(
            rows,
            "Gain over the first point",
            _about_change(rows),
            gains(lambda row: row.change),
        ),
        _by_point(rows, "Training windows", "", lambda row: format_count(row.train_windows)),
        _costs(rows),
    ]
    return [table for table in tables if _has_values(table)]


def _about_change(rows: Sequence[CurveRow]) -> str:
    if cover_all(("windows",), rows[0].at):
        return (
            "Each predictor against itself at the first point, which has other test windows: negative is a loss. The "
            "errors of the two count as independent."
        )
    return "Each predictor against itself at the first point, on the same test windows."


def _has_values(table: Table) -> bool:
    return any(cell not in ("", MISSING) for row in table.rows for cell in row[1:])


def _by_point(rows: Sequence[CurveRow], title: str, about: str, cell: Callable[[CurveRow], str]) -> Table:
    """A row for each predictor that has a value, a column for each point."""
    points = list(dict.fromkeys(_at(row) for row in rows))
    body = []
    for name, own in by_predictor(rows).items():
        cells = {_at(row): cell(row) for row in own}
        if any(text not in ("", MISSING) for text in cells.values()):
            body.append((name, *(cells.get(point, "") for point in points)))
    return Table(title, about, (", ".join(rows[0].at), *points), tuple(body))


def _at(row: CurveRow) -> str:
    return ", ".join(str(value) for value in row.at.values())


def _error(row: CurveRow) -> str:
    interval = format_score_interval(row.metric, row.error.low, row.error.high)
    return f"{format_score(row.metric, row.error.value)}{f' ({interval})' if interval else ''}"


def _groups(rows: Sequence[CurveRow], *, relative: bool) -> Table:
    """The gain of the best of one group over the best of the other, a row for each point."""
    body = [
        (_at(row), row.predictor, gain.vs, gain_text(gain, relative=relative))
        for row in rows
        if (gain := row.gain_group) is not None
    ]
    about = "The best of each group on validation; intervals include how much both choices flatter."
    return Table(
        "Gain of one group over the other",
        about,
        (", ".join(rows[0].at), "best of the first group", "best of the other", "gain"),
        tuple(body),
    )


def _crossings(pairs: Sequence[Pair], *, relative: bool) -> Table:
    body = []
    for pair in pairs:
        if pair.crossing is not None:
            within = "" if pair.crossing.within is None else f"{100 * pair.crossing.within:.0f} %"
            ends = [gain_text(pair.gains[i], relative=relative) for i in (0, -1)]
            body.append((pair.one, pair.other, *ends, pair.overtakes, crossing_text(pair), within))
    first, last = (pairs[0].values[0], pairs[0].values[-1]) if pairs else ("", "")
    head = ("predictor", "over", f"gain at {first}", f"gain at {last}", "ahead at the end", "from", "inside")
    about = (
        "Where the predictor that is ahead at the end of the range overtakes the other, in the logarithm of the axis, "
        "with a 95 % interval over the test blocks and seeds of all points; `inside` is the share of resamples with a "
        "crossing inside the range."
    )
    return Table("Crossings", about, head, tuple(body))


def _costs(rows: Sequence[CurveRow]) -> Table:
    """The cost of each predictor at the last point."""
    body = [_cost(name, own[-1]) for name, own in by_predictor(rows).items()]
    head = ("predictor", "trained parameters", "training", "a window", "flops a window", "peak memory")
    return Table(f"Cost at {_at(rows[-1])}", "Means over seeds; memory is the highest.", head, tuple(body))


def _cost(name: str, row: CurveRow) -> tuple[str, ...]:
    cost: dict[str, Any] = {key: value for key, value in row.cost.items() if value is not None}
    memory = f"{cost['peak_mb'] / 1000:.1f} GB" if "peak_mb" in cost else MISSING
    return (
        name,
        format_large(cost.get("params_trained")),
        format_duration(cost.get("train_s")),
        format_duration(cost.get("predict_s_per_sample")),
        format_large(cost.get("flops")),
        memory,
    )
