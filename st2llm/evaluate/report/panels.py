"""The figures of a report: which arms, seeds and rows each of them shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from st2llm.evaluate.report.cautions import training_label
from st2llm.evaluate.report.figures import charts
from st2llm.evaluate.report.formats import (
    MISSING,
    SCALED_UNIT,
    format_count,
    format_duration,
    format_number,
    metric_name,
    metric_unit,
)
from st2llm.evaluate.report.verdict import Verdict
from st2llm.evaluate.run_folder.record import Gain, Record, finite_number
from st2llm.evaluate.run_folder.results import RunResults
from st2llm.evaluate.scoring.channels import ChannelScale, ChannelScales
from st2llm.evaluate.scoring.errors import MeanErrors
from st2llm.evaluate.scoring.examples import Example, choose_examples
from st2llm.types import DAY_S, HOUR_S, MONTH_S

STEPS = {300: "5-minute step", 900: "quarter-hour", HOUR_S: "hour", DAY_S: "day", MONTH_S: "month"}
MOST_LINES = 3
"""The number of predictors in an example figure where no language model took part."""
MOST_QUOTED = 6000
"""Longer prompts are shortened, in characters; the answers file holds them whole."""


@dataclass(frozen=True)
class Panel:
    """A figure with its heading and a note."""

    title: str
    svg: str
    note: str = ""


@dataclass(frozen=True)
class ExamplePanel:
    """One sample: the figure, and the prompt and answer of the language model where one was prompted.

    values: (predictor, value) pairs where no figure shows them. usage: tokens and seconds. unread: the reason why the
    answer could not be parsed, or ''.
    """

    title: str
    svg: str
    values: tuple[tuple[str, str], ...]
    rank: str
    prompt: str
    answer: str
    usage: str
    unread: str


def gains(rows: Sequence[Record], *, relative: bool, name: str) -> str:
    """The gains of every arm with pretrained weights, without intervals where there are too few blocks."""
    table = gain_table(rows)
    return "" if table.empty else charts.gains(table, relative=relative, name=name)


def gain_table(rows: Sequence[Record]) -> pd.DataFrame:
    """A row for each gain of an arm with pretrained weights, as `charts.draw_gains` takes it."""
    table = [
        bar(f"{row.predictor} vs {label}", gain, row.role)
        for row in rows
        for gain, label in ((row.gain_best, "best other"), (row.gain_pretraining, "random LLM"))
        if row.pretrained and gain is not None
    ]
    return pd.DataFrame(table)


def bar(label: str, gain: Gain, role: str) -> dict[str, object]:
    ends = (np.nan, np.nan) if gain.low is None else (gain.low, gain.high)
    return {"label": label, "value": gain.value, "low": ends[0], "high": ends[1], "role": role}


def cost(results: RunResults, rows: Sequence[Record], *, name: str) -> str:
    """The primary metric against the seconds of training and of predicting all test windows."""
    table = cost_table(results, rows)
    if table.empty:
        return ""
    return charts.accuracy_cost(table, metric=metric_label(results), higher=not results.relative, name=name)


def metric_label(results: RunResults) -> str:
    """The name of the primary metric and its unit."""
    unit = _primary_unit(results)
    return metric_name(results.primary) + (f" ({unit})" if unit else "")


def _primary_unit(results: RunResults) -> str:
    return metric_unit(results.primary, results.unit_of(results.primary))


def cost_table(results: RunResults, rows: Sequence[Record]) -> pd.DataFrame:
    """A row for each arm whose time was measured, as `charts.draw_accuracy_cost` takes it; shares in percent."""
    points = []
    most = results.most_windows(rows[0].task) if rows else 0
    for row in rows:
        score = row.measured.get(results.primary)
        times = [row.cost.get("train_s"), row.cost.get("predict_s_per_sample")]
        if score is None or all(time is None for time in times):
            continue
        seconds = (times[0] or 0.0) + (times[1] or 0.0) * (most or row.n)
        ends = {"low": score.low, "high": score.high}
        points.append(
            {"predictor": row.predictor, "role": row.role, "cost_s": seconds, "value": score.value, **ends}
        )
    table = pd.DataFrame(points)
    if points and _primary_unit(results) == "%":
        table[["value", "low", "high"]] = table[["value", "low", "high"]].astype(float) * 100
    return table


def horizon(
    results: RunResults,
    rows: Sequence[Record],
    errors: Mapping[str, MeanErrors],
    verdict: Verdict,
    *,
    name: str,
) -> str:
    if not errors or max(len(mean_errors.by_step) for mean_errors in errors.values()) < 2:
        return ""
    most = results.most_windows(rows[0].task)
    strong = {verdict.reference, verdict.llm_arm.predictor if verdict.llm_arm else None}
    tables = []
    for row in rows:
        if row.predictor in errors:
            line = errors[row.predictor].by_step.rename("error").reset_index()
            line["predictor"], line["role"] = row.predictor, row.role
            line["dashed"] = results.windows.get((row.task, row.predictor), most) < most
            line["strong"] = row.predictor in strong
            tables.append(line)
    step = STEPS.get(int(results.data.get("freq_s") or 0), "step")
    ahead = rows[0].task.startswith("forecast")
    axis = f"{step}s ahead" if ahead else f"{step}s from the first predicted one"
    error = "mean distance" if results.predicts_positions else charts.ERROR
    return charts.error_by_step(
        pd.concat(tables), unit=_error_unit(results), axis=axis, error=error, name=name
    )


def _error_unit(results: RunResults) -> str:
    """The unit of errors over all channels."""
    scaled = ChannelScales.from_json(results.data).targets.several_units
    return SCALED_UNIT if scaled else str(results.data.get("unit") or "")


def curves(results: RunResults, rows: Sequence[Record], task: str, *, name: str) -> tuple[Panel, ...]:
    panels = []
    for i, row in enumerate(rows):
        runs = [
            run
            for run in results.curves
            if run.get("predictor") == row.predictor and run.get("task", task) == task
        ]
        chosen = [run for run in runs if run.get("chosen")]
        if not chosen:
            continue
        table = pd.concat(
            [_curve(run, k, part) for k, run in enumerate(runs) for part in ("train", "validation")]
        )
        state = "" if row.training_end is None else training_label(row)
        svg = charts.learning_curve(table, role=row.role, state=state, name=f"{name}-{i}")
        rates = " and ".join(dict.fromkeys(f"{run['lr']:g}" for run in chosen if run.get("lr") is not None))
        panels.append(Panel(row.predictor, svg, f"learning rate {rates}" if rates else ""))
    return tuple(panels)


def _curve(run: Mapping[str, Any], index: int, part: str) -> pd.DataFrame:
    pairs = [(s, finite_number(v)) for s, v in zip(run.get("step", []), run.get(part, []), strict=False)]
    rows = [(s, v) for s, v in pairs if v is not None]
    table = pd.DataFrame(rows, columns=["step", "loss"])
    return table.assign(run=index, lr=run.get("lr"), chosen=bool(run.get("chosen")), part=part)


def examples(
    results: RunResults, rows: Sequence[Record], verdict: Verdict, task: str
) -> tuple[ExamplePanel, ...]:
    text = next((row.predictor for row in rows if row.role == "text"), None)
    arm = verdict.llm_arm.predictor if verdict.llm_arm else None
    predictors = [name for name in dict.fromkeys([text, arm, verdict.reference]) if name]
    if arm is None:
        predictors = [row.predictor for row in rows[:MOST_LINES]]
    roles = {row.predictor: row.role for row in rows if row.predictor in predictors}
    chosen = choose_examples(results, task, predictors=predictors, quoted=text)
    return tuple(_example_panel(results, example, roles, name=f"e{i}") for i, example in enumerate(chosen))


def _example_panel(
    results: RunResults, example: Example, roles: dict[str, str], *, name: str
) -> ExamplePanel:
    answer = example.answer or {}
    tokens_in, tokens_out = (
        format_count(finite_number(answer.get(key))) for key in ("tokens_in", "tokens_out")
    )
    tokens = f"{tokens_in} tokens in, {tokens_out} out"
    reason = answer.get("unread_reason")
    draws = example.draws
    tokens = (
        f"draw {int(finite_number(answer.get('draw')) or 0) + 1} of {draws}, {tokens}"
        if draws > 1
        else tokens
    )
    return ExamplePanel(
        title=_title(results, example),
        svg=_drawing(results, example, roles, name=name),
        values=_values_in_words(results, example),
        rank=example.rank,
        prompt=_short(str(answer.get("prompt", ""))),
        answer=str(answer.get("answer", "")),
        usage=f"{tokens}, {format_duration(finite_number(answer.get('seconds')))}" if answer else "",
        unread=str(reason) if isinstance(reason, str) else "",
    )


def _local_times(results: RunResults, example: Example) -> list[datetime]:
    """The local time of each step of an example."""
    zone = ZoneInfo(str(results.data.get("timezone") or "UTC"))
    times = example.lines.drop_duplicates("step").sort_values("step")["time"]
    return [datetime.fromtimestamp(int(t), UTC).astimezone(zone) for t in times]


def _title(results: RunResults, example: Example) -> str:
    """The place and the date of an example; sequences without a date show the sample."""
    where = _labels(results).get(example.place, example.place)
    if results.kind in ("video", "trajectory"):  # clips have no date, and some paths none that matters
        return where if where in example.sample else f"{example.sample}, {where}"
    channel = _channel(results, example)
    where = f"{where}, {channel.label}" if channel else where
    return f"{where}, {_local_times(results, example)[0]:%a %d %b %Y}"


def _channel(results: RunResults, example: Example) -> ChannelScale | None:
    """The channel that an example shows, where there are several."""
    channels = ChannelScales.from_json(results.data).channels
    if not channels or "channel" not in example.lines or example.lines.empty:
        return None
    return channels[int(example.lines["channel"].iloc[0])]


def _unit(results: RunResults, example: Example) -> str:
    """The unit of the values of an example."""
    channel = _channel(results, example)
    return channel.unit if channel else str(results.data.get("unit") or "")


def _drawing(results: RunResults, example: Example, roles: dict[str, str], *, name: str) -> str:
    """The figure of an example: paths, or values over time; '' for a single value or a label."""
    lines, unit = example.lines, _unit(results, example)
    if "true_x" in lines:
        return charts.paths(lines, roles=roles, unit=unit, name=name)
    if lines["step"].nunique() < 2:
        return ""
    local = _local_times(results, example)
    clock = "%Hh" if all(t.minute == 0 for t in local) else "%H:%M"
    hours = [f"{t:{clock}}" for t in local]
    freq_s = int(results.data.get("freq_s") or 0)
    if freq_s >= DAY_S:
        hours = [f"{t:%d %b}" if freq_s < MONTH_S else f"{t:%b %Y}" for t in local]
    elif not freq_s:
        hours = [str(step) for step in sorted(lines["step"].unique())]
    return charts.forecast(lines, roles=roles, hours=hours, unit=unit, name=name)


def _values_in_words(results: RunResults, example: Example) -> tuple[tuple[str, str], ...]:
    """(predictor, value) pairs, the truth first, for a single value or a label."""
    lines = example.lines
    if "true_x" in lines or (lines["step"].nunique() > 1 and not lines["label"].notna().any()):
        return ()
    unit = _unit(results, example)
    first = lines.iloc[0]
    if (lines["part"] == "label").any():
        pairs = [(str(row.predictor), str(row.answer or MISSING)) for row in lines.itertuples()]
        return (("truth", str(first["label"])), *pairs)
    pairs = [
        (str(r.predictor), f"{format_number(finite_number(r.value))} {unit}".strip())
        for r in lines.itertuples()
    ]
    return (("truth", f"{format_number(finite_number(first['truth']))} {unit}".strip()), *pairs)


def _short(prompt: str) -> str:
    if len(prompt) <= MOST_QUOTED:
        return prompt
    left = len(prompt) - MOST_QUOTED
    return (
        prompt[: MOST_QUOTED // 2]
        + f"\n[... {left:,} characters left out ...]\n"
        + prompt[-MOST_QUOTED // 2 :]
    )


def _labels(results: RunResults) -> dict[str, str]:
    return {str(p["id"]): str(p.get("label") or p["id"]) for p in results.data.get("places") or []}


def place_map(
    results: RunResults,
    errors: Mapping[str, MeanErrors],
    verdict: Verdict,
    rows: Sequence[Record],
) -> tuple[str, tuple[tuple[str, ...], ...]]:
    """A map of the mean error of the best LLM arm (else of the best predictor) at each place, and its table."""
    best = verdict.llm_arm.predictor if verdict.llm_arm else next((r.predictor for r in rows), "")
    if best not in errors:
        return "", ()
    place_errors = errors[best].by_place
    reference = errors.get(verdict.reference or "") if verdict.llm_arm else None
    table = pd.DataFrame(results.data.get("places") or [], columns=["id", "label", "lon", "lat"])
    table["label"] = table["label"].fillna(table["id"])
    table["error"] = table["id"].map(place_errors)
    table["other"] = table["id"].map(reference.by_place) if reference else np.nan
    table["side"] = np.where(
        table["other"].isna(), "", np.where(table["error"] < table["other"], "better", "worse")
    )
    listed = tuple(
        (
            str(row.label),
            format_number(finite_number(row.error)),
            format_number(finite_number(row.other)),
            str(row.side),
        )
        for row in table.sort_values("error", ascending=False).itertuples(index=False)
    )
    if table.empty or table[["lon", "lat"]].isna().any(axis=None):
        return "", listed
    edges = pd.DataFrame(results.data.get("edges") or [], columns=["i", "j", "weight"])
    return charts.sensor_map(table, edges, unit=_error_unit(results)), listed
