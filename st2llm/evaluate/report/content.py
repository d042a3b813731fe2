"""The content of a report page: what the templates show, section by section."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from st2llm.evaluate.report.panels import ExamplePanel, Panel
from st2llm.evaluate.report.verdict import Verdict
from st2llm.evaluate.run_folder.record import Record


@dataclass(frozen=True)
class GainCell:
    """A gain in the table. span: its interval. vs: the reference. outcome: see `gain_outcome`.

    note: the p value after Holm's correction over all LLM arms, or what is missing for a verdict.
    """

    text: str
    span: str
    vs: str
    outcome: str
    note: str


@dataclass(frozen=True)
class TableRow:
    """A row of the table: a record, and how the table shows it.

    marks: whether it is the best LLM arm or the reference.
    """

    record: Record
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
    text_note: str
    """Of a text arm: whether it is the best of several on validation, and the share of the visible values that its
    prompts state; else ''."""
    llm: str
    """Which language model, where it is not the one the suite names; else ''."""


@dataclass(frozen=True)
class TaskSection:
    """The sections of the page about one task. Figures are SVG elements, '' where there is nothing to draw."""

    task: str
    verdict: Verdict
    metrics: tuple[tuple[str, str], ...]
    """Name and unit of each metric column."""
    rows: tuple[TableRow, ...]
    pooling: str
    seeds: tuple[tuple[str, ...], ...]
    seed_names: tuple[str, ...]
    rules: tuple[tuple[str, ...], ...]
    answer_counts: tuple[tuple[str, ...], ...]
    """For each text arm: its name, the number of its answers, and of those in each of CATEGORIES."""
    decoding: str
    """How text arms drew their answers, where there are any."""
    gains: str
    cost: str
    horizon: str
    curves: tuple[Panel, ...]
    examples: tuple[ExamplePanel, ...]
    map: str
    places: tuple[tuple[str, ...], ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ControlSection:
    """The section about one planted control."""

    name: str
    expected: str
    description: str
    train_note: str
    test_note: str
    outcome: str
    """passed, failed, vacuous or unresolved."""
    facts: tuple[str, ...]
    """Sentences about what was planted, how far the arms are apart, and the seeds."""
    gains: tuple[tuple[str, GainCell], ...]
    arms: tuple[tuple[str, str, str, str], ...]
    svg: str


@dataclass(frozen=True)
class Page:
    """Everything that the templates show.

    primary: name of the primary metric. stand_in: what is imputed for unreadable answers. error: name of the error of a
    place. lower: whether lower is better. by: what examples are ordered by. several: whether there are several tasks.
    """

    title: str
    demo: bool
    tasks: tuple[TaskSection, ...]
    controls: tuple[ControlSection, ...]
    doses: tuple[tuple[str, ...], ...]
    """By control from the weakest up: planted gain, gain over the best other, gain over the random LLM, outcome."""
    detectable: str
    protocol: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    cost_names: Mapping[str, str]
    answer_categories: tuple[tuple[str, str], ...]
    primary: str
    stand_in: str
    error: str
    lower: bool
    by: str
    several: bool = False
