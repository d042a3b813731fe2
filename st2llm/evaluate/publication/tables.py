"""Tables of committed comparisons in Markdown."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from st2llm.evaluate.publication.committed import CommittedReport
from st2llm.evaluate.report.cautions import training_label
from st2llm.evaluate.report.formats import (
    MISSING,
    format_count,
    format_gain,
    format_gain_interval,
    format_gain_size,
    format_p,
    format_score,
    metric_name,
    metric_unit,
)
from st2llm.evaluate.report.verdict import compute_verdict
from st2llm.evaluate.run_folder.record import Estimate, Gain, Record
from st2llm.evaluate.run_folder.results import RunResults
from st2llm.evaluate.scoring.gains.multiplicity import holm
from st2llm.evaluate.scoring.records import best_llm_arm

_VERDICTS = {"unclear": "cannot tell", "no-verdict": "no verdict", "none": MISSING}
"""Words for the outcomes of a verdict that are not words themselves."""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def headline(*reports: CommittedReport) -> str:
    """A row for each task: the best arm of each family, the gains of the best LLM arm and the verdict."""
    header = (
        "task, error",
        "best baseline",
        "no LLM",
        "best LLM arm",
        "text arms",
        "LLM gain",
        "gain of pretraining",
    )
    rows = []
    for run, task in _tasks(reports):
        arms, verdict = run.pooled(task), compute_verdict(run, task)
        llm = verdict.llm_arm
        cells = [
            f"{task_label(run, task)}, {error_name(run)}",
            _score(run, best_baseline(run, task)),
            _score(run, next((arm for arm in arms if arm.backbone == "none"), None)),
            _named_score(run, llm),
            ", ".join(_named_score(run, arm) for arm in _text_arms(run, task)) or MISSING,
            *(
                gain_over(gain, run)
                for gain in ((llm.gain_best, llm.gain_pretraining) if llm else (None, None))
            ),
            _VERDICTS.get(verdict.outcome, verdict.outcome),
        ]
        rows.append(cells)
    return markdown_table((*header, "verdict"), rows)


def errors(report: CommittedReport) -> str:
    """A row for each arm and a column for each task; the baseline is the one that is best on test."""
    columns = list(report.tasks)
    baselines = [best_baseline(run, task) for run, task in columns]
    rows = [["best baseline", *(_named_score(r, a) for (r, _), a in zip(columns, baselines, strict=True))]]
    for name in _arm_names(report):
        arms = [next((a for a in r.pooled(t) if a.predictor == name), None) for r, t in columns]
        rows.append([name, *(_score(r, a, mark=True) for (r, _), a in zip(columns, arms, strict=True))])
    return markdown_table(
        ("arm", *(f"{task_label(run, task)}, {error_name(run)}" for run, task in columns)), rows
    )


def gains(report: CommittedReport) -> str:
    """A row for each task: both gains of the LLM arm that is best on validation, and what the run could detect.

    p: of the LLM gain, by Holm's method over the LLM arms of the task, as recorded, and then over the tasks.
    """
    verdicts = [compute_verdict(run, task) for run, task in report.tasks]
    best = [verdict.llm_arm.gain_best if verdict.llm_arm else None for verdict in verdicts]
    p_values = holm([gain.p_adjusted if gain else None for gain in best])
    rows = []
    for (run, task), verdict, gain, p in zip(report.tasks, verdicts, best, p_values, strict=True):
        arm = verdict.llm_arm
        cells = [
            task_label(run, task),
            arm.predictor if arm else MISSING,
            gain_over(gain, run),
            MISSING if p is None else format_p(p).removeprefix("= "),
            gain_over(arm.gain_pretraining if arm else None, run),
            _detectable(gain, run),
            format_count(gain.n_blocks if gain else None),
            str(len(run.run["seeds"])),
            _VERDICTS.get(verdict.outcome, verdict.outcome),
        ]
        rows.append(cells)
    header = ("task", "best LLM arm", "LLM gain", "p", "gain of pretraining", "detectable", "blocks", "seeds")
    return markdown_table((*header, "verdict"), rows)


def _detectable(gain: Gain | None, run: RunResults) -> str:
    """The gain found in 80 % of runs; records without a p value hold half the width of the interval instead."""
    known = gain is not None and gain.p is not None and gain.detectable is not None
    return format_gain_size(gain.detectable, relative=run.relative) if gain and known else MISSING


def controls(report: CommittedReport) -> str:
    """A row for each planted control of each run: its strength, the gains measured, and whether they are as planted."""
    rows = []
    for run in report.runs:
        label = task_label(run, run.tasks[0])
        for name, control in run.controls.items():
            gains = [
                gain_over(Gain.from_json(control[key]), run) for key in ("gain_best", "gain_pretraining")
            ]
            shares = [_share(control.get(key)) for key in ("strength", "moved")]
            outcome = control.get("outcome") or ("passed" if control["passed"] else "failed")
            rows.append([label, name, shares[0], *gains, shares[1], str(outcome)])
        if not run.controls:
            rows.append([label, *[MISSING] * 5, "not in the records"])
    header = ("task", "control", "planted", "LLM gain", "gain of pretraining", "arms differ by", "outcome")
    return _compact_table(header, rows)


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f} %"


def predictors(report: CommittedReport) -> str:
    """A row for each predictor of each task, the best on test first, with intervals and both gains."""
    rows = []
    for run, task in report.tasks:
        for arm in run.pooled(task):
            name = arm.predictor + ("" if _on_plateau(arm) else f" ({training_label(arm)})")
            gains = [gain_over(gain, run) for gain in (arm.gain_best, arm.gain_pretraining)]
            estimate = _estimate(run, arm.metrics.get(run.primary))
            rows.append([task_label(run, task), name, arm.family, estimate, *gains, format_count(arm.n)])
    names = " or ".join(dict.fromkeys(error_name(run) for run in report.runs))
    header = ("task", "predictor", "family", f"{names} [95 %]", "LLM gain", "gain of pretraining", "n")
    return _compact_table(header, rows)


def _compact_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table without columns that hold nothing, and without the first one where it holds the same in every row."""
    columns = list(zip(header, *rows, strict=True))
    kept = [column for column in columns if set(column[1:]) != {MISSING}]
    kept = kept[1:] if len(set(kept[0][1:])) == 1 else kept
    shown = list(zip(*kept, strict=True))
    return markdown_table(shown[0], shown[1:])


