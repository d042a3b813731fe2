"""Builds the page of a leaderboard from gathered runs."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from st2llm.evaluate.leaderboard import cost
from st2llm.evaluate.leaderboard.arm_class import CLASSES, CONTROL
from st2llm.evaluate.leaderboard.arms import KINDS, RankedArm, by_task, rank_arms
from st2llm.evaluate.leaderboard.content import (
    ArmRow,
    Cell,
    Filter,
    ForestGroup,
    ForestRow,
    GainLine,
    Heading,
    Interval,
    Leaderboard,
    MatrixRow,
    RunRow,
)
from st2llm.evaluate.leaderboard.gather import Gathered, newer_runs
from st2llm.evaluate.report.formats import (
    MISSING,
    format_count,
    format_duration,
    format_gain,
    format_gain_interval,
    format_large,
    format_score,
    format_score_interval,
    metric_name,
    metric_unit,
    pluralize,
)
from st2llm.evaluate.report.verdict import compute_verdict
from st2llm.evaluate.run_folder.record import Gain, Record
from st2llm.evaluate.run_folder.results import RunResults
from st2llm.evaluate.scoring.gains.outcome import gain_outcome, shortage

ROLES = {
    "baseline": "baseline",
    "primitive": "native model",
    "random": "LLM, random weights",
    "soft": "LLM, soft tokens",
    "text": "LLM, text",
}
"""Texts of the roles of records."""
VERDICTS = {
    "helped": "helped",
    "hurt": "hurt",
    "equivalent": "equivalent",
    "unclear": "cannot tell",
    "no-verdict": "no verdict",
    "none": "no LLM",
}
NO_LLM = "none"
AXIS = 0.5
"""The forest plot ends at gains of plus and minus this."""

Link = Callable[[RunResults], str]
"""The address of the report of a run, relative to the page."""


@dataclass(frozen=True)
class _Table:
    """All arms, with the runs and records that they come from."""

    arms: tuple[RankedArm, ...]
    runs: Sequence[RunResults]
    link: Link
    newer: Mapping[Path, Path]

    @property
    def current(self) -> list[RankedArm]:
        """The arms of runs that no later one replaces."""
        return [arm for arm in self.arms if self.runs[arm.run].folder not in self.newer]

    @property
    def classes(self) -> list[str]:
        """The classes that an arm has."""
        return [name for name in CLASSES if any(arm.arm_class == name for arm in self.arms)]

    def tasks(self, arms: Sequence[RankedArm]) -> Iterator[tuple[RunResults, str, list[RankedArm]]]:
        """Each task of each run with its arms."""
        return ((self.runs[run], task, group) for run, task, group in by_task(arms))

    def record(self, arm: RankedArm) -> Record:
        return self.runs[arm.run].records[arm.record]


def build_leaderboard(gathered: Gathered, link: Link) -> Leaderboard:
    """The page of these runs. link: the address of the report of a run, relative to the page."""
    table = _Table(rank_arms(gathered.runs), gathered.runs, link, newer_runs(gathered.runs))
    best = [arm for arm in table.arms if arm.place == 1]
    outcomes = {
        (run.folder, task): compute_verdict(run, task).outcome for run, task, _ in table.tasks(table.arms)
    }
    current = [outcome for (folder, _), outcome in outcomes.items() if folder not in table.newer]
    return Leaderboard(
        summary=_summary(table, [outcome for outcome in current if outcome != "none"]),
        filters=_filters(table.arms),
        facets=tuple(map(_facets, table.arms)),
        forest=tuple(
            ForestGroup(_heading(table, run, task), VERDICTS[outcomes[run.folder, task]], rows)
            for run, task, arms in table.tasks(best)
            if (rows := _forest_rows(table, arms))
        ),
        classes={name: CLASSES[name] for name in table.classes},
        matrix=tuple(
            MatrixRow(_heading(table, run, task), _cells(table, run, arms))
            for run, task, arms in table.tasks(best)
        ),
        charts=cost.charts(table.arms),
        frontier=tuple(
            row
            for run, task, arms in table.tasks(table.arms)
            if (row := cost.frontier_row(_heading(table, run, task), arms))
        ),
        arms=tuple(_arm_row(table, arm) for arm in table.arms),
        runs=tuple(_run_row(run, table) for run in gathered.runs),
        left_out=tuple((item.folder.name, item.reason) for item in gathered.left_out),
    )


def _summary(table: _Table, outcomes: Sequence[str]) -> tuple[str, ...]:
    """The answer first: the verdicts on language models, then which class is best how often."""
    arms = table.current
    counts = Counter(VERDICTS[outcome] for outcome in outcomes)
    tasks = pluralize(len(outcomes), "comparison")
    verdicts = ", ".join(f"{name} in {counts[name]}" for name in VERDICTS.values() if counts[name])
    first = (
        f"A language model took part in {tasks}: {verdicts}." if outcomes else "No language model took part."
    )
    held = (
        f"{pluralize(len(arms), 'arm')} on {pluralize(len({arm.data for arm in arms}), 'data set')} in "
        f"{pluralize(len({arm.run for arm in arms}), 'run')}."
    )
    if table.newer:
        held += (
            f" Not counted: {pluralize(len(table.newer), 'run')} that a later one of the same suite replaces."
        )
    return tuple(filter(None, (first, _winners(table), held)))


def _winners(table: _Table) -> str:
    """How often which class holds the arm that is best on test; '' where no task has a rule."""
    wins: Counter[str] = Counter()
    for _, _, arms in table.tasks(table.current):
        if scored := [arm for arm in arms if arm.ratio is not None and arm.arm_class != CONTROL]:
            wins[min(scored, key=lambda arm: arm.ratio or 0.0).arm_class] += 1
    listed = ", ".join(f"{name} {count}" for name, count in wins.most_common())
    return f"The arm that is best on test, by class: {listed}." if wins else ""


def _filters(arms: Sequence[RankedArm]) -> tuple[Filter, ...]:
    kinds = [kind for kind in KINDS if any(arm.kind == kind for arm in arms)]
    roles = [(role, text) for role, text in ROLES.items() if any(arm.role == role for arm in arms)]
    return (
        Filter("kind", "Kind of data", tuple((kind, kind) for kind in kinds)),
        Filter("data", "Data set", _options(arm.data for arm in arms)),
        Filter("task", "Task", _options(arm.task_type for arm in arms)),
        Filter("family", "Family", tuple(roles)),
        Filter("llm", "Language model", ((NO_LLM, "none"), *_options(arm.llm for arm in arms if arm.llm))),
        Filter("seeds", "Training runs", (("3", "3 or more"), ("5", "5 or more"))),
    )


def _options(values: Iterable[str]) -> tuple[tuple[str, str], ...]:
    return tuple((value, value) for value in sorted(set(values)))


def _facets(arm: RankedArm) -> tuple[str, ...]:
    """The value of an arm for each filter, in their order; '' where it has none and passes: training runs of a rule."""
    seeds = "" if arm.role in ("baseline", "text") else str(arm.seeds)
    return (arm.kind, arm.data, arm.task_type, arm.role, arm.llm or NO_LLM, seeds)


def _heading(table: _Table, run: RunResults, task: str) -> Heading:
    unit = metric_unit(run.primary, run.unit_of(run.primary))
    error = metric_name(run.primary) + (f" in {unit}" if unit else "")
    note = f"{run.kind} · {error} · {_run_name(run)}"
    return Heading(f"{_data_name(run)}, {task}", note, table.link(run), _newer(run, table))


def _newer(run: RunResults, table: _Table) -> str:
    """The folder of a later run of the same suite."""
    return table.newer[run.folder].name if run.folder in table.newer else ""


def _data_name(run: RunResults) -> str:
    return run.records[0].data


def _run_name(run: RunResults) -> str:
    """The folder of a run, after that of its list where it has one."""
    parent = run.folder.parent.name
    return run.folder.name if not parent[:1].isdigit() else f"{parent}/{run.folder.name}"


def _forest_rows(table: _Table, arms: Sequence[RankedArm]) -> tuple[ForestRow, ...]:
    rows = []
    for arm in arms:
        record = table.record(arm)
        gains = [
            (gain, label)
            for gain, label in ((record.gain_best, "over"), (record.gain_pretraining, "pretraining, over"))
            if gain is not None
        ]
        if gains:
            lines = tuple(_gain_line(gain, label, relative=not arm.higher) for gain, label in gains)
            rows.append(ForestRow(arm.row, arm.predictor, arm.role, _choice_note(arm), lines))
    return tuple(rows)


def _gain_line(gain: Gain, label: str, *, relative: bool) -> GainLine:
    span = format_gain_interval(gain.low, gain.high) or "no interval"
    note = shortage(gain).partition(":")[0]
    text = f"{format_gain(gain.value, relative=relative)} {span}" + (f", {note}" if note else "")
    return GainLine(f"{label} {gain.vs}", text, gain_outcome(gain), _interval(gain))


def _interval(gain: Gain) -> Interval:
    low, high = (None if end is None else _at(end) for end in (gain.low, gain.high))
    return Interval(_at(gain.value), low, high, beyond=(gain.value > AXIS) - (gain.value < -AXIS))


def _at(gain: float) -> float:
    """The place of a gain on the axis in percent of its width."""
    return round(50 + 50 * min(max(gain / AXIS, -1.0), 1.0), 1)


def _choice_note(arm: RankedArm) -> str:
    """Whether the arm is a control, and how it was chosen among several of its class."""
    chosen = (
        f"best of {arm.n_class} on {'validation' if arm.n_validated else 'test'}" if arm.n_class > 1 else ""
    )
    return ", ".join(filter(None, ("shuffled documents" if arm.arm_class == CONTROL else "", chosen)))


def _cells(table: _Table, run: RunResults, arms: Sequence[RankedArm]) -> tuple[Cell | None, ...]:
    by_class = {arm.arm_class: arm for arm in arms}
    return tuple(_cell(run, by_class[name]) if name in by_class else None for name in table.classes)


def _cell(run: RunResults, arm: RankedArm) -> Cell:
    value = format_score(run.primary, arm.value)
    if arm.over_rule is None:
        return Cell(arm.row, value, "", "", arm.predictor)
    if arm.predictor == arm.rule:
        return Cell(arm.row, value, "best rule", "", arm.predictor)
    side = "better" if arm.over_rule > 0 else "worse" if arm.over_rule < 0 else ""
    return Cell(arm.row, value, _format_far_gain(arm.over_rule, arm.higher), side, arm.predictor)


def _format_far_gain(gain: float, higher: bool) -> str:
    """A gain; how many times larger the error is where that is more than ten times."""
    if not higher and gain < -9:
        return f"{1 - gain:,.0f} times the error"
    return format_gain(gain, relative=not higher)


def _arm_row(table: _Table, arm: RankedArm) -> ArmRow:
    run, record = table.runs[arm.run], table.record(arm)
    name = metric_name(run.primary)
    return ArmRow(
        arm=arm.row,
        data=arm.data,
        task=arm.task,
        name=arm.predictor,
        role=arm.role,
        kind_of_arm=" · ".join(filter(None, (ROLES[arm.role], arm.llm))),
        error=f"{name} {format_score(run.primary, arm.value)}",
        span=format_score_interval(
            run.primary, record.metrics[run.primary].low, record.metrics[run.primary].high
        ),
        over_rule=MISSING if arm.over_rule is None else _format_far_gain(arm.over_rule, arm.higher),
        n=format_count(record.n),
        seeds=MISSING if arm.role in ("baseline", "text") else str(arm.seeds),
        seconds=format_duration(arm.seconds),
        parameters=format_large(arm.parameters),
        link=table.link(run),
    )


def _run_row(run: RunResults, table: _Table) -> RunRow:
    commits = ", ".join(dict.fromkeys(commit[:7] for commit in run.commits))
    return RunRow(
        name=_run_name(run),
        title=str(run.run["suite"].get("title") or run.run["suite"].get("id") or run.folder.name),
        link=table.link(run),
        data=_data_name(run),
        seeds=", ".join(map(str, run.run.get("seeds") or [])),
        commit=(commits or "unknown") + (", with uncommitted changes" if run.was_dirty else ""),
        started=str(run.run.get("started") or "")[:10],
        newer=_newer(run, table),
    )
