"""The content of a report in the order of the page: rows, panels and paragraphs made from the results."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from st2llm.evaluate.report import panels, protocol
from st2llm.evaluate.report.cautions import training_label
from st2llm.evaluate.report.content import ControlSection, GainCell, Page, TableRow, TaskSection
from st2llm.evaluate.report.figures import charts
from st2llm.evaluate.report.formats import (
    MISSING,
    format_count,
    format_duration,
    format_gain,
    format_gain_interval,
    format_gain_size,
    format_large,
    format_p,
    format_score,
    format_score_interval,
    format_share,
    metric_name,
    metric_unit,
    pluralize,
)
from st2llm.evaluate.report.protocol import block_name, draw_rule, imputation_name
from st2llm.evaluate.report.verdict import Verdict, compute_verdict, control_outcome, llm_name
from st2llm.evaluate.run_folder.record import Estimate, Gain, Record, finite_number
from st2llm.evaluate.run_folder.results import RunResults
from st2llm.evaluate.scoring.channels import ChannelScales
from st2llm.evaluate.scoring.errors import mean_errors
from st2llm.evaluate.scoring.gains.outcome import gain_outcome, shortage
from st2llm.evaluate.scoring.records import best_text_arm
from st2llm.metrics import VALUE_METRICS, split_metric
from st2llm.predict.answer_counts import CATEGORIES, CATEGORY_DESCRIPTIONS

ANSWER_CATEGORIES = tuple(
    (category.replace("_", " "), meaning) for category, meaning in CATEGORY_DESCRIPTIONS.items()
)
"""Names and meanings of the categories of answers."""
COSTS = {
    "params_total": ("params", format_large),
    "params_trained": ("params trained", format_large),
    "train_s": ("train", format_duration),
    "predict_s_per_sample": ("predict / window", format_duration),
    "tokens_in": ("tokens in", format_large),
    "tokens_out": ("tokens out", format_large),
    "flops": ("flops / window", format_large),
    "peak_mb": ("peak MB", format_count),
}


def build_page(results: RunResults) -> Page:
    """The whole page. Examples and the map are made for the last task only."""
    suite = results.run["suite"]
    title = str(suite.get("title") or suite.get("id") or results.folder.name)
    tasks = tuple(_task(results, task, number=i) for i, task in enumerate(results.tasks))
    return Page(
        title=re.sub(r"^demo:\s*", "", title, flags=re.IGNORECASE) if suite.get("demo") else title,
        demo=bool(suite.get("demo")),
        tasks=tasks,
        controls=tuple(
            _control(results, name) for name in ("positive", "negative") if results.controls.get(name)
        ),
        doses=_doses(results),
        detectable=_detectable(results, tasks),
        protocol=protocol.describe(results),
        cost_names={key: name for key, (name, _) in COSTS.items()},
        answer_categories=ANSWER_CATEGORIES,
        primary=metric_name(results.primary),
        stand_in=imputation_name(results),
        error="distance from the truth" if results.predicts_positions else charts.ERROR,
        lower=results.relative,
        by="the rank of the true label" if results.predicts_labels else "relative error",
        several=len(tasks) > 1,
    )


def _task(results: RunResults, task: str, *, number: int) -> TaskSection:
    rows = results.pooled(task)
    verdict = compute_verdict(results, task)
    last = task == results.tasks[-1]
    names = _shown_metrics(results, rows)
    channels = ChannelScales.from_json(results.data)
    by_predictor = {
        row.predictor: mean_errors(
            results.files("predictions", row.predictor, task, suffix=".parquet"), channels
        )
        for row in rows
    }
    errors = {name: mean_error for name, mean_error in by_predictor.items() if mean_error is not None}
    seeds = tuple(sorted({r.seed for r in results.records if r.task == task and r.seed is not None}))
    examples = panels.examples(results, rows, verdict, task) if last else ()
    drawn, places = panels.place_map(results, errors, verdict, rows) if last else ("", ())
    horizon = panels.horizon(results, rows, errors, verdict, name=f"h{number}")
    return TaskSection(
        task=task,
        verdict=verdict,
        metrics=tuple(_header(results, name) for name in names),
        rows=tuple(_row(results, row, verdict, names) for row in rows),
        pooling=_pooling(results, rows),
        seeds=_by_seed(results, task, rows, seeds),
        seed_names=tuple(f"seed {seed}" for seed in seeds),
        rules=_rules(results, rows),
        answer_counts=_answer_counts(rows),
        decoding=_decoding(results, rows),
        gains=panels.gains(rows, relative=results.relative, name=f"g{number}"),
        cost=panels.cost(results, rows, name=f"c{number}"),
        horizon=horizon,
        curves=panels.curves(results, rows, task, name=f"l{number}"),
        examples=examples,
        map=drawn,
        places=places,
        left_out=_left_out(
            results,
            errors=bool(errors),
            horizon=bool(horizon),
            last=last,
            shown=bool(examples),
            drawn=bool(drawn),
        ),
    )


def _shown_metrics(results: RunResults, rows: Sequence[Record]) -> tuple[str, ...]:
    """The metrics of the table, the primary one first; of single channels the MAE alone, as there may be many."""
    measured = dict.fromkeys(name for row in rows for name in row.measured)
    shown = (name for name in measured if split_metric(name)[0] == "mae" or not split_metric(name)[1])
    return tuple(dict.fromkeys([results.primary, *shown]))


def _text_note(record: Record, *, is_best: bool) -> str:
    """Of a text arm: whether it is the best of several on validation, and what its prompts tell."""
    told = f"told {format_share(record.told['share'])} of the visible values" if record.told else ""
    return ", ".join(part for part in ("best text arm on validation" if is_best else "", told) if part)


def _row(results: RunResults, record: Record, verdict: Verdict, names: Sequence[str]) -> TableRow:
    marks = []
    best_text = best_text_arm(results.pooled(record.task), lower=not results.validation_is_score)
    if verdict.llm_arm is not None and record.predictor == verdict.llm_arm.predictor:
        marks.append("best LLM arm")
    if record.predictor == verdict.reference:
        marks.append("best" if verdict.outcome == "none" else "best reference")
    windows = results.windows.get((record.task, record.predictor), 0)
    most = results.most_windows(record.task)
    return TableRow(
        record=record,
        backbone=record.backbone or MISSING,
        marks=tuple(marks),
        metrics=tuple(_metric(name, record.measured.get(name)) for name in names),
        gain_best=_gain(record.gain_best, relative=results.relative),
        gain_pretraining=_gain(record.gain_pretraining, relative=results.relative),
        n=format_count(record.n),
        unread=format_count(record.unread),
        converged="yes" if record.converged else training_label(record),
        cost={key: format_cost(record.cost.get(key)) for key, (_, format_cost) in COSTS.items()},
        windows=f"{windows} of {most} windows" if 0 < windows < most else "",
        text_note=_text_note(record, is_best=record is best_text),
        llm=_other_llm(results, record),
    )


def _other_llm(results: RunResults, record: Record) -> str:
    record_llm, suite_llm = llm_name(record.llm), llm_name(results.run.get("llm"))
    return record_llm if record.llm and record_llm != suite_llm else ""


def _header(results: RunResults, name: str) -> tuple[str, str]:
    """Name and unit of a metric; the unit of the data is given for the primary metric only."""
    unit = metric_unit(name, results.unit_of(name))
    shown_unit = unit if name == results.primary or name not in VALUE_METRICS else ""
    return metric_name(name), shown_unit


def _metric(name: str, score: Estimate | None) -> tuple[str, str]:
    if score is None:
        return MISSING, ""
    return format_score(name, score.value), format_score_interval(name, score.low, score.high)


def _gain(gain: Gain | None, *, relative: bool) -> GainCell | None:
    if gain is None:
        return None
    span = "too few blocks" if gain.low is None else format_gain_interval(gain.low, gain.high)
    note = shortage(gain).partition(":")[0] if gain.low is not None else ""
    p = f"Holm p {format_p(gain.p_adjusted)}" if gain.p_adjusted is not None else ""
    return GainCell(format_gain(gain.value, relative=relative), span, gain.vs, gain_outcome(gain), note or p)


def _pooling(results: RunResults, rows: Sequence[Record]) -> str:
    """The paragraph above the table: whether its metrics have intervals."""
    scores = [row.measured[results.primary] for row in rows if results.primary in row.measured]
    if all(score.low is None for score in scores):
        return "Pooled over seeds. Too few blocks for intervals."
    return (
        "Pooled over seeds, with 95 % intervals. Intervals of single arms are wide because all arms share hard "
        f"and easy {block_name(results)}; gains are paired and therefore more precise."
    )


def _by_seed(
    results: RunResults, task: str, rows: Sequence[Record], seeds: Sequence[int]
) -> tuple[tuple[str, ...], ...]:
    """The primary metric of each seed, where there are several."""
    if len(seeds) < 2:
        return ()
    score = {(r.predictor, r.seed): results.score(r) for r in results.records if r.task == task}
    return tuple(
        (row.predictor, *(format_score(results.primary, score.get((row.predictor, s))) for s in seeds))
        for row in rows
    )


def _rules(results: RunResults, rows: Sequence[Record]) -> tuple[tuple[str, ...], ...]:
    """The primary metric under the three rules for unreadable answers, side by side."""
    lines = []
    for row in rows:
        if row.unread_rules:
            values = [
                row.unread_rules.get(rule, {}).get(results.primary)
                for rule in ("dropped", "penalised", "imputed")
            ]
            sentences = (format_score(results.primary, value) for value in values)
            lines.append((row.predictor, format_count(row.n), format_count(row.unread), *sentences))
    return tuple(lines)


def _answer_counts(rows: Sequence[Record]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            row.predictor,
            format_count(row.n),
            *(format_count(row.answer_counts.get(category, 0)) for category in CATEGORIES),
        )
        for row in rows
        if row.answer_counts
    )


def _decoding(results: RunResults, rows: Sequence[Record]) -> str:
    """How each text arm was prompted and decoded."""
    sentences, each = [], "place" if results.data.get("places") else "question"
    for row in rows:
        if row.decoding:
            draws, temperature = int(row.decoding["draws"]), float(row.decoding["temperature"])
            how = (
                f"{pluralize(draws, 'draw')} of each {each} at temperature {temperature:g}, "
                f"top-p {float(row.decoding['top_p']):g}"
                if temperature
                else f"the most probable answer of each {each}"
            )
            counts = f"; {draw_rule(results)} counts" if draws > 1 else ""
            sentences.append(f"{row.predictor}: {how}{counts}{_set(row)}.")
    return " ".join(sentences)


def _set(record: Record) -> str:
    """What a text arm changed in its template: examples, number format, token budget."""
    settings, parts = record.prompt_settings, []
    if examples := settings.get("examples"):
        how = {"random": "drawn at random", "recent": "the latest", "shape": "the most similar"}
        parts.append(f"{pluralize(examples['count'], 'example')}, {how[examples['by']]}")
    if answer := settings.get("answer_set"):
        parts.append("numbers as " + ", ".join(f"{key} {value}" for key, value in answer.items()))
    if budget := settings.get("budget"):
        parts.append(f"prompts of at most {budget:,} tokens")
    return "".join(f"; {part}" for part in parts)


def _left_out(
    results: RunResults, *, errors: bool, horizon: bool, last: bool, shown: bool, drawn: bool
) -> dict[str, str]:
    """Why a section of the page is empty, by name of the section."""
    reasons = {}
    if not errors:
        reasons["horizon"] = "This run holds no predictions, so errors by step are not shown."
    if results.predicts_labels:
        reasons["horizon"] = "A label is predicted, which has no horizon."
    elif errors and not horizon:
        reasons["horizon"] = "One step is predicted, so there is no horizon."
    if not results.curves:
        reasons["curves"] = "No arm of this run was trained step by step, or its curves were not kept."
    if last and not shown:
        reasons["examples"] = "This run holds no predictions, so none is shown beside the truth."
    if last and not drawn:
        reasons["map"] = "The places have no coordinates, or there are no predictions to draw."
        if not results.data.get("places"):
            reasons["map"] = "These data have no list of fixed places to draw."
    return reasons


def _control(results: RunResults, name: str) -> ControlSection:
    spec = results.controls[name]
    cells, bars = [], []
    for key, label in (("gain_best", "gain over best other"), ("gain_pretraining", "gain over random LLM")):
        gain = Gain.from_json(spec.get(key))
        cell = _gain(gain, relative=results.relative)
        if gain is not None and cell is not None:
            cells.append((label, cell))
            bars.append(panels.bar(label, gain, "soft"))
    return ControlSection(
        name=name,
        expected={
            "positive": "both intervals must lie above zero",
            "negative": "both intervals must contain zero",
        }[name],
        description=str(spec.get("description") or ""),
        train_note=str(spec.get("train_note") or ""),
        test_note=str(spec.get("test_note") or ""),
        outcome=control_outcome(spec),
        facts=_control_facts(results, spec),
        gains=tuple(cells),
        arms=tuple(_control_arm(results, arm) for arm in spec.get("arms") or []),
        svg=charts.gains(pd.DataFrame(bars), relative=results.relative, name=f"k-{name}") if bars else "",
    )


def _control_facts(results: RunResults, spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences about what a control planted, how far its arms are apart, and its seeds; none of earlier runs."""
    planted, sentences = spec.get("planted") or {}, []
    ends = [
        format_score(results.primary, finite_number(planted.get(key)))
        for key in ("without_note", "with_note")
    ]
    if (learned := finite_number(spec.get("learned"))) is not None:
        sentences.append(
            f"The effect is the same in all samples ({metric_name(results.primary)} {ends[0]} for a forecast without "
            f"it, {ends[1]} with it). Each arm learned at least {100 * learned:.0f} % of it."
        )
    elif (gain := finite_number(planted.get("gain"))) is not None:
        sentences.append(
            f"Planted: {format_gain_size(finite_number(spec.get('strength')), relative=results.relative)}; on the test "
            f"windows a perfect use of the note gains {format_gain_size(gain, relative=results.relative)} "
            f"({metric_name(results.primary)} {ends[0]} without the note, {ends[1]} with it)."
        )
    if (moved := finite_number(spec.get("moved"))) is not None:
        sentences.append(
            f"The predictions of the LLM arm and of its nearer reference differ by {100 * moved:.1f} % "
            f"{'of samples' if results.predicts_labels else 'of the error'}, which bounds the gain."
        )
    if seeds := spec.get("seeds"):
        sentences.append(f"Seeds: {', '.join(map(str, seeds))}.")
    return tuple(sentences)