def seeds(report: CommittedReport) -> str:
    """A row for each seed: both gains of every trained LLM arm, then the same pooled over seeds."""
    rows = []
    for run, task in report.tasks:
        names = [arm.predictor for arm in run.pooled(task) if arm.pretrained and arm.family == "soft"]
        for seed in (*run.run["seeds"], None):
            for name in names:
                arm = next(r for r in run.records if (r.task, r.predictor, r.seed) == (task, name, seed))
                gains = [gain_over(g, run) for g in (arm.gain_best, arm.gain_pretraining)]
                rows.append(["all" if seed is None else str(seed), name, *gains])
    return markdown_table(("seed", "arm", "LLM gain", "gain of pretraining"), rows)


def verdicts(report: CommittedReport) -> str:
    """The verdict on each task with its cautions, as quotations."""
    lines = []
    for run, task in report.tasks:
        verdict = compute_verdict(run, task)
        lines += [verdict.sentence, *verdict.cautions]
    return "\n>\n".join(f"> {line}" for line in dict.fromkeys(lines))


def natives(*reports: CommittedReport) -> str:
    """A row for each task: the native model that is best on validation and the baseline that is best on test."""
    rows = []
    for run, task in _tasks(reports):
        native = best_on_validation(run, [arm for arm in run.pooled(task) if arm.family == "primitive"])
        baseline = best_baseline(run, task)
        name = f"`{run.run['suite']['id']}`" + (f", {task}" if len(run.tasks) > 1 else "")
        pair = [_named_estimate(run, arm) for arm in (native, baseline)]
        rows.append([name, error_name(run), *pair, _further_metrics(native, baseline)])
    header = ("suite", "error", "native model [95 %]", "best baseline [95 %]", "further metrics (baseline)")
    return markdown_table(header, rows)


def _further_metrics(native: Record | None, baseline: Record | None) -> str:
    """Metrics of a native model, and of the baseline in brackets."""
    parts = []
    for name in ("fde_m", "minade_m", "minfde_m", "nll", "event_f1"):
        values = [
            arm.measured[name].value if arm and name in arm.measured else None for arm in (native, baseline)
        ]
        if values[0] is not None:
            own, other = (format_score(name, value) for value in values)
            parts.append(f"{metric_name(name)} {own} ({other})")
    return ", ".join(parts) or MISSING


def best_baseline(run: RunResults, task: str) -> Record | None:
    """The baseline that is best on test, which makes the comparison with it the hardest; None without baselines."""
    return next((arm for arm in run.pooled(task) if arm.family == "baseline"), None)


