"""What a report shows, in the order in which it shows it: facts in, rows, panels and paragraphs out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from st2llm.evaluate.report import error_summary, figures, panels, protocol
from st2llm.evaluate.scoring import formats as w
from st2llm.evaluate.scoring.gain import Estimate, Gain
from st2llm.evaluate.scoring.run_folder import Facts, Record, number, read_gain
from st2llm.evaluate.scoring.verdict import Verdict, judge, llm_name, outcome_of
from st2llm.metrics import VALUES
from st2llm.predict.answer_counts import CATEGORIES, CATEGORY_DESCRIPTIONS


@dataclass(frozen=True)
class GainCell:
    text: str
    span: str
    vs: str
    side: str
    """better, worse, open or few."""


@dataclass(frozen=True)
class Row:
    """A predictor in the table, in words."""

    predictor: str
    role: str
    family: str
    backbone: str
    marks: tuple[str, ...]
    metrics: tuple[tuple[str, str], ...]
    gain_best: GainCell | None
    gain_pretraining: GainCell | None
    n: str
    unread: str
    converged: str
    cost: Mapping[str, str]
    windows: str
    """How many windows, where they are fewer than others had; else ''."""
    llm: str
    """Which language model, where it is not the one the suite names; else ''."""


@dataclass(frozen=True)
class TaskView:
    task: str
    verdict: Verdict
    metrics: tuple[tuple[str, str], ...]
    """The name of each column of metrics, and its unit."""
    rows: tuple[Row, ...]
    pooling: str
    seeds: tuple[tuple[str, ...], ...]
    seed_names: tuple[str, ...]
    rules: tuple[tuple[str, ...], ...]
    ledger: tuple[tuple[str, ...], ...]
    """What came of the answers of each text arm: its name, all its answers, those of each of CATEGORIES."""
    drawn: str
    """How text arms drew their answers, where there are any."""
    gains: str
    cost: str
    horizon: str
    curves: tuple[panels.Panel, ...]
    examples: tuple[panels.Shown, ...]
    map: str
    places: tuple[tuple[str, ...], ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Control:
    name: str
    expected: str
    description: str
    train_note: str
    test_note: str
    passed: bool
    gains: tuple[tuple[str, GainCell], ...]
    arms: tuple[tuple[str, str, str, str], ...]
    svg: str


@dataclass(frozen=True)
class Page:
    title: str
    demo: bool
    tasks: tuple[TaskView, ...]
    controls: tuple[Control, ...]
    detectable: str
    protocol: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    cost_names: Mapping[str, str]
    ledger_names: tuple[tuple[str, str], ...]
    primary: str
    """The name of the metric that decides."""
    stand_in: str
    """What is imputed for an unreadable answer."""
    error: str
    """What the error of a place is called."""
    lower: bool
    """Whether lower is better."""
    by: str
    """By what examples are chosen."""
    several: bool = False


LEDGER = tuple((category.replace("_", " "), meaning) for category, meaning in CATEGORY_DESCRIPTIONS.items())
"""The names of the ledger's columns, and what they mean."""
COSTS = {
    "params_total": ("params", w.large),
    "params_trained": ("params trained", w.large),
    "train_s": ("train", w.duration),
    "predict_s_per_sample": ("predict / window", w.duration),
    "tokens_in": ("tokens in", w.large),
    "tokens_out": ("tokens out", w.large),
    "flops": ("flops / window", w.large),
    "peak_mb": ("peak MB", w.count),
}


def build(facts: Facts) -> Page:
    """The whole page; figures of single places are drawn for the last task alone."""
    suite = facts.run["suite"]
    title = str(suite.get("title") or suite.get("id") or facts.folder.name)
    tasks = tuple(_task(facts, task, number=i) for i, task in enumerate(facts.tasks))
    return Page(
        title=re.sub(r"^demo:\s*", "", title, flags=re.IGNORECASE) if suite.get("demo") else title,
        demo=bool(suite.get("demo")),
        tasks=tasks,
        controls=tuple(
            _control(facts, name) for name in ("positive", "negative") if facts.controls.get(name)
        ),
        detectable=_detectable(facts, tasks),
        protocol=protocol.describe(facts),
        cost_names={key: name for key, (name, _) in COSTS.items()},
        ledger_names=LEDGER,
        primary=w.metric_name(facts.primary),
        stand_in=facts.stand_in,
        error="distance from the truth" if facts.moves else figures.ERROR,
        lower=facts.relative,
        by="the rank of the true word" if facts.labels else "relative error",
        several=len(tasks) > 1,
    )