def _doses(results: RunResults) -> tuple[tuple[str, ...], ...]:
    """Planted and measured gains by control, the weakest first; empty for runs of earlier versions."""
    known = [spec for spec in results.controls.values() if finite_number(spec.get("strength")) is not None]
    rows = []
    for spec in sorted(known, key=lambda spec: float(spec["strength"])):
        cells = [
            _gain(Gain.from_json(spec.get(key)), relative=results.relative)
            for key in ("gain_best", "gain_pretraining")
        ]
        measured = [f"{cell.text} {cell.span}".strip() if cell else MISSING for cell in cells]
        rows.append(
            (
                format_gain_size(float(spec["strength"]), relative=results.relative),
                *measured,
                control_outcome(spec),
            )
        )
    return tuple(rows)


def _control_arm(results: RunResults, arm: Mapping[str, Any]) -> tuple[str, str, str, str]:
    span = format_score_interval(
        results.primary, finite_number(arm.get("low")), finite_number(arm.get("high"))
    )
    value = format_score(results.primary, finite_number(arm.get("value")))
    return str(arm.get("predictor")), str(arm.get("backbone") or ""), value, span


def _detectable(results: RunResults, tasks: Sequence[TaskSection]) -> str:
    """The smallest gain that this run can detect, for each task where it is known."""
    sentences = []
    for view in tasks:
        gain = view.verdict.llm_arm.gain_best if view.verdict.llm_arm else None
        if gain is not None and gain.detectable is not None:
            where = f" on {view.task}" if len(tasks) > 1 else ""
            amount = format_gain_size(gain.detectable, relative=results.relative)
            sentences.append(f"The smallest gain that such a run finds in 80 % of cases{where} is {amount}.")
    return " ".join(sentences)
