"""Tables of committed comparisons of predictors that read texts."""

from collections.abc import Callable, Sequence

from st2llm.evaluate.publication.committed import CommittedReport
from st2llm.evaluate.publication.tables import (
    best_on_validation,
    error_name,
    gain_over,
    markdown_table,
    task_label,
)
from st2llm.evaluate.report.formats import MISSING
from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.run_folder.results import RunResults
from st2llm.evaluate.scoring.gains.multiplicity import holm

_LEVEL = 0.05


def texts(report: CommittedReport) -> str:
    """A row for each task: the gain of text, of pretraining and of the language model over cheaper readers.

    Each is that of the reader which is best on validation: among TF-IDF and sentence embeddings for the gain of text,
    among readers with a pretrained language model for the other two. `*` marks gains that differ from zero at 5 % after
    Holm's correction over the tasks.
    """
    rows = [_gains_of(run, task) for run, task in report.tasks]
    columns = [_marked(column, report) for column in zip(*(gains for _, gains in rows), strict=True)]
    cells = zip(report.tasks, (readers for readers, _ in rows), *columns, strict=True)
    return markdown_table(
        (
            "task, error",
            "cheap reader",
            "gain of text",
            "LLM reader",
            "gain of pretraining",
            "gain over cheap readers",
        ),
        (
            [
                f"{task_label(run, task)}, {error_name(run)}",
                readers[0],
                text,
                readers[1],
                pretraining,
                embeddings,
            ]
            for (run, task), readers, text, pretraining, embeddings in cells
        ),
    )


def _gains_of(
    run: RunResults, task: str
) -> tuple[tuple[str, str], tuple[Gain | None, Gain | None, Gain | None]]:
    """The names of the two readers, and the three gains."""
    arms = [
        arm
        for arm in run.pooled(task)
        if arm.text_features is not None and arm.predictor not in _controls(run)
    ]
    cheap = best_on_validation(run, [arm for arm in arms if arm.text_features in ("tfidf", "minilm")])
    llm = best_on_validation(run, [arm for arm in arms if arm.pretrained])
    names = tuple(arm.predictor if arm else MISSING for arm in (cheap, llm))
    gains = (
        cheap.gain_text if cheap else None,
        llm.gain_pretraining if llm else None,
        llm.gain_embeddings if llm else None,
    )
    return (names[0], names[1]), gains


def _controls(run: RunResults) -> set[str]:
    """The predictors that read the texts of other windows."""
    return {
        predictor["name"]
        for predictor in run.run["config"]["predictors"]
        if (predictor.get("set") or {}).get("documents") == "shuffled"
    }


def _marked(gains: Sequence[Gain | None], report: CommittedReport) -> list[str]:
    p_values = holm([gain.p if gain else None for gain in gains])
    return [
        gain_over(gain, run) + ("*" if p is not None and p < _LEVEL else "")
        for (run, _), gain, p in zip(report.tasks, gains, p_values, strict=True)
    ]


TEXT_TABLES: dict[str, Callable[..., str]] = {"texts": texts}
"""By name in a page."""