def _task(facts: Facts, task: str, *, number: int) -> TaskView:
    rows = facts.pooled(task)
    verdict = judge(facts, task)
    last = task == facts.tasks[-1]
    names = tuple(dict.fromkeys([facts.primary, *(name for row in rows for name in row.metrics)]))
    found = {
        row.predictor: error_summary.errors(
            facts.files("predictions", row.predictor, task, suffix=".parquet")
        )
        for row in rows
    }
    errors = {name: one for name, one in found.items() if one is not None}
    seeds = tuple(sorted({r.seed for r in facts.records if r.task == task and r.seed is not None}))
    shown = panels.examples(facts, rows, verdict, task) if last else ()
    drawn, places = panels.place_map(facts, errors, verdict, rows) if last else ("", ())
    horizon = panels.horizon(facts, rows, errors, verdict, name=f"h{number}")
    return TaskView(
        task=task,
        verdict=verdict,
        metrics=tuple(_head(facts, name) for name in names),
        rows=tuple(_row(facts, row, verdict, names) for row in rows),
        pooling=_pooling(facts, rows),
        seeds=_by_seed(facts, task, rows, seeds),
        seed_names=tuple(f"seed {seed}" for seed in seeds),
        rules=_rules(facts, rows),
        ledger=_ledger(rows),
        drawn=_drawn(facts, rows),
        gains=panels.gains(rows, relative=facts.relative, name=f"g{number}"),
        cost=panels.cost(facts, rows, name=f"c{number}"),
        horizon=horizon,
        curves=panels.curves(facts, rows, task, name=f"l{number}"),
        examples=shown,
        map=drawn,
        places=places,
        left_out=_left_out(
            facts, errors=bool(errors), horizon=bool(horizon), last=last, shown=bool(shown), drawn=bool(drawn)
        ),
    )


def _row(facts: Facts, record: Record, verdict: Verdict, names: Sequence[str]) -> Row:
    marks = []
    if verdict.llm_arm is not None and record.predictor == verdict.llm_arm.predictor:
        marks.append("best LLM arm")
    if record.predictor == verdict.reference:
        marks.append("best" if verdict.outcome == "none" else "best reference")
    windows = facts.windows.get((record.task, record.predictor), 0)
    most = facts.most_windows(record.task)
    return Row(
        predictor=record.predictor,
        role=record.role,
        family=record.family,
        backbone=record.backbone or w.NOTHING,
        marks=tuple(marks),
        metrics=tuple(_metric(name, record.metrics.get(name)) for name in names),
        gain_best=_gain(record.gain_best, relative=facts.relative),
        gain_pretraining=_gain(record.gain_pretraining, relative=facts.relative),
        n=w.count(record.n),
        unread=w.count(record.unread),
        converged={True: "yes", False: "not converged", None: w.NOTHING}[record.converged],
        cost={key: say(record.cost.get(key)) for key, (_, say) in COSTS.items()},
        windows=f"{windows} of {most} windows" if 0 < windows < most else "",
        llm=_other_llm(facts, record),
    )


def _other_llm(facts: Facts, record: Record) -> str:
    own, suite = llm_name(record.llm), llm_name(facts.run.get("llm"))
    return own if record.llm and own != suite else ""


def _head(facts: Facts, name: str) -> tuple[str, str]:
    """A metric's name and unit; the unit of the data stands with the metric that decides alone."""
    own = w.unit_of(name, str(facts.data.get("unit") or ""))
    shown = own if name == facts.primary or name not in VALUES else ""
    return w.metric_name(name), shown


def _metric(name: str, score: Estimate | None) -> tuple[str, str]:
    if score is None:
        return w.NOTHING, ""
    return w.score(name, score.value), w.score_span(name, score.low, score.high)


def _gain(gain: Gain | None, *, relative: bool) -> GainCell | None:
    if gain is None:
        return None
    side = outcome_of(gain)
    span = "too few blocks" if side == "few" else w.gain_span(gain.low, gain.high)
    return GainCell(w.gain(gain.value, relative=relative), span, gain.vs, side)


def _pooling(facts: Facts, rows: Sequence[Record]) -> str:
    """What stands above the table: whether its errors have intervals."""
    scores = [row.metrics[facts.primary] for row in rows if facts.primary in row.metrics]
    if all(score.low is None for score in scores):
        return "Pooled over seeds. Too few blocks for intervals."
    return (
        "Pooled over seeds, with 95 % intervals. Intervals of single arms are wide because all arms share hard "
        f"and easy {facts.blocks}; gains are paired and therefore sharper."
    )


def _by_seed(
    facts: Facts, task: str, rows: Sequence[Record], seeds: Sequence[int]
) -> tuple[tuple[str, ...], ...]:
    """The primary metric of each seed, where there are several."""
    if len(seeds) < 2:
        return ()
    score = {(r.predictor, r.seed): facts.score(r) for r in facts.records if r.task == task}
    return tuple(
        (row.predictor, *(w.score(facts.primary, score.get((row.predictor, s))) for s in seeds))
        for row in rows
    )