def best_on_validation(run: RunResults, arms: Sequence[Record]) -> Record | None:
    """The arm that is best on validation; None where no arm has a validation score."""
    scored = [arm for arm in arms if arm.validation is not None]
    sign = -1 if run.validation_is_score else 1
    return min(scored, key=lambda arm: sign * (arm.validation or 0.0), default=None)


def _format_gain(gain: Gain | None, run: RunResults) -> str:
    """A gain with its interval: `+0.2 % [−2.5, +3.1]`."""
    if gain is None:
        return MISSING
    span = format_gain_interval(gain.low, gain.high) or f"({gain.n_blocks} blocks: no interval)"
    return f"{format_gain(gain.value, relative=run.relative)} {span}"


def gain_over(gain: Gain | None, run: RunResults) -> str:
    """A gain with its interval and reference: `+0.2 % [−2.5, +3.1] over none`."""
    return MISSING if gain is None else f"{_format_gain(gain, run)} over {gain.vs}"


@dataclass(frozen=True)
class TaskGains:
    """The gains of the LLM arm of a task that is best on validation, the verdict, and how the task is called."""

    label: str
    relative: bool
    best: Gain | None
    pretraining: Gain | None
    verdict: str


def task_gains(*reports: CommittedReport) -> list[TaskGains]:
    """The gains that the headline shows, in the order of its rows."""
    rows = []
    for run, task in _tasks(reports):
        verdict = compute_verdict(run, task)
        arm, words = verdict.llm_arm, _VERDICTS.get(verdict.outcome, verdict.outcome)
        both = (arm.gain_best, arm.gain_pretraining) if arm else (None, None)
        rows.append(TaskGains(task_label(run, task), run.relative, *both, verdict=words))
    return rows


def _tasks(reports: Sequence[CommittedReport]) -> Iterable[tuple[RunResults, str]]:
    return ((run, task) for report in reports for run, task in report.tasks)


def task_label(run: RunResults, task: str) -> str:
    """The task of a suite in words: its kind of data, and its title without the name of the list it belongs to."""
    title = str(run.run["suite"]["title"]).split(": ")[-1]
    return f"{run.kind}: {title}" + (f", {task}" if len(run.tasks) > 1 else "")


def error_name(run: RunResults) -> str:
    """The primary metric with its unit."""
    unit = metric_unit(run.primary, run.unit_of(run.primary))
    return metric_name(run.primary) + (f" in {unit}" if unit else "")


def _text_arms(run: RunResults, task: str) -> list[Record]:
    """The text arms; the one that is best on validation first, the others in the order of the suite."""
    names = [row.predictor for row in run.records]
    arms = sorted((a for a in run.pooled(task) if a.family == "text"), key=lambda a: names.index(a.predictor))
    best = best_on_validation(run, arms)
    return sorted(arms, key=lambda arm: arm is not best)


def _arm_names(report: CommittedReport) -> list[str]:
    """The predictors of all runs without baselines, in the order of the suites."""
    names = (r.predictor for run in report.runs for r in run.records if r.family != "baseline")
    return list(dict.fromkeys(names))


def _score(run: RunResults, arm: Record | None, *, mark: bool = False) -> str:
    if arm is None:
        return MISSING
    chosen = mark and arm in (best_llm_arm(run.pooled(arm.task), lower=run.relative),)
    text = format_score(run.primary, run.score(arm)) + ("*" if mark and not _on_plateau(arm) else "")
    return f"**{text}**" if chosen else text


def _on_plateau(arm: Record) -> bool:
    """Whether the training of an arm ended on a plateau; also of arms that are not trained."""
    return arm.training_end in (None, "converged")


def _named_score(run: RunResults, arm: Record | None) -> str:
    return MISSING if arm is None else f"{_score(run, arm)} ({arm.predictor})"


def _named_estimate(run: RunResults, arm: Record | None) -> str:
    return MISSING if arm is None else f"{arm.predictor} {_estimate(run, arm.metrics.get(run.primary))}"


def _estimate(run: RunResults, estimate: Estimate | None) -> str:
    if estimate is None:
        return MISSING
    value = format_score(run.primary, estimate.value)
    if estimate.low is None:
        return value
    return f"{value} [{format_score(run.primary, estimate.low)}, {format_score(run.primary, estimate.high)}]"


COMPARISON_TABLES: dict[str, Callable[..., str]] = {
    "headline": headline,
    "errors": errors,
    "gains": gains,
    "controls": controls,
    "predictors": predictors,
    "seeds": seeds,
    "verdicts": verdicts,
    "natives": natives,
}
"""By name in a page: a table of one report or, where the function takes several, of several."""
