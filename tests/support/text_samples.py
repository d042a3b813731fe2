"""Tiny samples of every kind and task, made from types alone: what each template that ships is tried on."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from st2llm import tasks
from st2llm.serialize.graph.anomaly import plant_anomaly
from st2llm.serialize.questions import generate_questions, question_sample
from st2llm.serialize.template.template import Template
from st2llm.types import MONTH_S, Layout, Sample
from support import five_kinds
from support.graph_samples import counts, forecast_sample

XY = np.array([[0.0, 0.0], [300.0, 10.0], [-20.0, -450.0]])
_DAY = 86_400
_ONE_SERIES = ("deltas", "trend-words", "fixed-decimals", "scientific")
"""Strategies that write one series in an answer, or several of like size."""


def for_template(template: Template) -> dict[str, Sample]:
    """Samples of its kind and task by name, not narrowed yet."""
    head = template.head
    if head.task == "question-answer":
        grammar = "" if head.answer is None else head.answer.grammar
        return dict(_asked(head.kind, grammar))
    if head.task == "anomaly":
        return {
            name: plant_anomaly(one, one.place[0]) for name, one in _graphs().items() if name != "nothing"
        }
    made = dict(_MAKERS[head.kind](head.task))
    if head.kind == "event" and head.task == "next-event" and head.answer is not None:
        codes = {"choice": ("mark", "where"), "ranking": ("mark", "where")}
        fitting = (
            ("where",)
            if head.id.endswith(".where")
            else codes.get(head.answer.grammar, ("gap", "gap and place"))
        )
        return {name: made[name] for name in fitting}
    if head.answer is not None and head.answer.grammar == "pair":
        return {name: _one_step(one) for name, one in made.items()}
    if getattr(head.answer, "strategy", "scaled") in _ONE_SERIES:
        made.pop("two channels", None)
    return made


def narrowed(template: Template, sample: Sample) -> Sample:
    """As the template wants it: asked for its first place where it is for one."""
    return sample if template.head.per == "sample" else sample.at(sample.place[sample.wanted_nodes[0]])


def masked(sample: Sample, task: tasks.Task) -> Sample:
    """The whole of a sample asked in another task."""
    full = np.where(sample.wanted, np.nan if sample.truth is None else sample.truth, sample.values)
    hidden = task.hidden(full.shape, sample.id)
    visible = np.isfinite(full) & ~hidden
    wanted = hidden & np.isfinite(full).any(axis=0)[None]
    return replace(
        sample,
        values=np.where(visible, full, np.nan),
        visible=visible,
        wanted=wanted,
        truth=np.where(wanted, full, np.nan),
        task=task.type,
    )


def _graphs() -> dict[str, Sample]:
    gaps = np.where(np.arange(96)[:, None] % 50 == 7, np.nan, counts(96, 3))
    placed = {"xy": XY, "channels": ("pedestrians",)}
    return {
        "whole days": forecast_sample(counts(96, 3), side=placed),
        "gaps, partial days": forecast_sample(gaps, start="2024-06-03T10:00", side=placed),
        "negative": forecast_sample(counts(96, 3) - 150),
        "large fractions": forecast_sample(counts(96, 3) * 1000 / 7),
        "five minutes": forecast_sample(counts(24, 3), horizon=12, freq_s=300),
        "daily": forecast_sample(counts(60, 3), horizon=7, freq_s=_DAY),
        "two channels": _two_channels(forecast_sample(counts(96, 3), side=placed)),
        "notes": forecast_sample(
            counts(96, 3), side={"notes": ("A festival fills the square.",), "description": ""}
        ),
        "nothing": forecast_sample(np.zeros((96, 3))),
    }


def _two_channels(sample: Sample) -> Sample:
    def doubled(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, values * 0.013 - 2], axis=2)

    return replace(
        sample,
        values=doubled(sample.values),
        visible=np.repeat(sample.visible, 2, axis=2),
        wanted=np.repeat(sample.wanted, 2, axis=2),
        truth=doubled(sample.truth),
        side=replace(sample.side, channels=("inflow", "outflow"), unit=""),
    )


def _graph(task: str) -> Iterator[tuple[str, Sample]]:
    for name, sample in _graphs().items():
        yield name, _in_task(sample, task)


def _in_task(sample: Sample, task: str) -> Sample:
    length = len(sample.time)
    masks = {
        "impute": tasks.impute(length),
        "interpolate": tasks.interpolate(length),
        "krige": tasks.krige(length),
    }
    return masked(sample, masks[task]) if task in masks else sample


def grids() -> dict[str, Sample]:
    """Sea in degrees with land, counts in cells, two channels, months."""
    sea = five_kinds.field_samples(five_kinds.grid(), 8, 3)[0]
    degrees = tuple(f"{row:g}°N {col:g}°E" for row in (60.0, 50.0, 40.0, 30.0) for col in (0.0, 10.0, 20.0))
    sea = _beside(replace(sea, side=replace(sea.side, labels=degrees, description="Water that warms.")), 4, 3)
    sea = _without_land(sea)
    count = replace(sea, id="count", values=np.rint(sea.values), truth=np.rint(sea.truth))
    layout = Layout(np.arange(4.0), np.arange(3.0))
    cells = tuple(f"row {i + 1}, column {j + 1}" for i in range(4) for j in range(3))
    count = replace(
        count, side=replace(count.side, layout=layout, labels=cells, quantity="crimes", unit="reports")
    )
    months = replace(
        sea,
        time=(np.datetime64("2020-01", "M") + np.arange(len(sea.time)))
        .astype("datetime64[s]")
        .astype(np.int64),
        side=replace(sea.side, freq_s=MONTH_S),
    )
    return {"sea": sea, "counts": count, "two channels": _two_channels(count), "months": months}


def _without_land(sample: Sample) -> Sample:
    """Cells that are never read are never asked for."""
    sea = (np.isfinite(sample.values) | np.isfinite(sample.truth)).any(axis=0)[None]
    return replace(
        sample, wanted=sample.wanted & sea, truth=np.where(sample.wanted & sea, sample.truth, np.nan)
    )


def _beside(sample: Sample, rows: int, cols: int) -> Sample:
    near = []
    for i in range(rows):
        for j in range(cols):
            around = ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))
            near.append(tuple((r * cols + c, 1.0) for r, c in around if 0 <= r < rows and 0 <= c < cols))
    return replace(sample, side=replace(sample.side, neighbours=tuple(near)))


def _grid(task: str) -> Iterator[tuple[str, Sample]]:
    for name, sample in grids().items():
        yield name, _in_task(sample, task)


def _video(task: str) -> Iterator[tuple[str, Sample]]:
    for name, step in (("left", -4), ("right", 4))[: 2 if task == "classify" else 1]:
        whole = replace(
            five_kinds.clip_sample(five_kinds.clip(step=step, name=name)),
            place=five_kinds.clip_sample(five_kinds.clip()).place,
        )
        if task in ("classify", "describe"):
            yield name, whole if task == "classify" else replace(whole, task=task)
            continue
        end = len(whole.time)
        mask: tasks.Task = tasks.forecast(end - 3, 3) if task == "forecast" else tasks.impute(end)
        mask = {"interpolate": tasks.interpolate(end), "krige": tasks.krige(end)}.get(task, mask)
        asked = masked(replace(whole, label=None), mask)
        wanted = asked.wanted & np.array([True, False])
        seen = asked.visible.any(axis=(1, 2))
        yield (
            name,
            replace(
                asked,
                wanted=wanted,
                truth=np.where(wanted, asked.truth, np.nan),
                side=replace(asked.side, frames=whole.side.frames[seen], options=(), option_labels=()),
            ),
        )


def _trajectory(task: str) -> Iterator[tuple[str, Sample]]:
    if task == "next-place":
        told = five_kinds.stay_sample(five_kinds.stays())
        yield "timed", told
        yield "untimed", untimed(told)
        return
    for name, east, north in (("east", 1.3, 0.0), ("south-west", -14.7, -8.2)):
        walk = five_kinds.walk_sample(five_kinds.walk(east=east, north=north), 8)
        turned = walk.values + np.sin(np.arange(len(walk.time)))[:, None, None]
        bent = replace(walk, values=np.where(walk.visible, turned, np.nan))
        asked = (
            masked(bent, tasks.recover(len(walk.time), 3)) if task == "recover" else replace(bent, task=task)
        )
        if task == "classify":
            side = replace(bent.side, options=("walk", "bus"), option_labels=("walk", "bus"))
            asked = replace(
                bent, task=task, wanted=np.zeros_like(bent.wanted), truth=None, label="bus", side=side
            )
        yield name, asked


def _one_step(sample: Sample) -> Sample:
    """The same with one asked step: what can be said as a pair."""
    wanted = sample.wanted.copy()
    wanted[sample.first_wanted_step + 1 :] = False
    end = sample.first_wanted_step + 1
    days = sample.side.calendar
    cut = replace(
        days,
        step_of_day=days.step_of_day[:end],
        day_of_week=days.day_of_week[:end],
        holiday=days.holiday[:end],
    )
    return replace(
        sample,
        values=sample.values[:end],
        visible=sample.visible[:end],
        wanted=wanted[:end],
        time=sample.time[:end],
        truth=np.where(wanted, sample.truth, np.nan)[:end],
        side=replace(sample.side, calendar=cut),
    )


def untimed(sample: Sample) -> Sample:
    """A next place whose time is not told: it repeats the last that is known."""
    time = sample.time.copy()
    time[-1] = time[-2]
    days = sample.side.calendar
    step, week = days.step_of_day.copy(), days.day_of_week.copy()
    step[-1], week[-1] = step[-2], week[-2]
    side = replace(sample.side, calendar=replace(days, step_of_day=step, day_of_week=week))
    return replace(sample, time=time, side=side)


def _event(task: str) -> Iterator[tuple[str, Sample]]:
    first = replace(five_kinds.event_samples(five_kinds.events())[0], task=task)
    yield "gap", first
    if task == "next-event":
        yield "gap and place", _wanting(first, ("gap_h", "x", "y"))
        yield "where", _wanting(first, ("x", "y"))
        yield "mark", _wanting(first, ("mark",))


def _wanting(sample: Sample, asked: tuple[str, ...]) -> Sample:
    """The same event asked for other channels."""
    whole = five_kinds.events()
    code, step = whole.mark, len(sample.time) - 1
    last = {
        "gap_h": float(whole.time[step] - whole.time[step - 1]) / 3600,
        "x": float(whole.xy[step, 0]),
        "y": float(whole.xy[step, 1]),
        "mark": float(code[step]),
    }
    wanted, truth = np.zeros_like(sample.wanted), np.full(sample.values.shape, np.nan)
    for name in asked:
        channel = sample.side.channels.index(name)
        wanted[-1, 0, channel], truth[-1, 0, channel] = True, last[name]
    label = whole.marks[int(last["mark"])] if "mark" in asked else None
    return replace(sample, wanted=wanted, truth=truth, label=label)


_MAKERS = {"graph": _graph, "grid": _grid, "video": _video, "trajectory": _trajectory, "event": _event}
_SEEN = {
    "graph": "forecast",
    "grid": "forecast",
    "video": "classify",
    "trajectory": "forecast",
    "event": "next-event",
}


def _asked(kind: str, grammar: str) -> Iterator[tuple[str, Sample]]:
    """Questions whose answers are of that grammar."""
    for name, sample in list(_MAKERS[kind](_SEEN[kind]))[: 1 if kind == "video" else 3]:
        for question in generate_questions(replace(sample, label=None)):
            numeric = question.answer.replace(".", "", 1).lstrip("-").isdigit()
            if (grammar in ("choice", "ranking") and not question.options) or (
                grammar == "numbers" and not numeric
            ):
                continue
            yield f"{name}, {question.topic}", question_sample(sample, question)