def _rules(facts: Facts, rows: Sequence[Record]) -> tuple[tuple[str, ...], ...]:
    """The primary metric under the three rules for unreadable answers, side by side."""
    found = []
    for row in rows:
        if row.unread_rules:
            values = [
                row.unread_rules.get(rule, {}).get(facts.primary)
                for rule in ("dropped", "penalised", "imputed")
            ]
            said = (w.score(facts.primary, value) for value in values)
            found.append((row.predictor, w.count(row.n), w.count(row.unread), *said))
    return tuple(found)


def _ledger(rows: Sequence[Record]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (row.predictor, w.count(row.n), *(w.count(row.ledger.get(category, 0)) for category in CATEGORIES))
        for row in rows
        if row.ledger
    )


def _drawn(facts: Facts, rows: Sequence[Record]) -> str:
    """How each text arm was asked, in words."""
    said, each = [], "place" if facts.data.get("places") else "question"
    for row in rows:
        if row.decoding:
            draws, temperature = int(row.decoding["draws"]), float(row.decoding["temperature"])
            how = (
                f"{w.plural(draws, 'draw')} of each {each} at temperature {temperature:g}, "
                f"top-p {float(row.decoding['top_p']):g}"
                if temperature
                else f"the most probable answer of each {each}"
            )
            counts = f"; {facts.of_draws} counts" if draws > 1 else ""
            said.append(f"{row.predictor}: {how}{counts}{_set(row)}.")
    return " ".join(said)


def _set(record: Record) -> str:
    """What a text arm did otherwise than its template says, in words."""
    own, parts = record.asked, []
    if examples := own.get("examples"):
        how = {"random": "drawn at random", "recent": "the latest", "shape": "the most alike"}
        parts.append(f"{w.plural(examples['count'], 'example')}, {how[examples['by']]}")
    if answer := own.get("answer_set"):
        parts.append("numbers as " + ", ".join(f"{key} {value}" for key, value in answer.items()))
    if budget := own.get("budget"):
        parts.append(f"prompts of at most {budget:,} tokens")
    return "".join(f"; {part}" for part in parts)


def _left_out(
    facts: Facts, *, errors: bool, horizon: bool, last: bool, shown: bool, drawn: bool
) -> dict[str, str]:
    """Why a part of the page is missing, in words; only for parts that are."""
    gone = {}
    if not errors:
        gone["horizon"] = "This run holds no predictions, so errors by step are not shown."
    if facts.labels:
        gone["horizon"] = "A word is asked for, which has no horizon."
    elif errors and not horizon:
        gone["horizon"] = "One step is asked for, so there is no horizon."
    if not facts.curves:
        gone["curves"] = "No arm of this run was trained step by step, or its curves were not kept."
    if last and not shown:
        gone["examples"] = "This run holds no predictions, so none is shown beside the truth."
    if last and not drawn:
        gone["map"] = "The places have no coordinates, or there are no predictions to draw."
        if not facts.data.get("places"):
            gone["map"] = "These data have no list of fixed places to draw."
    return gone


def _control(facts: Facts, name: str) -> Control:
    spec = facts.controls[name]
    cells, bars = [], []
    for key, label in (("gain_best", "gain over best other"), ("gain_pretraining", "gain over random LLM")):
        gain = read_gain(spec.get(key))
        cell = _gain(gain, relative=facts.relative)
        if gain is not None and cell is not None:
            cells.append((label, cell))
            bars.append(panels.bar(label, gain, "soft"))
    return Control(
        name=name,
        expected={
            "positive": "both intervals must lie above zero",
            "negative": "both intervals must hold zero",
        }[name],
        description=str(spec.get("description") or ""),
        train_note=str(spec.get("train_note") or ""),
        test_note=str(spec.get("test_note") or ""),
        passed=bool(spec.get("passed")),
        gains=tuple(cells),
        arms=tuple(_control_arm(facts, arm) for arm in spec.get("arms") or []),
        svg=figures.gains(pd.DataFrame(bars), relative=facts.relative, name=f"k-{name}") if bars else "",
    )


def _control_arm(facts: Facts, arm: Mapping[str, Any]) -> tuple[str, str, str, str]:
    span = w.score_span(facts.primary, number(arm.get("low")), number(arm.get("high")))
    value = w.score(facts.primary, number(arm.get("value")))
    return str(arm.get("predictor")), str(arm.get("backbone") or ""), value, span


def _detectable(facts: Facts, tasks: Sequence[TaskView]) -> str:
    """The smallest gain that this run could have seen, or why that cannot be said."""
    found = []
    for view in tasks:
        gain = view.verdict.llm_arm.gain_best if view.verdict.llm_arm else None
        if gain is not None and gain.detectable is not None:
            where = f" on {view.task}" if len(tasks) > 1 else ""
            amount = w.size(gain.detectable, relative=facts.relative)
            found.append(f"The smallest gain this run could have seen{where} is {amount}.")
    return " ".join(found)
