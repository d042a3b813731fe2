"""The page on how wrong recommendations are: for each kind and task, on data sets that are left out."""

from collections.abc import Sequence

import numpy as np

from st2llm.evaluate.recommend.advice import LeftOutError, left_out_error
from st2llm.evaluate.recommend.knowledge import Evidence
from st2llm.evaluate.recommend.model import data_sets
from st2llm.evaluate.report.formats import MISSING, format_share, pluralize

_HEADER = (
    "kind", "task", "data sets", "expected gain wrong by", "plain mean wrong by", "recommended arm worse by",
    "native model worse by", "intervals that hold",
)  # fmt: skip


_NOTE = """Each data set is predicted from the records of all other sources (parts and scalings of one data set are one
source). Errors are mean absolute differences of gains over the best rule, in points, without arms that are prompted
with text; *worse by* is the gain of the best arm less that of the recommended one, or of a native model throughout.
Kinds with one data set have none to be predicted from."""


def errors_page(evidence: Sequence[Evidence]) -> str:
    """The page in Markdown: the answer in one sentence, then a row for each kind and task. Gains are in points."""
    known = data_sets(evidence)
    groups = list(dict.fromkeys((one.kind, one.task_type) for one in known))
    found = {group: left_out_error(known, *group) for group in groups}
    rows = [
        f"| {kind} | {task} | {sum((one.kind, one.task_type) == (kind, task) for one in known)} | "
        f"{' | '.join(_cells(found[kind, task]))} |"
        for kind, task in groups
    ]
    head = [f"| {' | '.join(_HEADER)} |", "|---|---|" + "---:|" * (len(_HEADER) - 2)]
    runs = len({row.run for row in evidence})
    return "\n".join(
        [
            "# How wrong recommendations are",
            "",
            "<!-- Written by `st2llm recommend --build` and `make figures`. -->",
            "",
            _sentence([error for error in found.values() if error]),
            "",
            _NOTE,
            "",
            *head,
            *rows,
            "",
            f"From {pluralize(len(evidence), 'row')} of {pluralize(runs, 'run')} in `evaluation/knowledge.parquet`.",
            "",
        ]
    )


def _sentence(errors: Sequence[LeftOutError]) -> str:
    if not errors:
        return "No kind and task has two data sets, so the error of recommendations is not known."
    n = [error.n for error in errors]
    predictions = [error.predictions for error in errors]
    wrong, mean = (
        np.average([100 * value for value in values], weights=predictions)
        for values in ([e.error for e in errors], [e.error_of_mean for e in errors])
    )
    regret = np.average([100 * error.regret for error in errors], weights=n)
    always = [error.native_regret for error in errors]
    known = [100 * value for value in always if value is not None]
    native = (
        f" (a native model throughout: {np.average(known, weights=n):.0f})" if len(known) == len(n) else ""
    )
    held = pluralize(sum(n), "data set")
    return (
        f"On {held} that are left out one by one, the expected gain is wrong by {wrong:.0f} points on average (the "
        f"plain mean of the kind: {mean:.0f}), and the recommended arm is {regret:.0f} points worse than the best "
        f"one{native}."
    )


def _cells(error: LeftOutError | None) -> tuple[str, ...]:
    if error is None:
        return (MISSING,) * 5
    points = (error.error, error.error_of_mean, error.regret, error.native_regret)
    shown = (MISSING if value is None else f"{100 * value:.0f}" for value in points)
    return (*shown, f"{format_share(error.covered)} of {error.predictions}")
